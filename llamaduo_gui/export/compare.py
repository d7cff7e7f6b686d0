"""Compares a GGUF with the student it should hold: header by key, weights by sampled rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from llamaduo_gui.core.gguf_file import GgufFile, GgufTensor
from llamaduo_gui.export.gguf_writer import expected_metadata
from llamaduo_gui.export.shards import Float32
from llamaduo_gui.export.tensors import MergedTensor, ModelTensors
from llamaduo_gui.export.tokenizer import TokenizerSpec

TEMPLATE_KEY = "tokenizer.chat_template"
# Places and weights looked at in each tensor.
_PLACES = 4
_WEIGHTS_A_PLACE = 16_384
# Largest relative error (root mean square) rounding to a type can cause, with room to spare.
# Measured on normally distributed weights: F16 2e-4, BF16 2e-3, Q8_0 .006, Q6_K .02, Q5_K .04,
# Q4_K .08, Q3_K .17, Q2_K .32; a wrong order of rows gives 1.4.
_ERROR_LIMITS = {
    "F32": 1e-5,
    "F16": 2e-3,
    "BF16": 1e-2,
    "Q8_0": 0.03,
    "Q6_K": 0.06,
    "Q5_K": 0.12,
    "Q5_1": 0.12,
    "Q5_0": 0.12,
    "Q4_K": 0.25,
    "IQ4_NL": 0.25,
    "Q4_1": 0.25,
    "Q4_0": 0.25,
}
_COARSE_LIMIT = 0.6
# What llama.cpp takes from elsewhere when a file made by another program lacks it.
_MAY_LACK = (
    ".vocab_size",
    ".attention.key_length",
    ".attention.value_length",
    ".rope.dimension_count",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_eos_token",
)
_OURS = "llamaduo."


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a file differs from its student: the key or tensor, and a sentence about it."""

    name: str
    sentence: str


def header_differences(
    file: GgufFile, model: ModelTensors, tokenizer: TokenizerSpec
) -> list[Difference]:
    """Keys whose values are not the student's; the chat template is compared as text elsewhere.

    Tokens beyond those of the tokeniser only fill the embedding's rows, so their names are free.
    """
    found = []
    name = model.architecture.name
    if file.architecture != name:
        text = f"The file is a {file.architecture} model and the student a {name}."
        return [Difference("general.architecture", text)]
    for key, wanted in expected_metadata(model, tokenizer).items():
        if key.startswith(("general.", _OURS)) or key == TEMPLATE_KEY:
            continue
        actual = file.metadata.get(key)
        if actual is None and key.endswith(_MAY_LACK):
            continue
        if not _is_equal(actual, wanted):
            found.append(Difference(key, _describe(key, actual, wanted, tokenizer)))
    return found


def weight_differences(file: GgufFile, model: ModelTensors) -> list[Difference]:
    """Tensors that are missing, of another shape, or further from the student than rounding."""
    stored = {tensor.name: tensor for tensor in file.tensors}
    data = np.memmap(file.path, dtype=np.uint8, mode="r")
    found = []
    for tensor in model.tensors:
        actual = stored.get(tensor.name)
        if actual is None:
            found.append(Difference(tensor.name, f"The file lacks the weight {tensor.name}."))
        elif actual.shape != tensor.shape:
            found.append(
                Difference(
                    tensor.name,
                    f"The weight {tensor.name} has the shape {list(actual.shape)} in the file and "
                    f"{list(tensor.shape)} in the student.",
                )
            )
        elif sentence := _compare_rows(data, actual, tensor):
            found.append(Difference(tensor.name, sentence))
    return found


def _compare_rows(data: Any, actual: GgufTensor, tensor: MergedTensor) -> str:
    try:
        return _row_sentence(data, actual, tensor)
    finally:
        tensor.release()


