"""Tests of exact and near-duplicate detection."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.data.boilerplate import Boilerplate, learn_boilerplate
from llamaduo_gui.data.dedup import Duplicate, ExactIndex, NearDuplicateIndex, find_duplicates
from llamaduo_gui.data.minhash import choose_bands
from llamaduo_gui.data.shingles import shingle_set, shingle_sets
from llamaduo_gui.data.similarity import jaccard

WORDS = [f"word{number}" for number in range(4000)]


def make_text(rng: random.Random, length: int = 80) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def edit(rng: random.Random, text: str, changes: int) -> str:
    tokens = text.split()
    for _ in range(changes):
        tokens[rng.randrange(len(tokens))] = rng.choice(WORDS)
    return " ".join(tokens)


def similarity(left: str, right: str) -> float:
    none = Boilerplate.none()
    return jaccard(shingle_set(left, none), shingle_set(right, none))


def test_near_duplicates_of_a_sample_are_found_as_by_brute_force() -> None:
    rng = random.Random(7)
    originals = [make_text(rng) for _ in range(600)]
    copies = [edit(rng, rng.choice(originals), rng.randint(0, 6)) for _ in range(600)]
    index = NearDuplicateIndex(0.8)
    index.add_many((str(place), text) for place, text in enumerate(originals))
    sets = [shingle_set(text, Boilerplate.none()) for text in originals]
    wanted = found = 0
    for copy in copies:
        own = shingle_set(copy, Boilerplate.none())
        best = max(jaccard(other, own) for other in sets)
        match = index.query(copy)
        if best >= 0.8:
            wanted += 1
            found += match is not None
            assert match is None or match.similarity == pytest.approx(best)
        else:
            assert match is None
    assert wanted > 200
    assert found / wanted >= 0.97


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_are_chosen_to_find_pairs_at_the_threshold(threshold: float) -> None:
    bands = choose_bands(threshold)
    assert bands.number * bands.rows <= 128
    assert bands.recall(threshold) >= 0.995


def test_a_very_low_threshold_still_gets_bands() -> None:
    assert choose_bands(0.01).rows == 1


def test_adding_one_by_one_in_bulk_and_across_the_seal_gives_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llamaduo_gui.data.dedup._SEAL_AT", 50)
    rng = random.Random(3)
    texts = [make_text(rng, 30) for _ in range(230)]
    single, bulk, mixed = (NearDuplicateIndex(0.6) for _ in range(3))
    items = [(str(place), text) for place, text in enumerate(texts)]
    for item in items:
        single.add(*item)
    bulk.add_many(items)
    for item in items[:20]:
        mixed.add(*item)
    mixed.add_many(items[20:100])
    for item in items[100:]:
        mixed.add(*item)
    queries = [edit(rng, text, 2) for text in texts]
    answers = [[index.query(query) for query in queries] for index in (single, bulk, mixed)]
    assert answers[0] == answers[1] == answers[2]
    assert sum(match is not None for match in answers[0]) > 150
    assert len(single) == len(bulk) == len(mixed) == 230


def test_the_most_similar_text_is_named() -> None:
    index = NearDuplicateIndex(0.5)
    base = " ".join(WORDS[:40])
    index.add("far", f"{base} {' '.join(WORDS[100:115])}")
    index.add("near", f"{base} one more")
    match = index.query(base)
    assert match is not None
    assert match.name == "near"
    assert match.similarity == pytest.approx(38 / 40)


def test_query_or_add_keeps_only_texts_that_are_new() -> None:
    index = NearDuplicateIndex(0.8)
    assert index.query_or_add("a", "the same words in the same order") is None
    match = index.query_or_add("b", "The same words -- in the same order!")
    assert match is not None
    assert match.name == "a"
    assert len(index) == 1


@pytest.mark.parametrize(
    ("left", "right", "is_near"),
    [
        ("card lost", "Card lost!", True),
        ("card lost", "lost card", False),
        ("card lost", "card stolen", False),
        ("help", "help me", False),
        ("how do i top up my card", "how do i top up my phone", False),
        ("what is 2 + 3", "what is 2 * 3", False),
        ("?", "!", False),
    ],
)
def test_short_texts_match_only_with_the_same_tokens(left: str, right: str, is_near: bool) -> None:
    index = NearDuplicateIndex(0.8)
    index.add("left", left)
    assert (index.query(right) is not None) is is_near


def test_a_shared_header_does_not_make_different_messages_near_duplicates() -> None:
    header = "Classify the message below into exactly one banking intent, label only. Message:"
    rng = random.Random(2)
    texts = [f"{header} {make_text(rng, 5)}" for _ in range(60)]
    plain, discounted = NearDuplicateIndex(0.6), NearDuplicateIndex(0.6, learn_boilerplate(texts))
    for index in (plain, discounted):
        index.add("first", f"{header} my card was lost")
    assert plain.query(f"{header} my rent was paid") is not None
    assert discounted.query(f"{header} my rent was paid") is None
    assert discounted.query(f"{header} My card was lost.") is not None


@settings(max_examples=300)
@given(st.lists(st.text(max_size=40), max_size=12))
def test_any_text_finds_itself(texts: list[str]) -> None:
    index = NearDuplicateIndex(0.8)
    index.add_many((str(place), text) for place, text in enumerate(texts))
    for text in texts:
        match = index.query(text)
        assert match is not None
        assert match.similarity == 1.0


def test_an_empty_index_finds_nothing() -> None:
    index = NearDuplicateIndex(0.8)
    index.add_many([])
    assert index.query("anything") is None


def test_exact_duplicates_differ_in_case_and_spacing_only() -> None:
    index = ExactIndex()
    index.add("first", "Where is my card?")
    index.add("second", "where  is my CARD?")
    assert index.query("where is my card?\n") == "first"
    assert index.query("where is my card") is None
    assert len(index) == 1


def one_by_one(texts: list[str], boilerplate: Boilerplate | None = None) -> list[Duplicate]:
    index = NearDuplicateIndex(0.8, boilerplate)
    found = []
    for place, text in enumerate(texts):
        match = index.query_or_add(str(place), text)
        if match is not None:
            found.append(Duplicate(place, int(match.name), match.similarity))
    return found


def test_a_corpus_is_deduplicated_as_if_its_texts_came_one_by_one() -> None:
    rng = random.Random(11)
    texts = [make_text(rng, rng.randint(1, 60)) for _ in range(400)]
    texts += [edit(rng, rng.choice(texts), rng.randint(0, 5)) for _ in range(600)]
    texts += ["", "?!", "\u00dcber \u00dcber alles", "the  THE the", texts[3].upper()]
    found = find_duplicates(texts)
    assert found == one_by_one(texts)
    assert len(found) > 150


def test_a_corpus_under_one_header_is_compared_without_it() -> None:
    header = "Classify the message below into exactly one banking intent, label only. Message:"
    rng = random.Random(5)
    texts = [f"{header} {make_text(rng, 12)}" for _ in range(80)]
    texts += [texts[7] + " now", texts[9]]
    learned = learn_boilerplate(texts)
    assert [item.index for item in find_duplicates(texts, boilerplate=learned)] == [80, 81]
    assert find_duplicates(texts, boilerplate=learned) == one_by_one(texts, learned)


@settings(max_examples=300)
@given(st.lists(st.text(max_size=60), max_size=12), st.sampled_from([0, 4, 9]))
def test_sets_of_many_texts_are_those_of_each(texts: list[str], copies: int) -> None:
    header = "one two three four five six seven. "
    texts = texts + [header + text for text in texts for _ in range(copies)]
    learned = learn_boilerplate([header + str(number) for number in range(20)])
    for boilerplate in (Boilerplate.none(), learned):
        found = [values.tolist() for values in shingle_sets(texts, boilerplate)] if texts else []
        assert found == [shingle_set(text, boilerplate).tolist() for text in texts]


def test_an_empty_corpus_has_no_duplicates() -> None:
    assert find_duplicates([]) == []
