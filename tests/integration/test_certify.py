"""Tests that certification passes good files and catches faulty ones by their cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from llamaduo_gui.core.config import validate_config
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.events import Event, Progress
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Message, Record, RunStatus, Split, Stage
from llamaduo_gui.core.weights_hash import hash_weights
from llamaduo_gui.export.stage import run_export
from llamaduo_gui.pipeline.certify import find_student, hash_file
from llamaduo_gui.pipeline.execute import Executor
from llamaduo_gui.pipeline.single import run_single
from llamaduo_gui.store.project import Project
from tests.adapters import make_test_adapter
from tests.gguf_faults import REMOVED, edit_gguf, reorder_rope
from tests.tiny_models import make_tiny_model

HEADS, KV_HEADS = 8, 2
ROUND = 1


class Bench:
    """A project with a student of round 1, its test split and exported files."""

    def __init__(self, folder: Path, base: Path) -> None:
        config = validate_config({"task": "tickets", "student": {"base_model": str(base)}})
        self.project = Project.create(folder, config)
        self.base = base
        self.events: list[Event] = []
        self.context = JobContext(self.events.append)
        turns = [
            (Message("user", f"Ticket {i}: which queue?"), Message("assistant", f"billing {i}"))
            for i in range(12)
        ]
        self.project.records.add_coverage(
            [(Record(pair, "t", f"p{i}"), Split.TEST, f"f:{i}") for i, pair in enumerate(turns)]
        )
        self.adapter = self.project.paths.round_dir(ROUND) / "adapter"
        make_test_adapter(
            base, self.adapter, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]
        )
        run = self.project.runs.find_or_create("finetune:r1", Stage.FINETUNE, round_number=ROUND)
        self.project.runs.finish(run.id, RunStatus.SUCCEEDED)
        self.project.artifacts.add(run.id, "adapter", self.adapter, round_number=ROUND)
        self._files: dict[str, Path] = {}

    def file(self, quant: str = "F16") -> Path:
        """The exported student."""
        if quant not in self._files:
            key = f"export:{quant}:r1"
            run = self.project.runs.find_or_create(key, Stage.EXPORT, round_number=ROUND)
            summary = run_export(
                self.project,
                run,
                self.context,
                round_number=ROUND,
                quant=quant,
                config=self.project.config,
            )
            self._files[quant] = self.project.folder / summary["path"]
        return self._files[quant]

    def certify(self, path: Path) -> dict[str, Any]:
        """Certify a file as the command does, without judges."""
        return run_single(
            self.project, self.context, {"stage": "certify", "gguf": str(path), "judge": False}
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One project for all tests; the vocabulary is padded, as real ones are."""
    folder = tmp_path_factory.mktemp("certify")
    base = make_tiny_model(
        folder / "base",
        hidden=256,
        intermediate=512,
        heads=HEADS,
        kv_heads=KV_HEADS,
        rope_theta=5_000.0,
        embedding_rows=560,
        layers=3,
    )
    # As made, the weights are wide enough that rounding grows from layer to layer.
    path = base / "model.safetensors"
    weights = {n: v / 4 if v.ndim == 2 else v for n, v in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    found = Bench(folder / "project", base)
    yield found
    found.project.close()


def state(result: dict[str, Any], name: str) -> str:
    """What became of one check."""
    return next((check["state"] for check in result["checks"] if check["name"] == name), "missing")


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M"])
def test_an_exported_file_is_certified(bench: Bench, quant: str) -> None:
    result = bench.certify(bench.file(quant))
    assert result["causes"] == []
    assert result["is_certified"] is True
    names = ["header", "template", "weights", "load", "stops", "tokens", "divergence"]
    assert [state(result, name) for name in names] == ["passed"] * len(names)
    assert state(result, "scores") == "skipped"
    assert result["quant"] == quant
    assert result["tokens"] == {"prompts": 12, "differing": 0, "difference": ""}
    assert result["divergence"]["prompts"] == 8
    assert 8 * 3 <= result["divergence"]["positions"] <= 8 * 32
    assert result["performance"]["generation_tokens_per_second"] > 0
    assert result["performance"]["memory_mb"] > 0


def test_the_certificate_names_file_student_base_and_versions(bench: Bench) -> None:
    path = bench.file()
    result = bench.certify(path)
    assert result["sha256"] == hash_file(path)
    assert result["student_sha256"] == hash_weights(bench.adapter)
    assert result["base_sha256"] == hash_weights(bench.base)
    assert result["size_bytes"] == path.stat().st_size
    assert {"torch", "transformers", "gguf", "llama-cpp-python"} <= set(result["versions"])
    assert result["made_at"].endswith("+00:00")
    run = bench.project.runs.by_key("certify:F16:r1")
    assert run is not None
    assert run.summary == result
    progress = [event for event in bench.events if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total


Edit = Callable[[Path, Path], Path]


def with_metadata(**values: Any) -> Edit:
    """A fault in the header; dots of the key are written as `__`."""
    changes = {key.replace("__", "."): value for key, value in values.items()}
    return lambda source, target: edit_gguf(source, target, metadata=changes)


def without_rope_order(source: Path, target: Path) -> Path:
    """Queries and keys as the trainer has them."""
    edits = {f"blk.{i}.attn_q.weight": reorder_rope(HEADS, undo=True) for i in range(3)}
    edits |= {f"blk.{i}.attn_k.weight": reorder_rope(KV_HEADS, undo=True) for i in range(3)}
    return edit_gguf(source, target, tensors=edits)


def with_keys_ordered_for_all_heads(source: Path, target: Path) -> Path:
    """Keys ordered as if there were as many of their heads as of the queries'."""

    def edit(rows: np.ndarray) -> np.ndarray:
        plain = reorder_rope(KV_HEADS, undo=True)(rows)
        return reorder_rope(HEADS, undo=False)(plain)

    return edit_gguf(source, target, tensors={f"blk.{i}.attn_k.weight": edit for i in range(3)})


def without_pad_rows(source: Path, target: Path) -> Path:
    """As many tokens as the tokeniser has, fewer than the embedding's rows."""
    from llamaduo_gui.core.gguf_file import check_gguf

    metadata = check_gguf(source).metadata
    keys = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    changes = {key: metadata[key][:500] for key in keys}
    return edit_gguf(source, target, metadata=changes)


FAULTS: dict[str, tuple[Edit, str, set[str]]] = {
    "no RoPE permutation": (without_rope_order, "RoPE permutation", {"weights", "divergence"}),
    "keys ordered for the wrong number of heads": (
        with_keys_ordered_for_all_heads,
        "attn_k.weight is not the student's",
        {"weights", "divergence"},
    ),
    "wrong KV head count": (
        with_metadata(llama__attention__head_count_kv=4),
        "head_count_kv is 4 in the file and 2 in the student",
        {"header", "load"},
    ),
    "wrong BOS flag": (
        with_metadata(tokenizer__ggml__add_bos_token=True, tokenizer__ggml__eos_token_id=2),
        "prepends a BOS the tokeniser lacks",
        {"header", "tokens"},
    ),
    "missing pad rows": (without_pad_rows, "whose embedding has 560 rows", {"header", "load"}),
    "lost chat template": (
        with_metadata(tokenizer__chat_template=REMOVED),
        "lost its chat template",
        {"template", "tokens"},
    ),
    "changed chat template": (
        with_metadata(tokenizer__chat_template="{{ messages[0]['content'] }}"),
        "not the one the student was trained with",
        {"template", "tokens"},
    ),
    "wrong rope theta": (
        with_metadata(llama__rope__freq_base=500_000.0),
        "rope.freq_base is 500000.0 in the file and 5000.0 in the student",
        {"header", "divergence"},
    ),
    "wrong pre-tokeniser": (
        with_metadata(tokenizer__ggml__pre="gpt-2"),
        "tokenizer.ggml.pre is gpt-2 in the file and qwen2 in the student",
        {"header"},
    ),
    "unknown pre-tokeniser": (
        with_metadata(tokenizer__ggml__pre="nobody-knows"),
        "tokenizer.ggml.pre is nobody-knows",
        {"header", "load"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_and_the_cause_named(
    bench: Bench, tmp_path: Path, fault: str
) -> None:
    edit, words, expected = FAULTS[fault]
    result = bench.certify(edit(bench.file("F16"), tmp_path / "faulty.gguf"))
    assert result["is_certified"] is False
    assert words in result["causes"][0]
    failed = {check["name"] for check in result["checks"] if check["state"] == "failed"}
    assert failed == expected


def test_a_file_that_is_cut_off_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(bench.file().read_bytes()[:-1000])
    result = bench.certify(path)
    assert (result["is_certified"], state(result, "load")) == (False, "failed")
    assert "cut off" in result["causes"][0]


def test_the_weights_of_another_student_are_refused(bench: Bench, tmp_path: Path) -> None:
    noisy = {"blk.1.ffn_down.weight": lambda rows: (rows * np.float16(1.2)).astype(rows.dtype)}
    result = bench.certify(edit_gguf(bench.file(), tmp_path / "other.gguf", tensors=noisy))
    assert "blk.1.ffn_down.weight is not the student's" in result["causes"][0]
    assert "relative error 0.2" in result["causes"][0]


def test_a_copy_of_an_exported_file_counts_as_that_one(bench: Bench, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(bench.file("Q8_0").read_bytes())
    result = bench.certify(copy)
    assert result["file"] == bench.file("Q8_0").name


def test_what_cannot_be_certified_is_said(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        bench.certify(tmp_path / "none.gguf")
    with pytest.raises(UserError, match="Round 7 has no trained student"):
        find_student(bench.project, bench.project.config, 7)


def test_the_loops_step_certifies_the_exported_file(bench: Bench) -> None:
    from llamaduo_gui.pipeline.plan import certify_step

    path = bench.file("Q8_0")
    executor = Executor(bench.project, bench.context, bench.project.config, 1)
    run = executor.run(certify_step(ROUND, "Q8_0"), again=True)
    assert run.summary["path"] == str(path)
    assert run.summary["is_certified"] is True
