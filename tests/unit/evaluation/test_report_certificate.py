"""Tests of what the report says about the certification of the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.evaluation.report_certificate import (
    certificate_caveat,
    certificate_of,
    certificate_section,
)
from llamaduo_gui.store.project import Project

CERTIFICATE: dict[str, Any] = {
    "is_certified": True,
    "verdict": "Certified",
    "causes": [],
    "checks": [{"name": "load", "title": "Loading <b>", "state": "passed", "text": "It loads."}],
    "file": "m.gguf",
    "sha256": "aa",
    "student_sha256": "bb",
    "base_sha256": "cc",
    "size_bytes": 2_000_000,
    "performance": {
        "prompt_tokens_per_second": 1234.0,
        "generation_tokens_per_second": 56.0,
        "memory_mb": 12.0,
        "threads": 1,
    },
    "versions": {"gguf": "0.19.0"},
    "made_at": "2026-11-22T10:00:00+00:00",
}


def test_the_page_shows_checks_numbers_hashes_versions_and_date() -> None:
    page = certificate_section(CERTIFICATE)
    assert "Loading &lt;b&gt;" in page
    for text in ("Certified", "It loads.", "aa", "bb", "cc", "gguf 0.19.0", "2026-11-22 10:00:00"):
        assert text in page
    assert "1,234 prompt tokens/s, 56 generated tokens/s (1 thread)" in page
    assert certificate_section(None) == ""


def test_a_file_that_diverges_is_the_first_caveat() -> None:
    refused = {**CERTIFICATE, "is_certified": False, "causes": ["It prepends a BOS."]}
    assert certificate_caveat(refused) == [
        "The exported file is not certified and not ready for use. It prepends a BOS."
    ]
    assert certificate_caveat(CERTIFICATE) == certificate_caveat(None) == []


@pytest.mark.parametrize("is_same_file", [True, False])
def test_only_a_certificate_of_these_bytes_counts(tmp_path: Path, is_same_file: bool) -> None:
    with Project.create(tmp_path / "p", PipelineConfig()) as project:
        path = tmp_path / "p" / "m.gguf"
        path.write_bytes(b"weights")
        run = project.runs.find_or_create("certify:F16:r0", Stage.CERTIFY, round_number=0)
        row = project.artifacts.add(run.id, "gguf", path, round_number=0, meta={"quant": "F16"})
        assert certificate_of(project, row) is None
        sha256 = row.sha256 if is_same_file else "another"
        summary = {**CERTIFICATE, "sha256": sha256}
        project.runs.finish(run.id, RunStatus.SUCCEEDED, summary=summary)
        assert certificate_of(project, row) == (summary if is_same_file else None)
