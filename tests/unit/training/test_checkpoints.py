"""Only a checkpoint written to its end, and of the same plan, is gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaduo_gui.training.checkpoints import is_complete, mark_complete, open_checkpoints
from llamaduo_gui.training.plan import PlanChangedError

PLAN = {"recipe": {"training": {"epochs": 3}}, "seed": 1}


def save(folder: Path, step: int, *, is_marked: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"w" * 100)
    (checkpoint / "optimizer").write_bytes(b"o" * 200)
    if is_marked:
        mark_complete(checkpoint)
    return checkpoint


def test_a_first_run_starts_from_the_base(tmp_path: Path) -> None:
    assert open_checkpoints(tmp_path / "checkpoints", PLAN) is None


def test_the_newest_complete_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    open_checkpoints(tmp_path, PLAN)
    for step in (9, 10, 100):
        save(tmp_path, step)
    assert open_checkpoints(tmp_path, PLAN) == tmp_path / "checkpoint-100"


def test_a_kill_while_saving_goes_back_to_the_one_before(tmp_path: Path) -> None:
    open_checkpoints(tmp_path, PLAN)
    save(tmp_path, 10)
    broken = save(tmp_path, 20, is_marked=False)
    assert open_checkpoints(tmp_path, PLAN) == tmp_path / "checkpoint-10"
    assert not broken.exists()


def test_a_file_cut_short_makes_a_checkpoint_incomplete(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 10)
    assert is_complete(checkpoint)
    (checkpoint / "optimizer").write_bytes(b"o" * 199)
    assert not is_complete(checkpoint)


def test_a_file_that_is_gone_makes_a_checkpoint_incomplete(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 10)
    (checkpoint / "weights").unlink()
    assert not is_complete(checkpoint)


OTHER = {"recipe": {"training": {"epochs": 4}}, "seed": 1}


def test_checkpoints_of_another_plan_are_refused_with_what_changed(tmp_path: Path) -> None:
    open_checkpoints(tmp_path, PLAN)
    old = save(tmp_path, 10)
    with pytest.raises(PlanChangedError, match=r"step 10.*training.epochs \(3 then, 4 now\)") as it:
        open_checkpoints(tmp_path, OTHER)
    assert it.value.detail["changed"] == ["training.epochs"]
    assert old.exists()
    assert open_checkpoints(tmp_path, PLAN) == old


def test_a_restart_drops_the_checkpoints(tmp_path: Path) -> None:
    open_checkpoints(tmp_path, PLAN)
    old = save(tmp_path, 10)
    assert open_checkpoints(tmp_path, OTHER, should_restart=True) is None
    assert not old.exists()


def test_another_plan_without_a_checkpoint_just_starts(tmp_path: Path) -> None:
    open_checkpoints(tmp_path, PLAN)
    save(tmp_path, 10, is_marked=False)
    assert open_checkpoints(tmp_path, OTHER) is None
