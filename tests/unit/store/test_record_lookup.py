"""Looking records up by id, prompt and sorted view, as tables that show a few rows at a time do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import Message, Record, RecordStatus, Split
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewSynthetic, RecordFilter


def _record(text: str, category: str) -> Record:
    turns = (Message("user", f"Ask {text}"), Message("assistant", f"Answer {text}"))
    return Record(turns, category, f"p-{text}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", PipelineConfig()) as made:
        words = ("pear", "apple", "fig", "kiwi")
        made.records.add_coverage(
            (_record(word, "ab"[number % 2]), Split.TRAIN, f"file:{number}")
            for number, word in enumerate(words)
        )
        made.records.add_synthetic(
            [NewSynthetic(_record("plum", "a"), 1, "r1:0:0", RecordStatus.REJECTED)]
        )
        yield made


def _words(project: Project, ids: list[int]) -> list[str]:
    return [row.record.prompt_id[2:] for row in project.records.by_ids(ids)]


def test_ids_come_in_the_order_of_the_sorted_column(project: Project) -> None:
    rising = project.records.ids(RecordFilter(), sort="instruction")
    falling = project.records.ids(RecordFilter(), sort="instruction", is_descending=True)

    assert _words(project, list(rising)) == ["apple", "fig", "kiwi", "pear", "plum"]
    assert list(falling) == list(rising)[::-1]


def test_ids_of_a_filter_are_those_of_its_pages(project: Project) -> None:
    view = RecordFilter(text="ANSWER P", statuses=frozenset({RecordStatus.KEPT}))

    ids = list(project.records.ids(view))

    assert ids == [row.id for row in project.records.page(view, offset=0, limit=10)]
    assert _words(project, ids) == ["pear"]


def test_sorting_by_status_puts_rejected_pairs_together(project: Project) -> None:
    ids = project.records.ids(RecordFilter(), sort="status")

    assert _words(project, list(ids))[-1] == "plum"


def test_records_come_in_the_order_of_the_ids_asked_for(project: Project) -> None:
    ids = list(project.records.ids(RecordFilter()))

    assert _words(project, [ids[2], 10_000, ids[0]]) == ["fig", "pear"]
    assert project.records.by_ids([]) == []


def test_a_prompt_is_found_by_its_identifier(project: Project) -> None:
    found = project.records.by_prompt_id("p-kiwi")

    assert found is not None
    assert found.record.instruction == "Ask kiwi"
    assert project.records.by_prompt_id("p-none") is None
