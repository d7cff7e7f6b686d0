"""The commands on data, and dataset folders through the `datasets` library, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def run(*arguments: str | Path, **environment: str) -> tuple[int, Any, str]:
    """Exit code, JSON document and standard error of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "llamaduo_gui", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, count in (("train", 40), ("test", 3)):
        rows = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_dataset_folder_is_previewed_made_a_project_and_exported(
    dataset: Path, tmp_path: Path
) -> None:
    code, found, _ = run("preview", f"hub:{dataset}")
    assert code == 0
    assert found["counts"]["records"] == 40
    assert found["mapping"] == {"prompt": "question", "response": "answer"}

    code, made, _ = run("new", tmp_path / "p", "--coverage", f"hub:{dataset}")
    assert (code, made["splits"]) == (0, {"train": 32, "validation": 4, "test": 4})

    code, out, _ = run(
        "export-data", tmp_path / "p", "--out", tmp_path / "o", "--format", "parquet"
    )
    assert code == 0
    again, found, _ = run("preview", tmp_path / "o" / "train.parquet")
    assert (again, found["counts"]["records"]) == (0, 32)
    assert out["records"]["train"] == 32


def test_a_split_that_is_not_there_and_a_dataset_offline_are_said(dataset: Path) -> None:
    code, found, _ = run("preview", f"hub:{dataset}#nope")
    assert code == 2
    assert "no split `nope`; name one of train, test" in found["error"]
    token = "hf_" + "secret" * 4
    code, found, said = run("preview", "hub:nobody/none@main", HF_HUB_OFFLINE="1", HF_TOKEN=token)
    assert code == 2
    assert "HF_HUB_OFFLINE forbids the network" in found["error"]
    assert token not in json.dumps(found) + said


def test_columns_are_mapped_and_layouts_named_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = "".join(f"p{n};r{n};c{n % 2}\n" for n in range(20))
    path.write_text("text;gold;kind\n" + rows, encoding="utf-8")
    code, found, said = run("preview", path)
    assert code == 2
    assert "`text`, `gold`, `kind`" in found["error"]
    mapping = ["prompt=text", "response=gold", "category=kind"]
    code, made, _ = run("new", tmp_path / "p", "--coverage", path, "--map", *mapping)
    assert (code, made["categories"]) == (0, 2)
    code, found, _ = run("preview", path, "--format", "alpacca")
    assert code == 2
    assert "did you mean `alpaca`" in found["error"]
    code, found, _ = run("preview", path, "--map", "prompt")
    assert code == 2
    assert "names no column" in found["error"]
    assert said == "" or "Traceback" not in said
