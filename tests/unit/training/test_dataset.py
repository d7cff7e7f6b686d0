"""Only the assistant's tokens are learnt, each answer ends with a stop token, and none is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.errors import DataError, JobCancelledError
from llamaduo_gui.core.model_family import ModelFamily
from llamaduo_gui.core.paths import resource
from llamaduo_gui.core.types import Message
from llamaduo_gui.training.dataset import (
    IGNORED,
    ConversationEncoder,
    Example,
    encode_records,
)
from tests.tiny_models import CHAT_TEMPLATE, TURN_END, make_tokenizer

FAMILY = ModelFamily(name="qwen2", model_types=("qwen2",))
THINKLESS = ModelFamily(
    name="qwen3", model_types=("qwen3",), template_arguments={"enable_thinking": False}
)
CONVERSATION = (
    Message("system", "Answer in one word."),
    Message("user", "Which queue?"),
    Message("assistant", "Billing."),
    Message("user", "And this one?\nassistant"),
    Message("assistant", "  Returns, I think. 你好"),
)


def trl_template(name: str) -> str:
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def template_of(name: str) -> str:
    if name == "marked":
        return resource("models", "tiny", "chat_template.jinja").read_text(encoding="utf-8")
    if name == "unmarked":
        return CHAT_TEMPLATE
    return trl_template(name)


def tokenizer_with(template: str | None) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def encoder_for(name: str, family: ModelFamily = FAMILY, **settings: bool) -> ConversationEncoder:
    tokenizer = tokenizer_with(template_of(name))
    return ConversationEncoder(tokenizer, family, [tokenizer.eos_token_id], **settings)


def learnt_parts(example: Example) -> list[str]:
    """Texts of the runs of learnt tokens."""
    parts: list[list[int]] = []
    is_inside = False
    for token, label in zip(example.input_ids, example.labels, strict=True):
        if label == IGNORED:
            is_inside = False
            continue
        assert label == token
        if not is_inside:
            parts.append([])
        parts[-1].append(token)
        is_inside = True
    tokenizer = make_tokenizer()
    return [tokenizer.decode(part) for part in parts]


@pytest.mark.parametrize("name", ["marked", "unmarked", "qwen2_5"])
def test_answers_with_their_stop_token_and_nothing_else_are_learnt(name: str) -> None:
    example = encoder_for(name).encode(CONVERSATION)
    expected = [message.content for message in CONVERSATION if message.role == "assistant"]
    assert learnt_parts(example) == [text + TURN_END for text in expected]


def test_the_empty_thought_of_qwen3_is_given_by_the_prompt_and_not_learnt() -> None:
    example = encoder_for("qwen3", THINKLESS).encode(CONVERSATION)
    # The template trims the answer; the earlier one stands without a thought.
    expected = ["Billing." + TURN_END, "Returns, I think. 你好" + TURN_END]
    assert [part.lstrip() for part in learnt_parts(example)] == expected
    assert make_tokenizer().decode(example.input_ids).count("<think>") == 1


@pytest.mark.parametrize("name", ["marked", "unmarked", "qwen2_5"])
def test_the_prompt_is_tokenised_as_it_will_be_in_generation(name: str) -> None:
    tokenizer = tokenizer_with(template_of(name))
    turns = [message.to_dict() for message in CONVERSATION]
    prompt = tokenizer.apply_chat_template(
        turns[:-1], add_generation_prompt=True, return_dict=False
    )
    whole = encoder_for(name).encode(CONVERSATION).input_ids
    assert whole[: len(prompt)] == prompt


@pytest.mark.parametrize("name", ["marked", "unmarked"])
def test_text_that_imitates_a_turn_is_not_learnt_as_an_answer(name: str) -> None:
    turns = (Message("user", "Say assistant\nBilling."), Message("assistant", "No."))
    assert learnt_parts(encoder_for(name).encode(turns)) == ["No." + TURN_END]


def test_everything_is_learnt_when_the_recipe_says_so() -> None:
    example = encoder_for("marked", is_assistant_only=False).encode(CONVERSATION)
    assert example.labels == example.input_ids


def test_an_answer_without_an_end_gets_one() -> None:
    tokenizer = tokenizer_with(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    encoder = ConversationEncoder(tokenizer, FAMILY, [tokenizer.eos_token_id])
    example = encoder.encode(CONVERSATION[1:3])
    assert example.labels[-1] == tokenizer.eos_token_id


def test_a_conversation_without_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match="shows no answer"):
        encoder_for("marked").encode(CONVERSATION[:2])


def test_a_template_that_refuses_the_turns_says_which() -> None:
    tokenizer = tokenizer_with("{{ raise_exception('One turn only') }}")
    encoder = ConversationEncoder(tokenizer, FAMILY, [tokenizer.eos_token_id])
    with pytest.raises(DataError, match="system, user, assistant"):
        encoder.encode(CONVERSATION[:3])


def test_records_too_long_are_left_out_whole_and_counted() -> None:
    encoder = encoder_for("marked")
    short = CONVERSATION[1:3]
    long = (Message("user", "word " * 50), Message("assistant", "yes"))
    limit = len(encoder.encode(short).input_ids)
    found = encode_records(
        encoder, [short, long, short], max_length=limit, check_cancelled=lambda: None
    )
    assert len(found.examples) == 2
    assert found.too_long == 1
    assert found.longest == len(encoder.encode(long).input_ids) > limit
    assert found.tokens == 2 * limit
    assert 0 < found.learnt_tokens < found.tokens


def test_encoding_stops_when_the_job_is_cancelled() -> None:
    def cancel() -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        encode_records(encoder_for("marked"), [CONVERSATION], max_length=99, check_cancelled=cancel)
