"""A round's student answering through llama.cpp, from a GGUF that exists only meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.export.gguf_writer import Description, write_gguf
from llamaduo_gui.export.tensors import open_model
from llamaduo_gui.export.tokenizer import describe_tokenizer, load_tokenizer
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TemporaryGgufBackend(LlamaCppBackend):
    """The llama.cpp backend for weights that are not exported.

    What answers is the file, in its number format: in Q8_0 not exactly the trained weights.

    Args:
        path: of the file to write; one that a killed run left there is replaced.
        base: folder of the model.
        adapter: folder of the adapter merged into it, or None.
        quant: F16 or Q8_0.
        check_cancelled: called after each tensor; what it raises ends the writing.

    Raises:
        UserError: the model cannot be written as a GGUF, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        base: Path,
        adapter: Path | None,
        quant: str,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            model = open_model(base, adapter)
            spec = describe_tokenizer(load_tokenizer(base, adapter), base, model.embedding_rows)
            description = Description(path.stem)
            write_gguf(path, model, spec, description, quant, lambda _name: check_cancelled())
            super().__init__(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            reason = "the disk is full" if error.errno in _DISK_FULL else error.strerror
            raise UserError(
                f"The temporary GGUF {path} cannot be written ({reason}); make room there or set "
                "inference.backend to transformers."
            ) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @property
    def note(self) -> str:
        """What computes, in words."""
        return f"{super().note}, from a temporary GGUF of the merged weights"

    def close(self) -> None:
        """Give the memory back and remove the file."""
        super().close()
        self._path.unlink(missing_ok=True)
