"""Tests that a GGUF in llama.cpp computes what transformers computes from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llamaduo_gui.core.llama_library import LlamaModel
from llamaduo_gui.core.paths import resources_dir
from llamaduo_gui.core.types import Message
from llamaduo_gui.export import tensors
from llamaduo_gui.inference.chat_template import ChatTemplate
from llamaduo_gui.inference.llama_context import Entry, LlamaContext
from tests.gguf_files import write_test_gguf
from tests.tiny_models import make_tiny_model

PROMPTS = (
    "How many metres are in three kilometres?",
    "Which queue does this ticket belong to?",
    "The customer cannot log in after the update.",
    "A short answer is better than a long one when the question is simple. " * 4,
    "Gr\u00fc\u00dfe, \u4f60\u597d, \U0001f600 and 12345 tabs\t\tand\n\nblank lines",
)
MODELS = ("builtin", "llama", "llama3-rope", "llama-linear-rope", "qwen2", "qwen3", "qwen3-yarn")
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
GREEDY_TOKENS = 32
# Share of the logits' spread below which F16 rounding can turn the order of two tokens round.
LEVEL = 0.005


class Pair:
    """The same weights in transformers and, exported on demand, in llama.cpp."""

    def __init__(self, folder: Path, out: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.folder, self.out = folder, out
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def gguf(self, quant: str) -> Path:
        """The exported file."""
        path = self.out / f"{quant}.gguf"
        return path if path.exists() else write_test_gguf(self.folder, path, quant)

    def prompt_ids(self, text: str) -> list[int]:
        """A one-turn conversation as transformers encodes it."""
        messages = [{"role": "user", "content": text}]
        return list(
            self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )


def make_folder(name: str, folder: Path) -> Path:
    """One of MODELS; their shapes differ in what exports get wrong."""
    if name == "builtin":
        return resources_dir() / "models" / "tiny"
    shape: dict[str, Any] = {"hidden": 256, "intermediate": 512, "heads": 8, "kv_heads": 2}
    ropes = {"llama3-rope": LLAMA3_ROPE, "qwen3-yarn": YARN, "llama-linear-rope": LINEAR}
    architecture = "llama" if name.startswith("llama") else name.removesuffix("-yarn")
    make_tiny_model(
        folder,
        architecture,  # type: ignore[arg-type]
        tie=name == "qwen3",
        rope_theta=5_000.0,
        embedding_rows=512,
        dtype="float16",
        **shape,
    )
    _cool_down(folder)
    if name in ropes:
        from tests.unit.export.test_tensors import edit_config

        edit_config(folder, rope_parameters=ropes[name])
    return folder


def _cool_down(folder: Path) -> None:
    """Scale the random weights to the spread of trained ones.

    As made, they are wide enough that rounding in the seventh digit grows from layer to layer.
    """
    path = folder / "model.safetensors"
    weights = {
        name: value / 4 if value.ndim == 2 else value for name, value in load_file(path).items()
    }
    save_file(weights, path, metadata={"format": "pt"})


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model in both worlds."""
    out = tmp_path_factory.mktemp(request.param)
    return Pair(make_folder(request.param, out / "model"), out)


def divergences(pair: Pair, quant: str) -> np.ndarray:
    """KL(transformers || llama.cpp) at every position of every prompt, in nats."""
    found = []
    with LlamaModel(pair.gguf(quant)) as model:
        is_exact = quant == "F32"
        with LlamaContext(model, length=512, is_exact=is_exact) as context:
            for text in PROMPTS:
                ids = pair.prompt_ids(text)
                context.forget(0)
                ours = context.decode([Entry(t, i, 0, True) for i, t in enumerate(ids)])
                with torch.no_grad():
                    theirs = pair.model(torch.tensor([ids])).logits[0].double()
                used = len(pair.tokenizer)
                ours_log = torch.from_numpy(ours[:, :used].copy()).double().log_softmax(-1)
                theirs_log = theirs[:, :used].log_softmax(-1)
                kl = (theirs_log.exp() * (theirs_log - ours_log)).sum(-1)
                found.append(kl.numpy())
    return np.concatenate(found)


# Measured means: F32 3e-13, builtin 1e-12; F16 4e-7..8e-7; Q8_0 2e-4..6e-4 (builtin 5e-4).
@pytest.mark.parametrize(("quant", "limit"), [("F32", 1e-9), ("F16", 1e-5), ("Q8_0", 1e-3)])
def test_logits_hardly_diverge_from_those_of_transformers(
    pair: Pair, quant: str, limit: float
) -> None:
    assert divergences(pair, quant).mean() < limit


@pytest.mark.parametrize(("fault", "answer"), [("_rope_row_order", None), ("rope_factors", {})])
def test_a_fault_in_the_export_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, answer: object
) -> None:
    broken = Pair(make_folder("llama3-rope", tmp_path / "model"), tmp_path)
    monkeypatch.setattr(tensors, fault, lambda *_: answer)
    assert divergences(broken, "F32").mean() > 1e-6


def test_greedy_answers_of_f16_equal_those_of_transformers(pair: Pair) -> None:
    """Exactly for the shipped model; random weights may differ where two tokens are level."""
    differing = 0
    with LlamaModel(pair.gguf("F16")) as model:
        template = ChatTemplate(model)
        padding = list(range(len(pair.tokenizer), model.vocab_size))
        for text in PROMPTS:
            ids = pair.prompt_ids(text)
            assert model.tokenize(template.render([Message("user", text)])) == ids
            tokens, logits = greedy_in_transformers(pair, ids, padding)
            for step, token in enumerate(greedy(model, ids)):
                if token != tokens[step]:
                    gap = logits[step].max() - logits[step][token]
                    assert gap < LEVEL * logits[step].std()
                    differing += 1
                    break
    assert differing <= (0 if pair.out.name.startswith("builtin") else 2)


def greedy_in_transformers(
    pair: Pair, ids: list[int], padding: list[int]
) -> tuple[list[int], list[torch.Tensor]]:
    """The likeliest tokens one after another, and the logits each was chosen from."""
    with torch.no_grad():
        out = pair.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=GREEDY_TOKENS,
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=padding or None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    used = len(pair.tokenizer)
    return out.sequences[0, len(ids) :].tolist(), [item[0][:used] for item in out.logits]


def greedy(model: LlamaModel, ids: list[int]) -> Iterator[int]:
    """The likeliest tokens one after another, the stop token included."""
    with LlamaContext(model, length=512) as context:
        logits = context.prefill(ids)
        for position in range(len(ids), len(ids) + GREEDY_TOKENS):
            token = int(logits.argmax())
            yield token
            if model.ends_answer(token):
                return
            logits = context.decode([Entry(token, position, wants_logits=True)])[0]
