"""A base model without a chat template gets one that its tokeniser can write and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.chat_templates import (
    TEMPLATE_FILE,
    lent_template,
    set_chat_template,
    shipped_templates,
    template_sentence,
)
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.model_family import ModelFamily, load_families
from tests.tiny_models import make_tiny_model, make_tokenizer

TURNS = [{"role": "user", "content": " Which? "}, {"role": "assistant", "content": "This."}]


def bare_tokenizer(*tokens: str) -> Any:
    """A tokeniser that has these special tokens and no chat template."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


def family(base_template: str = "") -> ModelFamily:
    return ModelFamily(name="made-up", model_types=("made-up",), base_template=base_template)


@pytest.mark.parametrize("template", shipped_templates(), ids=lambda item: str(item.name))
def test_the_first_template_whose_tokens_the_tokeniser_has_is_lent(template: Any) -> None:
    tokenizer = bare_tokenizer(*template.tokens)
    set_chat_template(tokenizer, family(template.name))
    assert lent_template(tokenizer) == template
    assert template.title in template_sentence(tokenizer)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    prompt = tokenizer.apply_chat_template(TURNS[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    assert text.removeprefix(prompt).lstrip().startswith("This.<") or "</s>" in text
    assert "{% generation %}" in template.text or "{%- generation -%}" in template.text


def test_a_family_whose_tokens_are_missing_gets_another_template() -> None:
    tokenizer = bare_tokenizer("<|im_start|>", "<|im_end|>")
    set_chat_template(tokenizer, family("gemma"))
    assert "<|im_start|>" in tokenizer.chat_template
    tokenizer = bare_tokenizer()
    set_chat_template(tokenizer, family("gemma"))
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert text.endswith("<|im_start|>assistant\nThis.</s>\n")


def test_a_tokeniser_that_cannot_end_an_answer_is_refused() -> None:
    tokenizer = bare_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="choose its instruct version"):
        set_chat_template(tokenizer, family())


def test_a_template_of_its_own_is_kept() -> None:
    tokenizer: Any = make_tokenizer()
    tokenizer.chat_template = "{{ messages }}"
    set_chat_template(tokenizer, family("chatml"))
    assert tokenizer.chat_template == "{{ messages }}"
    assert template_sentence(tokenizer) == ""


def test_a_student_keeps_the_template_it_was_trained_with(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", chat_template=None)
    assert lent_template(load_tokenizer(base)) is not None
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / TEMPLATE_FILE).write_text("{{ 'as trained' }}", encoding="utf-8")
    assert load_tokenizer(base, adapter).chat_template == "{{ 'as trained' }}"


def test_families_name_templates_that_exist() -> None:
    names = {item.name for item in shipped_templates()}
    assert {item.base_template for item in load_families()} - {""} <= names
