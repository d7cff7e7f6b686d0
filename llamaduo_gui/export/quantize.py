"""Turns a 16-bit GGUF into a K-quant through llama.cpp and reports what each tensor became."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.gguf_file import GgufFile
from llamaduo_gui.core.llama_library import (
    complaint,
    forget_complaints,
    listening,
    load_library,
    usable_threads,
)
from llamaduo_gui.core.quants import load_quants

# llama_ftype of the quantisations that llama.cpp makes.
K_QUANTS: dict[str, int] = {
    name: quant.code for name, quant in load_quants().items() if not quant.is_direct
}

# llama.cpp logs a line like "[   3/  21]  blk.0.ffn_down.weight - [512, 256, 1, 1], ..." a tensor.
_TENSOR_LINE = re.compile(r"^\[\s*(\d+)/\s*\d+\]")


def quantize(source: Path, target: Path, quant: str, on_tensor: Callable[[int], None]) -> None:
    """Quantise a whole file; llama.cpp cannot be interrupted while it does.

    Args:
        source: an F16, BF16 or F32 GGUF.
        target: file to write.
        quant: one of K_QUANTS.
        on_tensor: called with the number of the tensor being quantised, from 1.

    Raises:
        LlamaDuoError: llama.cpp failed; the text carries its complaint (a full disk too).
    """
    library = load_library()
    params = library.llama_model_quantize_default_params()
    params.ftype = K_QUANTS[quant]
    params.nthread = usable_threads()

    def follow(line: str) -> None:
        if match := _TENSOR_LINE.match(line):
            on_tensor(int(match[1]))

    forget_complaints()
    with listening(follow):
        status = library.llama_model_quantize(os.fsencode(source), os.fsencode(target), params)
    if status != 0:
        raise LlamaDuoError(f"llama.cpp could not quantise to {quant}: {complaint()}")


def fallback_types(file: GgufFile, quant: str) -> dict[str, int]:
    """Tensors that did not get the type asked for, counted by the type they have.

    Rows that are not a multiple of 256 weights cannot be K-quants: llama.cpp silently makes them
    Q5_0, Q8_0 or another type of 32 weights a block, and those not a multiple of 32 F16.
    """
    intended = load_quants()[quant].types
    return {name: count for name, count in file.tensor_types.items() if name not in intended}
