"""Tokens a second of batch inference against a plain loop of padded `generate` calls, in one run.

Run: python tests/benchmarks/inference_speed.py [--prompts 64] [--samples 1] [--runs 1]

The loop is what scripts for this purpose do: eight prompts at a time in the given order, padded to
the longest, sampled with `generate`. The model has random weights (100 million of them) and real
shapes; prompts are those of shared coverage data where it lies beside the checkout, else made up,
cut to the lengths such data has (34 to 435 tokens). Ratios count: other work on the machine slows
every line of one run alike.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from llamaduo_gui.core.ml_libraries import prepare_ml_libraries  # noqa: E402

# Before torch is imported: waiting threads that spin would slow every line beside other work.
prepare_ml_libraries()

from llamaduo_gui.core.config import InferenceConfig  # noqa: E402
from llamaduo_gui.core.types import Message  # noqa: E402
from llamaduo_gui.inference.base import (  # noqa: E402
    Backend,
    Generation,
    GenerationSettings,
    PromptJob,
)
from llamaduo_gui.inference.llama_cpp_backend import LlamaCppBackend  # noqa: E402
from llamaduo_gui.inference.transformers_backend import TransformersBackend  # noqa: E402
from llamaduo_gui.pipeline.backends import choose_backend  # noqa: E402
from tests.gguf_files import write_test_gguf  # noqa: E402
from tests.tiny_models import make_tiny_model  # noqa: E402

PLAIN = "plain loop, 8 padded"
BATCH = 8
NEW_TOKENS = 64
SHORTEST, LONGEST = 34, 435
SETTINGS = GenerationSettings(temperature=0.8, max_new_tokens=NEW_TOKENS)


def make_model(folder: Path) -> Path:
    """A llama of 100 million random weights."""
    return make_tiny_model(
        folder,
        hidden=768,
        layers=12,
        heads=12,
        kv_heads=4,
        intermediate=2048,
        vocab=2048,
        embedding_rows=32_000,
        context=2048,
        tie=True,
    )


def make_jobs(encode: Callable[[str], Sequence[int]], prompts: int, samples: int) -> list[Any]:
    """Prompts of mixed lengths in tokens of this model, in random order."""
    draw = random.Random(0)
    jobs = []
    for number, text in enumerate(_texts(draw, prompts)):
        # Half of such prompts are short: their lengths are about log-normal.
        wanted = min(LONGEST, max(SHORTEST, int(draw.lognormvariate(4.6, 0.8))))
        words = (text + " ") * (1 + 4 * wanted // len(text.split()))
        low, high = 1, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if len(encode(words[:middle])) <= wanted else (low, middle - 1)
            )
        turns = (Message("user", words[:low]),)
        jobs += [
            PromptJob(number, sample, turns, 100 * number + sample) for sample in range(samples)
        ]
    return jobs


def _texts(draw: random.Random, count: int) -> list[str]:
    folder = ROOT.parent / "shared" / "data" / "coverage"
    found = [
        str(json.loads(line)["prompt"])
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    if not found:
        words = ["which", "queue", "invoice", "customer", "kilometres", "weather", "spring", "code"]
        return [" ".join(draw.choices(words, k=90)) + f" {number}" for number in range(count)]
    return draw.sample(found, count)


def run_plain(folder: Path, jobs: Sequence[PromptJob]) -> tuple[int, float]:
    """The plain loop: tokens and seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    tokens, started = 0, time.perf_counter()
    for first in range(0, len(jobs), BATCH):
        texts = [
            tokenizer.apply_chat_template(
                [turn.to_dict() for turn in job.messages],
                tokenize=False,
                add_generation_prompt=True,
            )
            for job in jobs[first : first + BATCH]
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True).to(device)
        with torch.inference_mode():
            found = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=True, temperature=0.8, top_k=0
            )
        answers = found[:, inputs["input_ids"].shape[1] :]
        tokenizer.batch_decode(answers, skip_special_tokens=True)
        tokens += int((answers != tokenizer.pad_token_id).sum())
    return tokens, time.perf_counter() - started


def run_backend(load: Callable[[], Backend], jobs: Sequence[PromptJob]) -> tuple[int, float]:
    """One of ours: tokens and seconds, loading left out as for the plain loop."""
    backend = load()
    found: list[Generation] = []
    started = time.perf_counter()
    backend.generate(jobs, SETTINGS, lambda _job, item: found.append(item), lambda: None)
    seconds = time.perf_counter() - started
    backend.close()
    return sum(item.completion_tokens for item in found), seconds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1, help="responses to each prompt")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the lines' names")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_model(Path(place) / "model")
        quants = {quant: Path(place) / f"{quant}.gguf" for quant in ("F16", "Q8_0")}
        for quant, path in quants.items():
            write_test_gguf(folder, path, quant)
        probe = TransformersBackend.load(folder)
        jobs = make_jobs(
            lambda text: probe.encode_prompt([Message("user", text)]),
            options.prompts,
            options.samples,
        )
        lengths = [len(probe.encode_prompt(job.messages)) for job in jobs[:: options.samples]]
        probe.close()
        print(
            f"{len(lengths)} prompts of {min(lengths)}..{max(lengths)} tokens, median "
            f"{median(lengths):g}, {options.samples} responses of {NEW_TOKENS} tokens each"
        )
        load = TransformersBackend.load
        lines: dict[str, Callable[[], tuple[int, float]]] = {PLAIN: lambda: run_plain(folder, jobs)}
        for dtype in ("float32", "bfloat16"):
            lines[f"transformers {dtype}"] = lambda dtype=dtype: run_backend(
                lambda: load(folder, dtype=dtype), jobs
            )
        for quant, path in quants.items():
            lines[f"llama_cpp {quant}"] = lambda path=path: run_backend(
                lambda: LlamaCppBackend(path), jobs
            )
        print(choose_backend(InferenceConfig(), folder)[1])
        measure(lines, options.runs, options.only)


def measure(
    lines: dict[str, Callable[[], tuple[int, float]]], runs: int, only: Sequence[str]
) -> None:
    """Run every line in turn, `runs` times, and print speeds and ratios to the plain loop."""
    ratios: dict[str, list[float]] = {}
    for number in range(runs):
        speeds: dict[str, float] = {}
        for name, work in lines.items():
            if only and name != PLAIN and not any(part in name for part in only):
                continue
            tokens, seconds = work()
            speeds[name] = tokens / seconds
            ratio = speeds[name] / speeds[PLAIN]
            ratios.setdefault(name, []).append(ratio)
            print(
                f"run {number + 1}  {name:<28} {speeds[name]:8.1f} tokens/s  {ratio:5.2f}x",
                flush=True,
            )
    if runs > 1:
        for name, found in ratios.items():
            print(f"{name:<28} {min(found):.2f}x..{max(found):.2f}x, median {median(found):.2f}x")


if __name__ == "__main__":
    main()
