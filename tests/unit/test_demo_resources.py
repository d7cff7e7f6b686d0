"""The demo's shipped files: coverage rows, settings, recipe and the tiny base model."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from llamaduo_gui.core.config import load_config
from llamaduo_gui.core.paths import resource
from llamaduo_gui.data.text import text_key
from llamaduo_gui.providers.grammar import TicketGrammar
from llamaduo_gui.providers.reference_metrics import token_f1

TINY = resource("models", "tiny")
QWEN2_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def grammar() -> TicketGrammar:
    return TicketGrammar.load(resource("demo", "grammar.toml"))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    lines = resource("demo", "coverage.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY)


def test_coverage_rows_have_the_form_of_the_coverage_format(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 240
    for row in rows:
        assert sorted(row) == ["category", "messages", "prompt", "prompt_id"]
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert row["messages"][0]["content"] == row["prompt"]
    assert len({row["prompt_id"] for row in rows}) == len({row["prompt"] for row in rows}) == 240


def test_coverage_answers_are_triages_and_issues_are_balanced(
    rows: list[dict[str, Any]], grammar: TicketGrammar
) -> None:
    found = [grammar.parse(row["messages"][1]["content"]) for row in rows]
    triages = [triage for triage in found if triage is not None]
    assert len(triages) == 240
    assert Counter(t.issue for t in triages) == {issue.name: 10 for issue in grammar.issues}
    assert [t.team for t in triages] == [row["category"] for row in rows]
    assert min(Counter(t.urgency for t in triages).values()) >= 60
    for triage, row in zip(triages, rows, strict=True):
        assert grammar.knows(row["prompt"])
        assert triage.order is None or triage.order in row["prompt"]


def test_no_coverage_row_is_what_the_grammar_writes(
    rows: list[dict[str, Any]], grammar: TicketGrammar
) -> None:
    rng = random.Random(11)
    written = {text_key(grammar.pair(rng.choice(grammar.issues), rng)[0]) for _ in range(5000)}
    assert not written & {text_key(row["prompt"]) for row in rows}


def test_the_tutor_is_good_at_the_coverage_set_and_not_perfect(
    rows: list[dict[str, Any]], grammar: TicketGrammar
) -> None:
    scores = [
        token_f1(row["messages"][1]["content"], grammar.answer(row["prompt"]) or "") for row in rows
    ]
    assert 0.93 <= sum(scores) / 240 <= 0.99


def test_a_wrong_triage_scores_low(rows: list[dict[str, Any]]) -> None:
    answers = [row["messages"][1]["content"] for row in rows]
    rng = random.Random(12)
    shuffled = rng.sample(answers, len(answers))
    scores = [token_f1(*pair) for pair in zip(answers, shuffled, strict=True)]
    assert sum(scores) / 240 < 0.25


def test_the_demo_settings_are_valid() -> None:
    config = load_config(resource("demo", "pipeline.yaml"))
    assert config.student.base_model == "builtin:tiny"
    assert config.teacher is not None
    assert {config.teacher.provider, *(judge.provider for judge in config.judges)} == {"offline"}


def test_the_demo_recipe_is_valid() -> None:
    from llamaduo_gui.training.recipes import load_recipe

    assert load_recipe("demo").method == "lora"


def test_the_tiny_model_is_small() -> None:
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 10_000_000


def test_any_bytes_round_trip_through_the_tokeniser(tokenizer: Any) -> None:
    rng = random.Random(13)
    texts = ["", "naïve café 😀\n\n\ttab", "漢字 кириллица العربية", "\r\n \x00\x1f\x7f a  b   c "]
    texts += ["".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(40)) for _ in range(200)]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_all_256_bytes_are_in_the_vocabulary(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(ByteLevel.alphabet()) <= set(tokenizer.get_vocab())


def test_the_pre_tokeniser_is_the_one_llama_cpp_calls_qwen2() -> None:
    data = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    split, to_bytes = data["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"] == {"Regex": QWEN2_REGEX}
    assert (split["behavior"], split["invert"]) == ("Isolated", False)
    assert (to_bytes["type"], to_bytes["use_regex"]) == ("ByteLevel", False)
    assert to_bytes["add_prefix_space"] is False
    assert data["normalizer"] is None


def test_the_tiny_model_loads_and_fits_its_tokeniser(tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(TINY)
    assert model.config.model_type == "llama"
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert 3_000_000 < model.num_parameters() < 4_500_000
    assert model.config.max_position_embeddings >= 1024
    assert model.config.hidden_size % 256 == model.config.intermediate_size % 256 == 0


def test_the_chat_template_marks_what_the_assistant_says(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    found = tokenizer.apply_chat_template(
        turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [
        token
        for token, is_said in zip(found["input_ids"], found["assistant_masks"], strict=True)
        if is_said
    ]
    assert tokenizer.decode(said) == "Hello!<|im_end|>"
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_untuned_base_answers_a_chat_and_stops_but_cannot_triage(
    tokenizer: Any, rows: list[dict[str, Any]]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    scores = []
    for row in rows[:12]:
        ids = tokenizer.apply_chat_template(
            row["messages"][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**ids, max_new_tokens=48, do_sample=False)[0]
        assert made[-1] == tokenizer.eos_token_id
        answer = tokenizer.decode(made[ids["input_ids"].shape[1] :], skip_special_tokens=True)
        scores.append(token_f1(row["messages"][1]["content"], answer))
    assert sum(scores) / len(scores) < 0.2
