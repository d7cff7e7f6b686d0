"""Runs llama.cpp's own converter in one child process, for comparing its files with ours.

The converter is in a llama.cpp checkout, or in `vendor/llama.cpp` of the llama-cpp-python source
distribution (the installed wheel does not have it), which LLAMADUO_LLAMA_CPP names;
`packaging/bootstrap.py test` fetches one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

CHECKOUT = os.environ.get("LLAMADUO_LLAMA_CPP", "")

needs_oracle = pytest.mark.skipif(
    not CHECKOUT or not (Path(CHECKOUT) / "convert_hf_to_gguf.py").is_file(),
    reason="LLAMADUO_LLAMA_CPP names no llama.cpp checkout",
)

# The converter knows tokenisers by a hash of token ids: it is told the name instead. Its libraries
# take seconds to load, so one process serves all conversions.
_PROGRAM = """
import json, runpy, sys, traceback
checkout = sys.argv[1]
sys.path[:0] = [checkout, checkout + "/gguf-py"]
from conversion.base import TextModel
replies, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    folder, out, quant, pre = json.loads(line)
    TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", quant]
    error = ""
    try:
        runpy.run_path(checkout + "/convert_hf_to_gguf.py", run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps(error), file=replies, flush=True)
"""


class Oracle:
    """llama.cpp's converter, loaded once; a context manager."""

    def __init__(self, log: Path) -> None:
        """Start the converter.

        Args:
            log: file for what it says.
        """
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM, CHECKOUT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def convert(self, folder: Path, out: Path, quant: str, pre: str) -> Path:
        """Write a model folder as GGUF.

        Args:
            folder: of the model.
            out: the file to write.
            quant: F32, F16, BF16 or Q8_0.
            pre: name of the pre-tokeniser.

        Returns:
            `out`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = [str(folder), str(out), quant.lower(), pre]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        assert reply, Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-2000:]
        error = json.loads(reply)
        assert not error, error[-2000:]
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
        self._log.close()