def _row_sentence(data: Any, actual: GgufTensor, tensor: MergedTensor) -> str:
    limit = _ERROR_LIMITS.get(actual.type, _COARSE_LIMIT)
    places = _places(tensor)
    error = _relative_error(data, actual, tensor, places)
    if error <= limit:
        return ""
    if tensor.row_order is not None:
        plain = dataclasses.replace(tensor, row_order=None)
        if _relative_error(data, actual, plain, places) <= limit:
            return (
                f"The rows of {tensor.name} are in the trainer's order, not in the one llama.cpp "
                "needs for its rotary embedding (RoPE permutation missing)."
            )
    return (
        f"The weight {tensor.name} is not the student's: relative error {error:.2g}, at most "
        f"{limit:g} for {actual.type}."
    )


def _places(tensor: MergedTensor) -> list[tuple[int, int]]:
    """Groups of rows spread evenly over the tensor, as (start, stop)."""
    rows = tensor.shape[0]
    width = int(np.prod(tensor.shape[1:])) if len(tensor.shape) > 1 else rows
    if len(tensor.shape) == 1:
        return [(0, rows)]
    count = max(1, min(rows, _WEIGHTS_A_PLACE // width))
    starts = np.linspace(0, rows - count, num=min(_PLACES, rows), dtype=int)
    return [(int(start), int(start) + count) for start in dict.fromkeys(starts.tolist())]


def _relative_error(
    data: Any, actual: GgufTensor, tensor: MergedTensor, places: list[tuple[int, int]]
) -> float:
    difference = total = 0.0
    for start, stop in places:
        wanted = tensor.rows(start, stop).astype(np.float64)
        found = _read_rows(data, actual, start, stop).astype(np.float64)
        difference += float(((found - wanted) ** 2).sum())
        total += float((wanted**2).sum())
    if total == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return float(np.sqrt(difference / total))


def _read_rows(data: Any, actual: GgufTensor, start: int, stop: int) -> Float32:
    kind = gguf.GGMLQuantizationType[actual.type]
    if len(actual.shape) == 1:
        whole = np.array(data[actual.offset : actual.offset + actual.size_bytes])
        return gguf.quants.dequantize(whole, kind).reshape(-1)[start:stop]
    row_bytes = actual.size_bytes // actual.shape[0]
    first, last = actual.offset + start * row_bytes, actual.offset + stop * row_bytes
    part = np.array(data[first:last]).reshape(stop - start, row_bytes)
    return gguf.quants.dequantize(part, kind).reshape(stop - start, *actual.shape[1:])


def _is_equal(actual: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(actual, (int, float)) and bool(np.isclose(actual, wanted, rtol=1e-6))
    if isinstance(wanted, (list, tuple)):
        if not isinstance(actual, (list, tuple)) or len(actual) != len(wanted):
            return False
        if wanted and isinstance(wanted[0], float):
            return bool(np.allclose(actual, wanted, rtol=1e-6))
        return list(actual) == list(wanted)
    return bool(actual == wanted)


def _describe(key: str, actual: Any, wanted: Any, tokenizer: TokenizerSpec) -> str:
    if key == "tokenizer.ggml.add_bos_token":
        if wanted:
            return "The file does not put the BOS token before a text, and the tokeniser does."
        return "The file prepends a BOS the tokeniser lacks (tokenizer.ggml.add_bos_token)."
    if isinstance(wanted, (list, tuple)):
        count = len(actual) if isinstance(actual, (list, tuple)) else 0
        if count != len(wanted):
            rows = len(tokenizer.tokens)
            return f"{key} has {count:,} entries in the file and {len(wanted):,} in the student" + (
                f", whose embedding has {rows:,} rows." if len(wanted) == rows else "."
            )
        first = next(i for i, pair in enumerate(zip(actual, wanted, strict=True)) if _differs(pair))
        return (
            f"{key} differs at {first}: {str(actual[first])[:40]!r} in the file, "
            f"{str(wanted[first])[:40]!r} in the student."
        )
    shown = "missing from the file" if actual is None else f"{actual} in the file"
    return f"{key} is {shown} and {wanted} in the student."


def _differs(pair: tuple[Any, Any]) -> bool:
    return not _is_equal(pair[0], pair[1])
