"""Measures a GGUF against the trained model: token ids, next-token distributions, speed, memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.llama_library import LlamaModel, usable_threads
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Record
from llamaduo_gui.export.certificate import Divergence, Performance, TokenComparison
from llamaduo_gui.inference.chat_template import ChatTemplate
from llamaduo_gui.inference.llama_context import Entry, LlamaContext
from llamaduo_gui.inference.transformers_backend import TransformersBackend

SAMPLED_PROMPTS = 8
POSITIONS = 32
_WRITTEN_TOKENS = 32
_SHOWN_TOKENS = 8
_LENGTH_STEP = 256
# A token with half the probability of the likeliest one is a near-tie with it.
_NEAR_TIE = float(np.log(2.0))

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SampledText:
    """Tokens of a prompt and the beginning of its answer.

    The next token is compared at the last `compared` positions.
    """

    ids: list[int]
    compared: int


def sample_texts(
    records: Sequence[Record], trained: TransformersBackend, *, seed: int, longest: int
) -> list[SampledText]:
    """Up to SAMPLED_PROMPTS prompts, drawn with a seed, with the first POSITIONS answer tokens.

    Args:
        records: of the test split; those longer than `longest` tokens are passed over.
        trained: encodes them as in training and inference.
        seed: of the project.
        longest: the context in tokens.
    """
    order = list(records)
    random.Random(derive_seed(seed, "certify")).shuffle(order)
    found = []
    for record in order:
        prompt = trained.encode_prompt(record.prompt_messages)
        answer = trained.encode_text(record.target)[: POSITIONS - 1]
        if len(prompt) + len(answer) <= longest:
            found.append(SampledText(prompt + answer, len(answer) + 1))
        if len(found) == SAMPLED_PROMPTS:
            break
    return found


def compare_tokens(
    model: LlamaModel, records: Sequence[Record], trained: TransformersBackend
) -> TokenComparison:
    """Whether llama.cpp gives every prompt, and plain text, the ids of the trainer's tokeniser."""
    try:
        template = ChatTemplate(model)
    except UserError as error:
        return TokenComparison(len(records), len(records), str(error))
    differences = [
        found
        for record in records
        if (found := _token_difference(model, template, record, trained))
    ]
    if not differences and records:
        text = records[0].instruction
        ours = model.tokenize(text, adds_ends=True)
        theirs = trained.encode_text(text, adds_ends=True)
        if ours != theirs:
            differences.append(f"as plain text, {_first_difference(ours, theirs, model)}")
    return TokenComparison(len(records), len(differences), next(iter(differences), ""))


def _token_difference(
    model: LlamaModel, template: ChatTemplate, record: Record, trained: TransformersBackend
) -> str:
    theirs = trained.encode_prompt(record.prompt_messages)
    try:
        ours = model.tokenize(template.render(record.prompt_messages))
    except UserError as error:
        return str(error)
    return "" if ours == theirs else _first_difference(ours, theirs, model)


def _first_difference(ours: list[int], theirs: list[int], model: LlamaModel) -> str:
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    words = [
        f"{ids[at : at + _SHOWN_TOKENS]} ({_spell(ids[at : at + _SHOWN_TOKENS], model)})"
        for ids in (ours, theirs)
    ]
    return f"at token {at} the file reads {words[0]}, the tokeniser {words[1]}."


def _spell(ids: Sequence[int], model: LlamaModel) -> str:
    known = [token for token in ids if token < model.vocab_size]
    return repr(b"".join(map(model.piece, known)).decode("utf-8", errors="replace"))


def measure_divergence(
    model: LlamaModel,
    texts: Sequence[SampledText],
    trained: TransformersBackend,
    check_cancelled: Callable[[], None],
) -> Divergence:
    """KL(trained || file) and agreement of the likeliest token at the sampled positions."""
    kls: list[Float64] = []
    equal: list[npt.NDArray[np.bool_]] = []
    close: list[npt.NDArray[np.bool_]] = []
    longest = max(len(text.ids) for text in texts)
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    with LlamaContext(model, length=length, is_exact=model.file.quant == "F32") as context:
        for text in texts:
            check_cancelled()
            reference = trained.next_token_logits(text.ids, text.compared)
            used = min(reference.shape[1], model.vocab_size)
            theirs = _log_softmax(reference[:, :used])
            ours = _log_softmax(_file_logits(context, text)[:, :used])
            kls.append((np.exp(theirs) * (theirs - ours)).sum(axis=1))
            chosen = ours.argmax(axis=1)
            equal.append(theirs.argmax(axis=1) == chosen)
            lead = theirs.max(axis=1) - theirs[np.arange(len(chosen)), chosen]
            close.append(lead <= _NEAR_TIE)
    every = np.concatenate(kls)
    return Divergence(
        # Rounding can make a vanishing divergence negative.
        mean_kl=max(0.0, float(every.mean())),
        max_kl=max(0.0, float(every.max())),
        agreement=float(np.concatenate(equal).mean()),
        close_agreement=float(np.concatenate(close).mean()),
        positions=len(every),
        prompts=len(texts),
        reference_dtype=trained.dtype_name,
    )


def _file_logits(context: LlamaContext, text: SampledText) -> npt.NDArray[np.float32]:
    context.forget(0)
    start = len(text.ids) - text.compared
    if start:
        context.prefill(text.ids[:start])
    return context.decode(
        [Entry(token, start + i, 0, True) for i, token in enumerate(text.ids[start:])]
    )


def _log_softmax(logits: npt.NDArray[np.float32]) -> Float64:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    # Tokens that only fill the vocabulary up are -inf in the file; a floor keeps 0 * inf out.
    shifted = np.maximum(shifted, -1e4)
    found: Float64 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def measure_performance(
    model: LlamaModel, texts: Sequence[SampledText], memory_before: int
) -> Performance:
    """Tokens a second of reading the sampled texts and of writing after the first of them.

    Args:
        model: loaded.
        texts: what is read.
        memory_before: bytes of the process before the model was loaded.
    """
    longest = max(len(text.ids) for text in texts) + _WRITTEN_TOKENS
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    with LlamaContext(model, length=length) as context:
        started = time.perf_counter()
        for text in texts:
            context.forget(0)
            logits = context.prefill(text.ids)
        read_s = time.perf_counter() - started
        position = len(texts[-1].ids)
        started = time.perf_counter()
        for step in range(_WRITTEN_TOKENS):
            logits = context.decode([Entry(int(logits.argmax()), position + step, 0, True)])[0]
        written_s = time.perf_counter() - started
        added = max(0, resident_bytes() - memory_before)
    read = sum(len(text.ids) for text in texts)
    return Performance(
        prompt_tokens_per_second=round(read / read_s, 1),
        generation_tokens_per_second=round(_WRITTEN_TOKENS / written_s, 1),
        memory_mb=round(added / 1e6, 1),
        threads=usable_threads(model.file.size_bytes),
    )


def resident_bytes() -> int:
    """Memory the process holds now, mapped files included."""
    import psutil

    return int(psutil.Process().memory_info().rss)
