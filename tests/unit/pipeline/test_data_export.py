"""Exporting a project's data: files of every split, read back equal, and an honest card."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from llamaduo_gui.core.config import JudgeConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import Message, Record, RecordStatus, RejectReason, Split
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.pipeline.create import create_project
from llamaduo_gui.pipeline.data_export import FORMATS, export_data
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewSynthetic
from tests.unit.pipeline.test_create import write_pairs

SERVICE = ServiceConfig(provider="offline", model="tutor")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    config = PipelineConfig(
        task="sums | more", teacher=SERVICE, judges=(JudgeConfig(**SERVICE.model_dump()),)
    )
    source = write_pairs(tmp_path / "sums.jsonl", 50)
    create_project(tmp_path / "project", [source], config=config)
    opened = Project.open(tmp_path / "project")
    opened.records.add_synthetic([make_pair(number) for number in range(6)])
    return opened


def make_pair(number: int) -> NewSynthetic:
    turns = (
        Message("system", "Be brief."),
        Message("user", f"synthetic {number}\u2028?"),
        Message("assistant", "a\n"),
    )
    record = Record(turns, "made", f"syn-{number}", "offline:tutor", "seed")
    if number < 4:
        return NewSynthetic(record, 1 + number % 2, f"1:{number}:0")
    reason = RejectReason.NEAR_DUPLICATE
    return NewSynthetic(record, 1, f"1:{number}:0", RecordStatus.REJECTED, reason)


@pytest.mark.parametrize("formats", [["messages"], ["parquet"], list(FORMATS)])
def test_every_split_is_read_back_equal(
    project: Project, tmp_path: Path, formats: list[str]
) -> None:
    with project:
        told: list[tuple[int, int]] = []
        exported = export_data(
            project,
            tmp_path / "out",
            formats,  # type: ignore[arg-type]
            lambda done, total: told.append((done, total)),
        )
        assert exported.records == {"train": 44, "validation": 5, "test": 5}
        assert told[-1] == (54 * len(formats), 54 * len(formats))
        suffixes = ["jsonl" if kind == "messages" else "parquet" for kind in formats]
        for suffix in suffixes:
            for split in Split:
                path = tmp_path / "out" / f"{split.value}.{suffix}"
                wanted = [row.record for row in project.records.by_split(split)]
                if split is Split.TRAIN:
                    wanted = [row.record for row in project.records.training_set(9)]
                assert read_records(path, on_error="refuse").records == wanted
    assert sorted(exported.files) == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_the_card_says_where_everything_comes_from(project: Project, tmp_path: Path) -> None:
    with project:
        export_data(project, tmp_path / "out", FORMATS)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "other"
    assert facts["configs"][0]["data_files"][0] == {"split": "train", "path": "train.jsonl"}
    assert facts["configs"][1]["data_files"][2] == {"split": "test", "path": "test.parquet"}
    assert "# sums \\| more" in body
    assert "| synthetic | 2 | 2 |" in body
    assert "Teacher: `offline:tutor`" in body
    assert "`near_duplicate_jaccard`: 0.8" in body
    assert "near duplicate 2" in body
    assert "4 records are output of `offline:tutor`" in body
    assert "| made | 4 |" in body
    assert str(tmp_path) not in text


def test_an_export_is_replaced_and_other_files_are_left_alone(
    project: Project, tmp_path: Path
) -> None:
    with project:
        export_data(project, tmp_path / "out")
        export_data(project, tmp_path / "out")
        (tmp_path / "out" / "mine.txt").write_text("x", encoding="utf-8")
        with pytest.raises(UserError, match=r"holds other files \(mine.txt\)"):
            export_data(project, tmp_path / "out")
        with pytest.raises(UserError, match="is a file"):
            export_data(project, tmp_path / "sums.jsonl")
