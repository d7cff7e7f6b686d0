"""How much memory and time training and answering take, from a model's shape, before it loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llamaduo_gui.core.model_shape import ModelShape

Method = Literal["lora", "full", "qlora"]
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
# 4 bits, an 8-bit scale for 64 weights, a 32-bit one for 256 of those (QLoRA, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# torch, transformers, peft and trl in a process, measured; the CUDA context with cuBLAS's buffers.
LIBRARY_BYTES = 0.56e9
CUDA_CONTEXT_BYTES = 0.55e9
# TRL computes the loss in tiles of so many tokens by so many entries of the vocabulary; without
# Triton a tile passes through twelve fp32 copies of itself (measured on a CPU).
_LOSS_TOKENS, _LOSS_VOCABULARY = 4096, 32768
_LOSS_COPIES_ON_CPU = 12


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The settings of a training that memory and time depend on, with nothing left open.

    Attributes:
        dtype: of the computation, `fp32`, `bf16` or `fp16`.
        length: tokens of the longest record, padding included.
        targets: names of the adapted layers; None for all linear ones.
        trained_embeddings: how many of embedding and output layer are trained beside an adapter.
        is_8bit_optimizer: AdamW's moments have 8 bits.
        is_fused_loss: the logits are never held as a whole, as in TRL from 1.16 on.
        device: `cuda` or `cpu`.
    """

    method: Method
    dtype: str = "bf16"
    rank: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    trained_embeddings: int = 0
    batch_size: int = 4
    length: int = 1024
    is_checkpointed: bool = False
    is_8bit_optimizer: bool = False
    is_fused_loss: bool = True
    device: Literal["cuda", "cpu"] = "cuda"


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak, by what they are for."""

    weights: float = 0.0
    adapter: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0
    overhead: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """Name to bytes."""
        return asdict(self)

    def to_dict(self) -> dict[str, int]:
        """As JSON values."""
        return {**{name: round(count) for name, count in self.parts.items()}, "total": self.rounded}

    @property
    def rounded(self) -> int:
        """The total in whole bytes."""
        return round(self.total)


def training_memory(shape: ModelShape, setup: TrainingSetup) -> MemoryEstimate:
    """Memory at the peak of a step with the longest batch.

    The activations are those autograd keeps in transformers' Llama, counted with
    `saved_tensors_hooks` (measured 2026-11, transformers 5.23, peft 0.21), so the figure holds
    for models built like it.
    """
    compute = BYTES[setup.dtype]
    inside = shape.linear_parameters
    outside = shape.embedding_parameters + shape.small_parameters
    if setup.method == "full":
        # Trained weights are held in fp32; autocast keeps a copy of them in its format.
        weights = 4.0 * (inside + outside) + (compute * inside if compute < 4 else 0.0)
        adapter, trained = 0.0, float(inside + outside)
    else:
        each = NF4_BYTES if setup.method == "qlora" else compute
        weights = each * inside + compute * outside
        trained = float(trained_parameters(shape, setup))
        adapter = 4.0 * trained
    tokens = setup.batch_size * min(setup.length, shape.context or setup.length)
    return MemoryEstimate(
        weights=weights,
        adapter=adapter,
        gradients=4.0 * trained,
        optimizer=trained * (2.03 if setup.is_8bit_optimizer else 8.0),
        activations=tokens * _activation_bytes(shape, setup),
        logits=_loss_bytes(shape, setup, tokens),
        overhead=_overhead(shape, setup),
    )


def inference_memory(
    shape: ModelShape,
    *,
    tokens: int,
    weight_bytes: float = 2.0,
    cache_bytes: float = 2.0,
    sequences: int = 1,
    device: Literal["cuda", "cpu"] = "cuda",
) -> MemoryEstimate:
    """Memory while answering.

    Args:
        shape: of the model.
        tokens: of the longest sequence, question and answer.
        weight_bytes: of a weight; 0.6 or so for Q4_K_M.
        cache_bytes: of a number in the key-value cache.
        sequences: answered at the same time.
        device: `cuda` or `cpu`.
    """
    length = min(tokens, shape.context or tokens)
    width = 4 * shape.hidden + 2 * shape.intermediate + shape.query
    return MemoryEstimate(
        weights=weight_bytes * shape.parameters,
        # One layer at a time, for the longest prompts read together.
        activations=sequences * length * width * max(2.0, cache_bytes),
        logits=4.0 * sequences * shape.vocabulary,
        cache=sequences * shape.cache_bytes(length, cache_bytes),
        overhead=CUDA_CONTEXT_BYTES if device == "cuda" else LIBRARY_BYTES,
    )


def trained_parameters(shape: ModelShape, setup: TrainingSetup) -> int:
    """How many parameters a training changes."""
    if setup.method == "full":
        return shape.parameters
    beside = setup.trained_embeddings * shape.vocabulary * shape.hidden
    return shape.adapter_parameters(setup.rank, setup.targets) + beside


def training_flops(shape: ModelShape, setup: TrainingSetup, tokens: float) -> float:
    """Floating-point operations for so many tokens (Kaplan et al. 2020, section 2.1).

    Two a weight and token forwards, two for the gradient of the input, two for that of the weight
    if it is trained, two more to compute activations again. Attention adds its own share.
    """
    active = shape.linear_parameters + shape.vocabulary * shape.hidden
    passes = 6.0 if setup.method == "full" else 4.0
    passes += 2.0 if setup.is_checkpointed else 0.0
    attention = 2.0 * shape.layers * shape.query * setup.length
    adapter = 0.0 if setup.method == "full" else 6.0 * trained_parameters(shape, setup)
    return tokens * (passes * (active + attention) + adapter)


def generation_flops(shape: ModelShape, read: float, written: float) -> float:
    """Floating-point operations to read and write so many tokens."""
    blocks = 2.0 * shape.linear_parameters
    return blocks * (read + written) + 2.0 * shape.vocabulary * shape.hidden * written


def setup_from(data: Mapping[str, Any]) -> TrainingSetup:
    """Undo `dataclasses.asdict`."""
    targets = data.get("targets")
    return TrainingSetup(**{**data, "targets": tuple(targets) if targets is not None else None})


def _activation_bytes(shape: ModelShape, setup: TrainingSetup) -> float:
    """Bytes a token that the backward pass needs."""
    compute = BYTES[setup.dtype]
    block = _block_bytes(shape, setup)
    border = (compute + 1.0) * shape.hidden
    # Gradients of the widest activations pass through while a block's own are still held.
    passing = compute * (3 * shape.intermediate + 4 * shape.hidden)
    if setup.is_checkpointed:
        return shape.layers * border + block + passing
    return shape.layers * block + passing


def _block_bytes(shape: ModelShape, setup: TrainingSetup) -> float:
    """Bytes a token that one block keeps; coefficients measured, see `training_memory`."""
    is_wide = BYTES[setup.dtype] == 4
    width = (shape.hidden + shape.query) / 2
    if setup.method == "full":
        stream, cached = (34.0, 8.0) if is_wide else (32.0, 5.0)
        inner = 16.0 if is_wide else 8.0
    else:
        stream, cached = (24.0, 10.0) if is_wide else (24.0, 6.0)
        inner = 16.0 if is_wide else 8.0
        if setup.dropout > 0:
            # Each adapted layer keeps a dropped-out copy of its input, and the mask.
            stream += 37.0 if is_wide else 21.0
            inner += 4.0
    return stream * width + cached * shape.key_value + inner * shape.intermediate


def _loss_bytes(shape: ModelShape, setup: TrainingSetup, tokens: int) -> float:
    """The logits and what the loss makes of them; the last hidden states in the fused form."""
    compute = BYTES[setup.dtype]
    if not setup.is_fused_loss:
        # Logits in the format of the computation, in fp32, their log-softmax and its gradient.
        return tokens * shape.vocabulary * (compute + 12.0)
    tile = min(tokens, _LOSS_TOKENS) * min(shape.vocabulary, _LOSS_VOCABULARY)
    each = 4.0 * _LOSS_COPIES_ON_CPU if setup.device == "cpu" else compute + 4.0
    return tile * each + tokens * shape.hidden * (8.0 + compute)


def _overhead(shape: ModelShape, setup: TrainingSetup) -> float:
    if setup.device == "cpu":
        return LIBRARY_BYTES
    # A 4-bit matrix is unpacked whole for its product.
    widest = max(inputs * outputs for inputs, outputs in shape.matrices.values())
    unpacked = BYTES[setup.dtype] * widest if setup.method == "qlora" else 0.0
    return CUDA_CONTEXT_BYTES + unpacked
