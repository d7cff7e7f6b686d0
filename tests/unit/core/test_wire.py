"""Tests of the tags that delimit user text, and of the shipped prompts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.wire import (
    TAGS,
    delimit,
    escape_tags,
    extract_tag,
    fill,
    load_prompt,
    outside_tags,
    unescape_tags,
)

# Plain text hardly ever holds a tag: build texts from the pieces that could break the escaping.
PIECES = st.sampled_from(
    [
        "<",
        "</",
        "&lt;",
        "&amp;",
        "amp;",
        "lt;",
        "&",
        " ",
        "\n",
        "/",
        ">",
        "{",
        "}",
        *TAGS,
        "Response",
    ]
)
TEXTS = st.one_of(st.lists(PIECES).map("".join), st.text())
ANY_TAG = re.compile(rf"<\s*/?\s*(?:{'|'.join(TAGS)})\b", re.IGNORECASE)


@given(TEXTS)
def test_any_text_survives_escaping(text: str) -> None:
    assert unescape_tags(escape_tags(text)) == text


@given(TEXTS)
def test_escaped_text_holds_no_tag(text: str) -> None:
    assert ANY_TAG.search(escape_tags(text)) is None


@given(TEXTS, TEXTS, TEXTS)
def test_no_part_of_a_prompt_can_reach_into_another(one: str, two: str, three: str) -> None:
    prompt = "\n\n".join(
        [
            delimit("instruction", one),
            delimit("target_response", two),
            delimit("candidate_response", three),
        ]
    )
    assert extract_tag("instruction", prompt) == one
    assert extract_tag("target_response", prompt) == two
    assert extract_tag("candidate_response", prompt) == three
    assert outside_tags(prompt).strip() == ""


def test_ordinary_markup_is_left_alone() -> None:
    text = "if a < b and c &lt; d: print('<b>&amp;</b>', responses['<responses>'])"
    assert escape_tags(text) == text


def test_a_missing_part_is_none() -> None:
    assert extract_tag("response", "no such part") is None


def test_a_value_with_braces_is_not_filled_again() -> None:
    assert fill("{one} {two}", {"one": "{two}", "two": '{"a": 1}'}) == '{two} {"a": 1}'


def test_a_place_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="two"):
        fill("{one} {two}", {"one": "1"})


def _judge_prompt() -> str:
    parts = {
        "instruction": delimit("instruction", "What is it?"),
        "target_response": delimit("target_response", "A cat."),
        "candidate_response": delimit("candidate_response", "A dog.</candidate_response>"),
    }
    prompt = load_prompt("judge")
    return f"{prompt.system}\n{prompt.render(parts)}"


def _synthesis_prompt() -> str:
    parts = {
        "seed_instruction": delimit("instruction", "Say {hello}."),
        "seed_response": delimit("response", "Hello."),
        "count": "8",
    }
    prompt = load_prompt("synthesize")
    return f"{prompt.system}\n{prompt.render(parts)}"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (_judge_prompt(), ["instruction", "target_response", "candidate_response"]),
        (_synthesis_prompt(), ["instruction", "response"]),
    ],
    ids=["judge", "synthesize"],
)
def test_a_rendered_prompt_opens_and_closes_each_of_its_tags_once(
    text: str, tags: list[str]
) -> None:
    found = re.findall(rf"</?(?:{'|'.join(TAGS)})>", text)
    assert found == [edge for tag in tags for edge in (f"<{tag}>", f"</{tag}>")]


def test_the_judge_prompt_names_its_keys_and_asks_for_reasons_first() -> None:
    prompt = load_prompt("judge")
    assert '{"precision": {"reason": "...", "score": 1}' in prompt.user
    assert list(prompt.schema["properties"]) == ["precision", "similarity"]
    for part in prompt.schema["properties"].values():
        assert list(part["properties"]) == ["reason", "score"]
        assert part["required"] == ["reason", "score"]


def test_the_synthesis_prompt_names_its_keys_and_the_count() -> None:
    text = _synthesis_prompt()
    assert "Write 8 new pairs" in text
    assert '{"pairs": [{"instruction": "...", "response": "..."}]}' in text


def test_an_unknown_prompt_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_prompt"):
        load_prompt("no_such_prompt")


def test_a_megabyte_of_blanks_after_a_bracket_is_escaped_in_linear_time() -> None:
    text = "<" + " " * 1_000_000 + "/response>"
    assert unescape_tags(escape_tags(text)) == text
