"""A base tensor as QLoRA's 4-bit base computes with it, made when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from llamaduo_gui.core.four_bit import is_rounded, round_array
from llamaduo_gui.export.shards import Float32, Rows, StoredTensor


@dataclass(slots=True)
class DequantizedTensor:
    """A stored tensor rounded to 4 bits and back.

    Double quantisation centres the scales of the whole tensor, so all of it is rounded at the first
    read; `release` gives the memory back.

    Attributes:
        stored: the 16-bit tensor.
        quantized_from: number format it had when it was quantised in training.
    """

    stored: StoredTensor
    quantized_from: str
    _values: Float32 | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """In the checkpoint."""
        return self.stored.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return self.stored.shape

    def read(self, rows: Rows) -> Float32:
        """Some rows in float32."""
        if self._values is None:
            self._values = round_array(self.stored.read(slice(None)), self.quantized_from)
        return self._values[rows]

    def release(self) -> None:
        """Forget the rounded values; the next read makes them again."""
        self._values = None


def dequantize_linear(
    stored: dict[str, StoredTensor], quantized_from: str
) -> dict[str, StoredTensor | DequantizedTensor]:
    """A checkpoint's tensors with those of linear layers rounded as in QLoRA training."""
    return {
        name: DequantizedTensor(tensor, quantized_from)
        if is_rounded(name, tensor.shape)
        else tensor
        for name, tensor in stored.items()
    }
