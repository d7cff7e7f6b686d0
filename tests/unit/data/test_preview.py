"""Tests of the preview: it says what an import would make, and makes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import DataError
from llamaduo_gui.data.conversion import make_options
from llamaduo_gui.data.preview import Preview, make_preview, suggest_mapping
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.splits import assign_splits


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pairs(count: int, prompt: str = "prompt", response: str = "response") -> list[Any]:
    return [{prompt: f"question {n}", response: f"answer {n}", "topic": "a"} for n in range(count)]


def test_a_preview_counts_what_the_import_will_make(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [*pairs(40), "{", pairs(1)[0], {"prompt": "a"}])
    found = make_preview([path], splits=SplitConfig(seed=7))
    counts = found.counts
    assert counts is not None
    result = read_records(path)
    splits = assign_splits(result.records, SplitConfig(seed=7))
    assert (counts.rows, counts.records, counts.copies, counts.problem_count) == (43, 40, 1, 2)
    assert counts.splits == {
        "train": splits.count("train"),  # type: ignore[arg-type]
        "validation": 4,
        "test": 4,
    }
    assert [item["line_number"] for item in counts.problems] == [41, 43]
    assert found.mapping == {"prompt": "prompt", "response": "response"}
    assert (found.layout, found.error) == ("pairs", "")
    assert found.rows[0].messages[1] == {"role": "assistant", "content": "answer 0"}
    assert len(found.rows) == 20
    assert not found.suggestion


def test_the_json_form_gives_the_same_preview_back(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [*pairs(12), "{"])
    found = make_preview([path])
    assert Preview.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_unknown_columns_are_shown_with_a_guess_that_works(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", pairs(20, "ticket_text", "gold"))
    found = make_preview([path])
    assert "no usable line" in found.error
    assert [column.name for column in found.columns] == ["ticket_text", "gold", "topic"]
    assert found.columns[0].sample == "question 0"
    assert found.suggestion == {}
    named = write(tmp_path / "named.jsonl", pairs(20, "ticket_text", "gold_label"))
    guess = make_preview([named]).suggestion
    assert guess == {"prompt": "ticket_text", "response": "gold_label", "category": "topic"}
    mapped = make_preview([named], make_options(mapping=guess))
    assert not mapped.error
    assert mapped.mapping == guess
    assert mapped.rows[0].category == "a"


def test_two_text_columns_are_guessed_in_their_order() -> None:
    assert suggest_mapping([{"alpha": "a", "n": 3, "beta": "b"}]) == {
        "prompt": "alpha",
        "response": "beta",
    }
    assert suggest_mapping([{"alpha": "a", "n": 3}]) == {}


def test_a_quick_preview_reads_the_first_rows_only(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [*pairs(60), "{"])
    found = make_preview([path], is_whole=False)
    assert found.counts is None
    assert len(found.rows) == 20


def test_several_files_share_the_rows_shown(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", pairs(30))
    two = write(tmp_path / "two.jsonl", [{"messages": []}, *pairs(30, "question", "answer")])
    found = make_preview([one, two])
    assert {row.file for row in found.rows} == {"one.jsonl", "two.jsonl"}
    assert [source.name for source in found.sources] == ["one.jsonl", "two.jsonl"]
    assert next(row for row in found.rows if row.file == "two.jsonl").problem


def test_too_few_prompts_are_said_with_the_rows(tmp_path: Path) -> None:
    found = make_preview([write(tmp_path / "data.jsonl", pairs(3))])
    assert "too few" in found.error
    assert len(found.rows) == 3


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make_preview([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="No data file"):
        make_preview([])
