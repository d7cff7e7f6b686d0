"""Reads a LoRA adapter in peft's format: which weights it replaces and which it adds to."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.export.shards import Float32, Rows, StoredTensor, open_safetensors

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
}
# Variants whose merged weight is not W + scale * B A.
_OTHER_METHODS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """What LoRA adds to a weight: `left @ right`, the scale included in `left`."""

    left: Float32
    right: Float32

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight it belongs to."""
        return self.left.shape[0], self.right.shape[1]

    def rows(self, rows: Rows) -> Float32:
        """Some rows of the product, in float32."""
        return self.left[rows] @ self.right


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: updates and replacements by the base tensor's name."""

    updates: dict[str, LowRankUpdate]
    replacements: dict[str, StoredTensor]


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a peft adapter rather than a whole model."""
    return (folder / ADAPTER_CONFIG).is_file()


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter; the factors are small and are kept in memory as float32.

    The scale is alpha / r, or alpha / sqrt(r) with rsLoRA, where `rank_pattern` and
    `alpha_pattern` can set both for single modules (peft's LoraConfig).

    Raises:
        UserError: the adapter is damaged or of a kind that cannot be merged here.
    """
    config = _read_config(folder / ADAPTER_CONFIG)
    tensors = open_safetensors(folder / ADAPTER_WEIGHTS)
    factors: dict[str, dict[str, StoredTensor]] = {}
    embeddings: set[str] = set()
    replacements: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        key = name.removeprefix(_PREFIX)
        suffix = next((item for item in _FACTORS if key.endswith(item)), None)
        if suffix is not None:
            module = key.removesuffix(suffix)
            factors.setdefault(module, {})[_FACTORS[suffix]] = tensor
            if "embedding" in suffix:
                embeddings.add(module)
        elif "lora_" not in key and key.endswith((".weight", ".bias")):
            replacements[key.replace(".base_layer.", ".")] = tensor
        else:
            raise UserError(
                f"The adapter's weight {name} is of a kind that cannot be merged into a GGUF; "
                "train with plain LoRA."
            )
    updates = {
        f"{module}.weight": _update(module, pair, config, is_embedding=module in embeddings)
        for module, pair in factors.items()
    }
    return Adapter(updates, replacements)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; train the adapter again.") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object; train the adapter again.")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(f"The adapter is of type {kind}; only LoRA adapters can be exported.")
    used = [name for name in _OTHER_METHODS if config.get(name)]
    if used:
        raise UserError(
            f"The adapter was trained with {', '.join(used)}, which cannot be merged into a GGUF; "
            "train with plain LoRA."
        )
    return config


def _update(
    module: str, pair: dict[str, StoredTensor], config: dict[str, Any], *, is_embedding: bool
) -> LowRankUpdate:
    if set(pair) != {"A", "B"}:
        raise UserError(f"The adapter has only half of the update of {module}; train it again.")
    down = pair["A"].read(slice(None))
    up = pair["B"].read(slice(None))
    rank = down.shape[0]
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != rank:
        raise UserError(f"The adapter's factors of {module} do not fit together; train it again.")
    alpha = _pattern_value(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    divisor = math.sqrt(rank) if config.get("use_rslora") else rank
    scale = np.float32(alpha / divisor)
    # peft keeps an embedding's factors, and a Conv1D's, for the transposed weight.
    if is_embedding or config.get("fan_in_fan_out"):
        return LowRankUpdate(down.T * scale, np.ascontiguousarray(up.T))
    return LowRankUpdate(up * scale, down)


def _pattern_value(patterns: dict[str, float] | None, module: str, default: float) -> float:
    """Apply peft's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
