"""The types a GGUF can be exported in: size, expected loss, what certification asks of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from llamaduo_gui.core.paths import resource


@dataclass(frozen=True, slots=True)
class Quant:
    """One entry of `resources/gguf/quants.toml`.

    Attributes:
        name: such as `Q4_K_M`.
        code: llama.cpp's number of it (llama_ftype).
        is_direct: written by this program; the others are made by llama.cpp from an F16 file.
        bits: of a weight, the file's average.
        types: what tensors may be without being a fallback.
        max_kl: mean KL divergence to the trained model that is still certified, nats a token.
        min_agreement: least share of positions with the same likeliest token, near-ties aside.
        loss: expected loss in words.
    """

    name: str
    code: int
    is_direct: bool
    bits: float
    types: frozenset[str]
    max_kl: float
    min_agreement: float
    loss: str

    def expected_bytes(self, weights: int) -> int:
        """About how large a file with that many weights is."""
        return int(weights * self.bits / 8)


@cache
def load_quants() -> dict[str, Quant]:
    """All types by name, the largest first."""
    text = resource("gguf", "quants.toml").read_text(encoding="utf-8")
    return {
        entry["name"]: Quant(
            name=entry["name"],
            code=entry["code"],
            is_direct=entry["direct"],
            bits=entry["bits"],
            types=frozenset(entry["types"]),
            max_kl=entry["max_kl"],
            min_agreement=entry["min_agreement"],
            loss=entry["loss"],
        )
        for entry in tomllib.loads(text)["quant"]
    }
