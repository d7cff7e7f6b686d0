"""The demo's ticket grammar: what it writes, it can answer, parse and repeat."""

from __future__ import annotations

import json
import random

import pytest

from llamaduo_gui.core.paths import resource
from llamaduo_gui.providers.grammar import TicketGrammar, Triage, expand


@pytest.fixture(scope="module")
def grammar() -> TicketGrammar:
    return TicketGrammar.load(resource("demo", "grammar.toml"))


def test_choices_and_slots_are_filled_inside_each_other() -> None:
    text = expand("[one {x}|one {x}]", {"x": ["[a|a] {y}"], "y": ["b"]}, random.Random(0))
    assert text == "one a b"


def test_an_unknown_slot_is_an_error() -> None:
    with pytest.raises(KeyError):
        expand("{nothing}", {}, random.Random(0))


def test_every_template_of_every_issue_can_be_written(grammar: TicketGrammar) -> None:
    rng = random.Random(1)
    for issue in grammar.issues:
        for _ in range(200):
            instruction, response = grammar.pair(issue, rng)
            assert not set("[]{}|") & set(instruction)
            triage = grammar.parse(response)
            assert triage is not None
            assert (triage.team, triage.issue) == (issue.team, issue.name)


def test_the_order_number_of_the_answer_stands_in_the_ticket(grammar: TicketGrammar) -> None:
    rng = random.Random(2)
    numbers = set()
    for _ in range(500):
        instruction, response = grammar.pair(rng.choice(grammar.issues), rng)
        triage = grammar.parse(response)
        assert triage is not None
        assert (triage.order or "Triage") in instruction
        numbers.add(triage.order is None)
    assert numbers == {True, False}


def test_a_rendered_triage_parses_back(grammar: TicketGrammar) -> None:
    for order in ("12345", None):
        triage = Triage("billing", "invoice", "low", order)
        assert grammar.parse(grammar.render(triage)) == triage


@pytest.mark.parametrize(
    "text",
    ["", "billing, invoice", "billing, invoice, soon, none", "account, invoice, low, none"],
)
def test_text_that_is_no_triage_does_not_parse(grammar: TicketGrammar, text: str) -> None:
    assert grammar.parse(text) is None


def test_a_ticket_is_triaged_by_its_cues(grammar: TicketGrammar) -> None:
    ticket = "Triage: team, issue, urgency, order.\n\nSend the invoice for order 48213 today!"
    assert grammar.answer(ticket) == "billing, invoice, high, 48213"


def test_other_tasks_are_not_answered(grammar: TicketGrammar) -> None:
    assert not grammar.knows("Summarise this article.")
    assert grammar.answer("Summarise this article: the invoice is late.") is None
    assert grammar.similar_pairs("Summarise this.", "billing, invoice, low, none", 3, _rng()) == []
    assert grammar.similar_pairs("Triage: team, issue, urgency, order.", "ok", 3, _rng()) == []


def test_similar_pairs_depend_on_the_random_source_alone(grammar: TicketGrammar) -> None:
    seed = _coverage()[0]
    pairs = grammar.similar_pairs(*seed, 8, random.Random(3))
    assert pairs == grammar.similar_pairs(*seed, 8, random.Random(3))
    assert pairs != grammar.similar_pairs(*seed, 8, random.Random(4))
    assert len(pairs) == 8


def test_similar_pairs_keep_mostly_to_the_team_of_the_seed(grammar: TicketGrammar) -> None:
    instruction, response = next(pair for pair in _coverage() if pair[1].startswith("billing, inv"))
    pairs = grammar.similar_pairs(instruction, response, 400, random.Random(5))
    issues = [answer.split(", ")[:2] for _, answer in pairs]
    assert 0.4 < sum(issue == ["billing", "invoice"] for issue in issues) / 400 < 0.7
    assert sum(team == "billing" for team, _ in issues) / 400 > 0.65
    assert len({team for team, _ in issues}) == len(grammar.teams)


def test_the_grammar_writes_twenty_thousand_distinct_tickets(grammar: TicketGrammar) -> None:
    rng = random.Random(6)
    tickets = {grammar.pair(rng.choice(grammar.issues), rng)[0] for _ in range(20_500)}
    assert len(tickets) >= 20_000


def test_rules_agree_with_the_grammars_own_labels_but_not_always(grammar: TicketGrammar) -> None:
    rng = random.Random(7)
    pairs = [grammar.pair(rng.choice(grammar.issues), rng) for _ in range(3000)]
    right = sum(grammar.answer(instruction) == response for instruction, response in pairs)
    assert 0.80 < right / 3000 < 0.995


def _rng() -> random.Random:
    return random.Random(0)


def _coverage() -> list[tuple[str, str]]:
    lines = resource("demo", "coverage.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["prompt"], row["messages"][-1]["content"]) for row in rows]
