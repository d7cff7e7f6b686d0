"""Tests of finding and discounting the wording that a dataset's prompts share."""

from __future__ import annotations

import random

from llamaduo_gui.data.boilerplate import Boilerplate, learn_boilerplate
from llamaduo_gui.data.text import tokenise

HEADER = "Classify the customer message below into exactly one intent, label only. Message:"
NOUNS = ["card", "account", "transfer", "statement", "phone", "cheque", "refund", "rate", "limit"]
VERBS = ["lost", "changed", "blocked", "doubled", "expired", "vanished", "arrived", "failed"]
MESSAGES = [f"my {noun} {verb} today" for noun in NOUNS for verb in VERBS]


def own(boilerplate: Boilerplate, text: str) -> str:
    return " ".join(boilerplate.strip(tokenise(text)))


def test_a_shared_header_is_left_out_and_the_message_is_kept() -> None:
    found = learn_boilerplate([f"{HEADER} {message}" for message in MESSAGES])
    assert own(found, f"{HEADER} the machine ate it") == "the machine ate it"


def test_a_shared_footer_is_left_out() -> None:
    footer = "Answer with one number and nothing else, rounded to two places."
    found = learn_boilerplate([f"{message}? {footer}" for message in MESSAGES])
    assert own(found, f"how far is it? {footer}") == "how far is it"


def test_a_common_beginning_after_the_header_is_kept() -> None:
    texts = [f"{HEADER} how do i {message}" for message in MESSAGES[:30]]
    texts += [f"{HEADER} {message}" for message in MESSAGES[30:]]
    found = learn_boilerplate(texts)
    assert own(found, f"{HEADER} how do i pay") == "how do i pay"


def test_a_second_header_of_some_prompts_is_found_behind_the_first() -> None:
    variant = "Give the answer in French, and be very brief."
    texts = [f"{HEADER} {variant} {message}" for message in MESSAGES[:20]]
    texts += [f"{HEADER} {message}" for message in MESSAGES[20:]]
    found = learn_boilerplate(texts)
    assert own(found, f"{HEADER} {variant} where is it") == "where is it"


def test_the_header_of_a_small_category_is_found() -> None:
    texts = [f"{HEADER} {message}" for message in MESSAGES[:10]]
    texts += [" ".join(random.Random(i).choices("abcdefghij", k=20)) for i in range(400)]
    categories = ["intent"] * 10 + ["letters"] * 400
    assert own(learn_boilerplate(texts, categories), f"{HEADER} hello there") == "hello there"
    assert own(learn_boilerplate(texts), f"{HEADER} hello there") != "hello there"


def test_what_few_prompts_share_is_not_boilerplate() -> None:
    passage = "the quick brown fox jumps over the lazy dog in the garden"
    texts = [f"{passage} {message}" for message in MESSAGES[:5]] + MESSAGES[5:]
    assert own(learn_boilerplate(texts), passage) == passage


def test_repeats_of_one_prompt_are_not_boilerplate() -> None:
    texts = ["where is the card that i ordered last week"] * 50 + MESSAGES
    found = learn_boilerplate(texts)
    assert own(found, texts[0]) == texts[0]


def test_a_text_of_nothing_but_boilerplate_keeps_all_its_tokens() -> None:
    found = learn_boilerplate([f"{HEADER} {message}" for message in MESSAGES])
    assert found.strip(tokenise(HEADER)) == tokenise(HEADER)


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts = [f"{HEADER} {message}" for message in MESSAGES]
    shuffled = random.Random(1).sample(texts, len(texts))
    assert learn_boilerplate(texts).runs.tolist() == learn_boilerplate(shuffled).runs.tolist()


def test_no_texts_have_no_boilerplate() -> None:
    assert learn_boilerplate([]).strip(["a"]) == ["a"]
    assert learn_boilerplate(["short"]).strip(["short"]) == ["short"]
