"""Batch inference on a GPU: at least five times a plain padded loop, and the same text anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch

from llamaduo_gui.core.config import InferenceConfig
from llamaduo_gui.core.types import Message
from llamaduo_gui.inference.base import Generation, GenerationSettings, PromptJob
from llamaduo_gui.inference.transformers_backend import TransformersBackend
from llamaduo_gui.pipeline.backends import choose_backend
from tests.benchmarks.inference_speed import make_jobs, make_model, run_backend, run_plain
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

TIMES = 5.0


def test_answers_come_at_five_times_the_speed_of_a_plain_loop(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = make_model(tmp_path / "model")
    probe = TransformersBackend.load(folder)
    jobs = make_jobs(lambda text: probe.encode_prompt([Message("user", text)]), 64, 4)
    probe.close()
    assert choose_backend(InferenceConfig(), folder)[0] == "transformers"
    # Kernels are chosen and memory is taken in the first batches.
    run_plain(folder, jobs[:16])
    run_backend(lambda: TransformersBackend.load(folder), jobs[:16])
    ratios = []
    for _ in range(3):
        plain_tokens, plain_s = run_plain(folder, jobs)
        tokens, seconds = run_backend(lambda: TransformersBackend.load(folder), jobs)
        ratios.append((tokens / seconds) / (plain_tokens / plain_s))
    record_property("tokens_per_second", round(tokens / seconds))
    record_property("ratios", [round(ratio, 2) for ratio in ratios])
    assert median(ratios) >= TIMES, ratios


def test_in_float32_an_answer_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    jobs = [
        PromptJob(number, sample, (Message("user", f"Which {number}?" * 3),), 9 * number + sample)
        for number in range(12)
        for sample in range(2)
    ]
    found: list[dict[tuple[int, int], str]] = []
    for rows in (64, 5):
        backend = TransformersBackend.load(folder, dtype="float32", max_rows=rows)
        texts: dict[tuple[int, int], str] = {}

        def keep(
            job: PromptJob, got: Generation, texts: dict[tuple[int, int], str] = texts
        ) -> None:
            texts[job.record_id, job.sample] = got.text

        backend.generate(jobs, GenerationSettings(0.8, 1.0, 24), keep, lambda: None)
        backend.close()
        found.append(texts)
    assert found[0] == found[1]


def test_a_token_budget_beyond_the_memory_is_halved_until_it_fits(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    backend = TransformersBackend.load(folder, token_budget=10**9, max_rows=100_000)
    turns = [(Message("user", f"{number} " + "word " * 800),) for number in range(800)]
    jobs = [PromptJob(number, 0, messages, number) for number, messages in enumerate(turns)]
    limit = torch.cuda.memory_allocated() + 2 * 2**30
    torch.cuda.set_per_process_memory_fraction(
        limit / torch.cuda.get_device_properties(0).total_memory
    )
    notes: list[str] = []
    texts: list[str] = []
    try:
        backend.generate(
            jobs,
            GenerationSettings(0.8, 1.0, 8),
            lambda _job, got: texts.append(got.text),
            lambda: None,
            notes.append,
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        backend.close()
    assert len(texts) == 800
    assert notes
    assert "did not fit into memory" in notes[0]
