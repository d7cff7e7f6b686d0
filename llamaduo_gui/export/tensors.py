"""The tensors of a GGUF, merged from base shards and adapter a few rows at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.export.adapter import Adapter, LowRankUpdate, is_adapter, load_adapter
from llamaduo_gui.export.architectures import (
    Architecture,
    read_architecture,
    rope_factors,
)
from llamaduo_gui.export.dequantized import DequantizedTensor, dequantize_linear
from llamaduo_gui.export.shards import Float32, Rows, StoredTensor, open_shards

Source = StoredTensor | DequantizedTensor
EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"
# Rows of a tensor in memory at once: 4 M weights are 16 MB in float32.
BLOCK_WEIGHTS = 4_194_304
# Buffers some checkpoints carry that are computed, not learned.
_IGNORED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")


@dataclass(frozen=True, slots=True)
class MergedTensor:
    """One tensor of the GGUF and how to compute its rows.

    Attributes:
        name: in the GGUF.
        shape: rows first.
        source: the base model's (or the adapter's replacement) tensor, or a computed array.
        update: what LoRA adds, or None.
        row_order: source row of each GGUF row, or None if they are the same.
        offset: added to every element.
    """

    name: str
    shape: tuple[int, ...]
    source: Source | Float32
    update: LowRankUpdate | None = None
    row_order: npt.NDArray[np.intp] | None = None
    offset: float = 0.0

    @property
    def weights(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    def blocks(self, block_weights: int = BLOCK_WEIGHTS) -> Iterator[Float32]:
        """The tensor in float32, in consecutive groups of rows of about `block_weights`.

        Raises:
            UserError: a weight is not a finite number.
        """
        row_weights = int(np.prod(self.shape[1:])) if len(self.shape) > 1 else 1
        step = max(1, block_weights // row_weights)
        for start in range(0, self.shape[0], step):
            block = self.rows(start, min(start + step, self.shape[0]))
            # One pass less than isfinite: a NaN makes both of them NaN.
            if not np.isfinite((block.min(), block.max())).all():
                raise UserError(
                    f"The weight {self.name} holds values that are not numbers: training diverged; "
                    "lower the learning rate and train again."
                )
            yield block
        self.release()

    def release(self) -> None:
        """Give back what reading may have kept in memory."""
        if isinstance(self.source, DequantizedTensor):
            self.source.release()

    def read(self) -> Float32:
        """The whole tensor in float32."""
        return np.concatenate(list(self.blocks()))

    def rows(self, start: int, stop: int) -> Float32:
        """Rows of the GGUF's tensor from `start` up to `stop`, in float32."""
        rows: Rows = slice(start, stop) if self.row_order is None else self.row_order[start:stop]
        source = self.source
        block = source[rows] if isinstance(source, np.ndarray) else source.read(rows)
        if self.update is not None:
            block = block + self.update.rows(rows)
        return block + np.float32(self.offset) if self.offset else block


@dataclass(frozen=True, slots=True)
class ModelTensors:
    """What is written: the architecture and its tensors in the order of the file."""

    architecture: Architecture
    tensors: tuple[MergedTensor, ...]

    @property
    def embedding_rows(self) -> int:
        """Rows of the token embedding: the size the vocabulary is padded to."""
        return next(item.shape[0] for item in self.tensors if item.name == "token_embd.weight")

    @property
    def weights(self) -> int:
        """Number of weights of the model."""
        return sum(tensor.weights for tensor in self.tensors)


def open_model(
    base: Path, adapter: Path | None = None, *, quantized_from: str | None = None
) -> ModelTensors:
    """Describe the merged model; nothing but headers and LoRA factors is read.

    Args:
        base: folder of the base model (or of a fully fine-tuned one) with safetensors weights.
        adapter: folder of a peft adapter; a folder with a whole model takes the base's place.
        quantized_from: merge a QLoRA adapter onto the 4-bit weights it was trained on, which were
            quantised from this number format; None merges onto the stored weights.

    Raises:
        UserError: the model cannot be exported, or adapter and base do not fit together.
    """
    if adapter is not None and not is_adapter(adapter):
        base, adapter = adapter, None
    architecture = read_architecture(base)
    merged = merge_weights(base, adapter, architecture, quantized_from=quantized_from)
    tensors = _map_names(merged, architecture)
    computed = [
        MergedTensor(name, values.shape, values)
        for name, values in rope_factors(architecture).items()
    ]
    tensors = computed + tensors
    _require_complete(tensors, architecture)
    return ModelTensors(architecture, tuple(tensors))


