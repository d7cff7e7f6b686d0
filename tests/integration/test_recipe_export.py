"""`recipe DIR --out sft.yaml` writes what TRL alone can train from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.cli import main
from llamaduo_gui.core.config import PipelineConfig, StudentConfig
from llamaduo_gui.core.types import Message, Record, Split
from llamaduo_gui.store.project import Project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    student = StudentConfig(
        base_model="builtin:tiny", recipe="quick", overrides={"max_length": 64, "eval": "epoch"}
    )
    with Project.create(tmp_path / "p", PipelineConfig(student=student)) as project:
        records = []
        for number in range(12):
            turns = (Message("user", f"Double {number}?"), Message("assistant", f"{2 * number}"))
            split = Split.TRAIN if number < 8 else Split.VALIDATION
            records.append((Record(turns, "sums", f"p{number}"), split, f"f:{number}"))
        project.records.add_coverage(records)
    return tmp_path / "p"


@pytest.mark.extended
def test_trl_trains_from_what_the_command_wrote(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.scripts.sft import main as train
    from trl.scripts.sft import make_parser

    out = tmp_path / "export" / "sft.yaml"
    out.parent.mkdir()
    assert main(["recipe", str(folder), "--out", str(out)]) == 0
    rows = (out.parent / "sft-data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 8
    assert json.loads(rows[0])["messages"][-1]["role"] == "assistant"
    monkeypatch.chdir(out.parent)
    parsed = make_parser(prog="trl sft").parse_args_and_config(["--config", "sft.yaml"])
    train(*parsed)
    assert (out.parent / "sft-output" / "adapter_model.safetensors").is_file()
