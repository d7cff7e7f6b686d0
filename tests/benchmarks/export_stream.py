"""Time and peak anonymous memory from adapter to F16 GGUF: a streaming pass and the usual way.

The usual way is peft's merge_and_unload, save_pretrained, and llama.cpp's converter from a checkout
(or `vendor/llama.cpp` of the llama-cpp-python source distribution) named by LLAMADUO_LLAMA_CPP.
Both start from the same synthetic checkpoint of 1.1B weights in bf16 (2.2 GB, made in a temporary
folder and removed), each step in a process of its own, imports included.

Run: LLAMADUO_LLAMA_CPP=DIR python tests/benchmarks/export_stream.py [--layers 22] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000
SAMPLE_S = 0.01
# TinyLlama's shape.
SHAPE = {
    "hidden": 2048,
    "intermediate": 5632,
    "heads": 32,
    "kv_heads": 4,
    "embedding_rows": 32_000,
    "context": 2048,
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TIME_LIMIT, MEMORY_LIMIT = 0.25, 0.2

_MAKE = """
import json, sys
from pathlib import Path
from tests.adapters import make_test_adapter
from tests.tiny_models import make_tiny_model
folder, shape, layers, targets = Path(sys.argv[1]), *map(json.loads, sys.argv[2:5])
make_tiny_model(folder / "base", layers=layers, dtype="bfloat16", max_shard_size="1GB", **shape)
make_test_adapter(folder / "base", folder / "adapter", r=16, lora_alpha=32, target_modules=targets)
"""
_STREAM = """
import sys
from pathlib import Path
from tests.gguf_files import write_test_gguf
folder = Path(sys.argv[1])
write_test_gguf(folder / "base", folder / "ours.gguf", "F16", adapter=folder / "adapter")
"""
_MERGE = """
import sys
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = Path(sys.argv[1])
base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto")
merged = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
merged.save_pretrained(folder / "merged")
AutoTokenizer.from_pretrained(folder / "base").save_pretrained(folder / "merged")
"""
# The converter knows tokenisers by a hash of token ids: it is told the name instead.
_CONVERT = """
import runpy, sys
from pathlib import Path
folder, checkout = Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = [checkout, checkout + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
out = str(folder / "theirs.gguf")
sys.argv = ["convert", str(folder / "merged"), "--outfile", out, "--outtype", "f16"]
runpy.run_path(checkout + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def measure(program: str, arguments: Sequence[str]) -> tuple[float, float]:
    """Run a program in a process of its own: seconds, and the most anonymous memory in MB."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=log,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(SAMPLE_S)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            sys.exit(log.read().decode(errors="replace")[-3000:])
    return seconds, peak / MEGABYTE


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is not backed by a file (Linux)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon:")), "0 0")
    return int(line.split()[1]) * 1024


def run(folder: Path, layers: int, checkout: str) -> dict[str, object]:
    """Both ways from one checkpoint."""
    measure(_MAKE, [str(folder), *map(json.dumps, (SHAPE, layers, TARGETS))])
    found: dict[str, object] = {"checkpoint_mb": size_mb(folder / "base")}
    stream_s, stream_mb = measure(_STREAM, [str(folder)])
    found["streaming"] = {"seconds": round(stream_s, 2), "anonymous_mb": round(stream_mb)}
    largest = SHAPE["embedding_rows"] * SHAPE["hidden"] * 4 / MEGABYTE
    found["allowed_mb"] = round(1.5 * largest + 500)
    if not checkout:
        return found
    merge_s, merge_mb = measure(_MERGE, [str(folder)])
    convert_s, convert_mb = measure(_CONVERT, [str(folder), checkout])
    usual_s, usual_mb = merge_s + convert_s, max(merge_mb, convert_mb)
    found["merge_and_save"] = {"seconds": round(merge_s, 2), "anonymous_mb": round(merge_mb)}
    found["converter"] = {"seconds": round(convert_s, 2), "anonymous_mb": round(convert_mb)}
    found["merged_copy_mb"] = size_mb(folder / "merged")
    found["time_ratio"] = round(stream_s / usual_s, 3)
    found["memory_ratio"] = round(stream_mb / usual_mb, 3)
    found["meets_limits"] = (
        stream_s <= TIME_LIMIT * usual_s and stream_mb <= MEMORY_LIMIT * usual_mb
    )
    return found


def size_mb(folder: Path) -> int:
    """Size of a folder's files."""
    return round(sum(path.stat().st_size for path in folder.rglob("*")) / MEGABYTE)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=22, help="22 make 1.1B weights")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is made for a while")
    arguments = parser.parse_args()
    checkout = os.environ.get("LLAMADUO_LLAMA_CPP", "")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print(json.dumps(run(Path(name), arguments.layers, checkout), indent=1))


if __name__ == "__main__":
    main()