def merge_weights(
    base: Path,
    adapter: Path | None,
    architecture: Architecture,
    *,
    quantized_from: str | None = None,
) -> list[MergedTensor]:
    """The merged model's tensors under their transformers names; see `open_model`."""
    shards = {
        name: tensor for name, tensor in open_shards(base).items() if not name.endswith(_IGNORED)
    }
    stored: Mapping[str, Source] = shards
    if quantized_from is not None:
        stored = dequantize_linear(shards, quantized_from)
    changes = load_adapter(adapter) if adapter is not None else Adapter({}, {})
    return _merge(stored, changes, architecture)


def _merge(
    stored: Mapping[str, Source], changes: Adapter, architecture: Architecture
) -> list[MergedTensor]:
    """Base tensors with the adapter's changes, under their transformers names.

    A tied output is written only where it no longer equals the embedding. An adapter that changes
    just one of the two unties them, as it does in peft while it is not merged.
    """
    base = dict(stored)
    if EMBEDDING in base and (architecture.is_tied or OUTPUT not in base):
        base[OUTPUT] = base[EMBEDDING]
        is_tied = True
    else:
        is_tied = False
    unknown = (set(changes.updates) | set(changes.replacements)) - set(base)
    if unknown:
        raise UserError(
            f"The adapter changes {min(unknown)}, which the base model does not have; "
            "export with the base model it was trained on."
        )
    same_change = (
        changes.replacements.get(OUTPUT) is changes.replacements.get(EMBEDDING)
        and OUTPUT not in changes.updates
        and EMBEDDING not in changes.updates
    )
    if is_tied and same_change:
        del base[OUTPUT]
    if OUTPUT in base and not architecture.has_own_output:
        raise UserError(
            "The adapter changes the embedding or the output alone, and llama.cpp has one matrix "
            f"for both in a {architecture.name} model; train without them in modules_to_save."
        )
    merged = []
    for name, tensor in base.items():
        source: Source = changes.replacements.get(name, tensor)
        update = changes.updates.get(name)
        if update is not None and update.shape != source.shape:
            raise UserError(
                f"The adapter's update of {name} has the shape {update.shape} and the base "
                f"model's weight {source.shape}; export with the base model it was trained on."
            )
        merged.append(MergedTensor(name, source.shape, source, update))
    return merged


def _map_names(merged: list[MergedTensor], architecture: Architecture) -> list[MergedTensor]:
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture.name)
    names = gguf.get_tensor_name_map(kind, architecture.layers)
    mapped = []
    for tensor in sorted(merged, key=lambda item: _natural(item.name)):
        name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(
                f"The model has a weight {tensor.name} that a {architecture.name} GGUF has no "
                "place for; it cannot be exported."
            )
        mapped.append(
            MergedTensor(
                name,
                tensor.shape,
                tensor.source,
                tensor.update,
                _rope_row_order(tensor, architecture),
                _offset(tensor, architecture),
            )
        )
    return mapped


def _rope_row_order(
    tensor: MergedTensor, architecture: Architecture
) -> npt.NDArray[np.intp] | None:
    """Where the rows of llama's query and key come from.

    transformers rotates element i of a head with element i + half, llama.cpp's llama with its
    neighbour: the halves are interleaved. Measured without: KL 0.33.
    """
    if not architecture.has_permuted_rope:
        return None
    if re.search(r"\.q_proj\.(weight|bias)$", tensor.name):
        heads = architecture.heads
    elif re.search(r"\.k_proj\.(weight|bias)$", tensor.name):
        heads = architecture.kv_heads
    else:
        return None
    rows = tensor.shape[0]
    order = np.arange(rows, dtype=np.intp).reshape(heads, 2, rows // heads // 2)
    return order.swapaxes(1, 2).reshape(rows)


def _offset(tensor: MergedTensor, architecture: Architecture) -> float:
    is_norm = tensor.name.endswith("norm.weight")
    return architecture.gemma.norm_offset if architecture.gemma and is_norm else 0.0


def _require_complete(tensors: list[MergedTensor], architecture: Architecture) -> None:
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise LlamaDuoError("Two weights of the model have the same GGUF name.")
    needed = {"token_embd.weight", "output_norm.weight"}
    first_block = {name for name in names if name.startswith("blk.0.")}
    for layer in range(architecture.layers):
        needed |= {name.replace("blk.0.", f"blk.{layer}.", 1) for name in first_block}
    missing = needed - names
    if missing or not first_block:
        raise UserError(
            f"The base model's weights are incomplete ({min(missing, default='no layers')} is "
            "missing); get the model again."
        )


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
