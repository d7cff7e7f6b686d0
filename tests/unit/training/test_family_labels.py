"""For every family exactly the answers and their end-of-turn tokens are learnt, in every turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.core.causal_lm import load_tokenizer
from llamaduo_gui.core.chat_templates import tokenizer_has_system_role
from llamaduo_gui.core.conversation import fit_turns
from llamaduo_gui.core.model_family import detect_family, load_families, stop_token_ids
from llamaduo_gui.core.types import Message
from llamaduo_gui.training.dataset import IGNORED, ConversationEncoder, Example
from tests.llama_cpp_oracle import CHECKOUT, needs_oracle
from tests.tiny_families import CHATML, FAMILIES, split
from tests.tiny_models import QWEN2_PATTERN
from tests.tiny_tokenizers import write_bpe

SYSTEM = Message("system", "Answer in one word.")
SINGLE = (Message("user", "Which queue?"), Message("assistant", "Billing 12."))
MULTI = (
    *SINGLE,
    Message("user", "And this one?\nassistant"),
    Message("assistant", "Returns, I think.\n\nOr:  你好"),
    Message("user", "Sure?"),
    Message("assistant", "Billing 12."),
)
CONVERSATIONS = {
    "single": SINGLE,
    "system": (SYSTEM, *SINGLE),
    "multi": MULTI,
    "multi, system": (SYSTEM, *MULTI),
}
# The published templates by family: TRL ships them, others lie in a llama.cpp checkout.
TRL_TEMPLATES = {
    "gemma-2b": ("gemma",),
    "gemma-7b": ("gemma",),
    "gemma2-2b": ("gemma",),
    "gemma3-1b": ("gemma3",),
    "llama3-8b": ("llama3",),
    "llama3.1-8b": ("llama3_1",),
    "llama3.2-1b": ("llama3_2",),
    "phi3-mini-4k": ("phi3",),
    "phi3-mini-128k": ("phi3", "phi3_5"),
    "qwen2": ("qwen2_5",),
    "qwen3": ("qwen3", "qwen3_instruct_2507"),
}
CHECKOUT_TEMPLATES = {
    "gemma2-2b": "google-gemma-2-2b-it",
    "llama3.1-8b": "meta-llama-Llama-3.1-8B-Instruct",
    "llama3.2-1b": "meta-llama-Llama-3.2-3B-Instruct",
    "mistral-nemo": "mistralai-Mistral-Nemo-Instruct-2407",
    "phi3-mini-128k": "microsoft-Phi-3.5-mini-instruct",
    "smollm3-3b": "HuggingFaceTB-SmolLM3-3B",
    "qwen2": "Qwen-Qwen2.5-7B-Instruct",
    "qwen3": "Qwen-Qwen3-0.6B",
}
NAMES = (*FAMILIES, "qwen2", "qwen3")


def write_family(folder: Path, name: str, template: str | None) -> Path:
    """A family's tokeniser and model type, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in FAMILIES:
        import transformers

        tiny = FAMILIES[name]
        tiny.write_tokenizer(folder)
        own, kind = tiny.chat_template, getattr(transformers, tiny.config).model_type
    else:
        special = ("<|endoftext|>", *CHATML, "<think>", "</think>")
        write_bpe(
            folder,
            cuts=[split(QWEN2_PATTERN)],
            special=special,
            bos=None,
            eos="<|im_end|>",
            pad="<|endoftext|>",
        )
        own, kind = trl_template({"qwen2": "qwen2_5"}.get(name, name)), name
    (folder / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    text = own if template is None else template
    if text:
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    return folder


def trl_template(name: str) -> str:
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def check_labels(folder: Path, messages: tuple[Message, ...]) -> None:
    """Learnt are the answers with the end-of-turn token, as they have to be generated."""
    family, tokenizer = detect_family(folder), load_tokenizer(folder)
    stops = stop_token_ids(tokenizer, family)
    example = ConversationEncoder(tokenizer, family, stops).encode(messages)
    runs = learnt_runs(example)
    answers = [message.content for message in messages if message.role == "assistant"]
    # Blanks before an answer may be its own: Mistral's answers begin with one.
    assert [tokenizer.decode(run[:-1]).strip(" ") for _, run in runs] == answers
    assert all(run[-1] in stops for _, run in runs)
    assert not any(token in stops for _, run in runs for token in run[:-1])
    turns = fit_turns(
        messages[:-1],
        has_system_role=tokenizer_has_system_role(tokenizer, family.template_arguments),
    )
    prompt = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False, **family.template_arguments
    )
    start, _ = runs[-1]
    # What generation is asked with comes before the answer, token for token.
    assert example.input_ids[:start] == list(prompt)


def learnt_runs(example: Example) -> list[tuple[int, list[int]]]:
    """Where each run of learnt tokens begins, and its tokens."""
    runs: list[tuple[int, list[int]]] = []
    pairs = zip(example.input_ids, example.labels, strict=True)
    previous = IGNORED
    for index, (token, label) in enumerate(pairs):
        if label != IGNORED:
            assert label == token
            if previous == IGNORED:
                runs.append((index, []))
            runs[-1][1].append(token)
        previous = label
    return runs


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_and_their_ends_are_learnt(tmp_path: Path, name: str, conversation: str) -> None:
    check_labels(write_family(tmp_path, name, None), CONVERSATIONS[conversation])


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize(
    ("name", "template"),
    [(name, item) for name, items in TRL_TEMPLATES.items() for item in items],
)
def test_published_templates_are_learnt_from_alike(
    tmp_path: Path, name: str, template: str, conversation: str
) -> None:
    folder = write_family(tmp_path, name, trl_template(template))
    check_labels(folder, CONVERSATIONS[conversation])


@needs_oracle
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", CHECKOUT_TEMPLATES)
def test_templates_of_a_llama_cpp_checkout_are_learnt_from_alike(
    tmp_path: Path, name: str, conversation: str
) -> None:
    path = Path(CHECKOUT) / "models" / "templates" / f"{CHECKOUT_TEMPLATES[name]}.jinja"
    if not path.is_file():
        pytest.skip("the checkout has no such template")
    folder = write_family(tmp_path, name, path.read_text(encoding="utf-8"))
    check_labels(folder, CONVERSATIONS[conversation])


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_base_models_without_a_template_are_learnt_from_alike(
    tmp_path: Path, name: str, conversation: str
) -> None:
    check_labels(write_family(tmp_path, name, ""), CONVERSATIONS[conversation])


def test_every_family_is_covered() -> None:
    covered = {tiny.family for tiny in FAMILIES.values()} | {"qwen2", "qwen3"}
    # The catch-all for Llama's relatives has no template of its own.
    assert {family.name for family in load_families()} - covered == {"llama"}
