"""Making a project from coverage files: what is read, frozen, refused and left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaduo_gui.core.config import SplitConfig
from llamaduo_gui.core.errors import JobCancelledError, UserError
from llamaduo_gui.core.types import Split
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.splits import assign_splits
from llamaduo_gui.pipeline.create import create_demo, create_project
from llamaduo_gui.store.project import PASSAGE_GROUPS, Project


def write_pairs(path: Path, count: int, *extra_lines: str) -> Path:
    lines = [
        json.dumps({"prompt": f"What is {n} plus {n}?", "response": str(2 * n)})
        for n in range(count)
    ]
    path.write_text("\n".join([*lines, *extra_lines]) + "\n", encoding="utf-8")
    return path


def test_splits_are_frozen_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 50)
    chosen = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        create_project(tmp_path / name, [source], seed=seed)
        with Project.open(tmp_path / name) as project:
            assert project.config.seed == seed
            chosen.append([row.record.prompt_id for row in project.records.by_split(Split.TEST)])
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_broken_line_is_refused_or_left_out_as_the_user_chooses(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 30, '{"prompt": "half a li')
    with pytest.raises(UserError, match="31"):
        create_project(tmp_path / "a", [source], on_error="refuse")
    assert not (tmp_path / "a").exists()
    created = create_project(tmp_path / "b", [source], on_error="keep")
    assert sum(created.splits.values()) == 30
    assert "line 31" in created.warnings[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "does not exist"),
        ("", "empty"),
        ('{"text": "a", "label": "b"}\n', "text"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": "c", "response": "d"}\n', "10"),
    ],
    ids=["missing", "empty", "wrong columns", "too few rows"],
)
def test_files_that_are_not_fit_leave_nothing_behind(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    source = tmp_path / "c.jsonl"
    if content is not None:
        source.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        create_project(tmp_path / "p", [source])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "p").exists()


def test_an_unknown_key_in_the_settings_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 30)
    settings = tmp_path / "pipeline.yaml"
    settings.write_text("judge: []\n", encoding="utf-8")
    with pytest.raises(UserError, match="did you mean `judges`"):
        create_project(tmp_path / "p", [source], config_path=settings)
    assert not (tmp_path / "p").exists()


def test_the_users_own_settings_file_is_kept_with_its_comments(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 30)
    settings = tmp_path / "pipeline.yaml"
    settings.write_text("# mine\ntask: sums\n", encoding="utf-8")
    create_project(tmp_path / "p", [source], config_path=settings)
    assert (tmp_path / "p" / "pipeline.yaml").read_text(encoding="utf-8").startswith("# mine")


def test_the_demo_project_is_made_once_and_then_opened(tmp_path: Path) -> None:
    with create_demo(tmp_path / "demo") as first:
        first.set_setting("mark", 1)
        assert len(first.records.by_split(Split.TRAIN)) > 100
        assert first.config.student.base_model == "builtin:tiny"
    with create_demo(tmp_path / "demo") as again:
        assert again.get_setting("mark") == 1


def test_the_stored_splits_are_the_planned_ones_also_beyond_one_batch(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 2300)
    told: list[tuple[int, int]] = []
    created = create_project(
        tmp_path / "p", [source], on_progress=lambda done, total: told.append((done, total))
    )
    records = read_records(source).records
    planned = assign_splits(records, SplitConfig())
    with Project.open(tmp_path / "p") as project:
        for split in Split:
            wanted = [r for r, s in zip(records, planned, strict=True) if s is split]
            assert [row.record for row in project.records.by_split(split)] == wanted
            assert created.splits[split.value] == len(wanted)
    assert told[-1] == (source.stat().st_size,) * 2


def test_an_import_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 3000)

    def stop(done: int, total: int) -> None:
        raise JobCancelledError("Stopped.")

    with pytest.raises(JobCancelledError):
        create_project(tmp_path / "p", [source], on_progress=stop)
    assert not (tmp_path / "p").exists()


def test_every_format_makes_the_same_project(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "c.jsonl", 30)
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    other = tmp_path / "c.json"
    other.write_text(json.dumps(rows), encoding="utf-8")
    first = create_project(tmp_path / "a", [source])
    second = create_project(tmp_path / "b", [str(other)])
    assert first.splits == second.splits
    assert second.formats == {"prompt and response columns": 30}


def test_evaluation_prompts_about_one_passage_are_known_as_a_group(tmp_path: Path) -> None:
    rows = []
    for passage in range(24):
        words = " ".join(f"w{passage}x{place}" for place in range(50))
        questions = ("who", "when") if passage < 20 else ("who",)
        rows += [{"prompt": f"{words} {one}?", "response": f"{passage} {one}"} for one in questions]
    source = tmp_path / "c.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    create_project(tmp_path / "p", [source])
    with Project.open(tmp_path / "p") as project:
        groups = project.get_setting(PASSAGE_GROUPS)
        held_out = [
            row.record
            for split in (Split.VALIDATION, Split.TEST)
            for row in project.records.by_split(split)
        ]
    members: dict[int, set[str]] = {}
    for record in held_out:
        if record.prompt_id in groups:
            members.setdefault(groups[record.prompt_id], set()).add(record.instruction.split()[0])
    assert len(members) >= 3
    assert all(len(passages) == 1 for passages in members.values())
    assert len(groups) == 2 * len(members)
