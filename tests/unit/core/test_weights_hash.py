"""Tests that equal weights have equal hashes, and others do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llamaduo_gui.core.weights_hash import has_weights, hash_weights
from llamaduo_gui.store.history import measure

WEIGHTS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.ones((2, 2), dtype=np.float16),
}


def write(folder: Path, weights: dict[str, np.ndarray] = WEIGHTS, **config: object) -> Path:
    """A folder with weights in one file and, with `config`, an adapter's settings."""
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_paths_and_notes_beside_the_weights_do_not_count(tmp_path: Path) -> None:
    one = write(tmp_path / "one", r=8, base_model_name_or_path="/here/base")
    two = write(tmp_path / "two", r=8, base_model_name_or_path="/there/base")
    (two / "training.json").write_text('{"seconds": 3}', encoding="utf-8")
    assert hash_weights(one) == hash_weights(two) == measure(one)[1] == measure(two)[1]


def test_how_weights_are_spread_over_files_does_not_count(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    for index, name in enumerate(reversed(WEIGHTS)):
        save_file({name: WEIGHTS[name]}, two / f"model-{index}.safetensors")
    assert hash_weights(one) == hash_weights(two)


@pytest.mark.parametrize(
    "change",
    [
        {"b.weight": np.zeros((2, 2), dtype=np.float16)},
        {"b.weight": np.ones((2, 2), dtype=np.float32)},
        {"b.weight": np.ones((4, 1), dtype=np.float16)},
        {"c.weight": np.ones((1,), dtype=np.float16)},
    ],
)
def test_a_value_a_format_a_shape_and_a_name_count(
    tmp_path: Path, change: dict[str, np.ndarray]
) -> None:
    other = write(tmp_path / "two", {**WEIGHTS, **change})
    assert hash_weights(write(tmp_path / "one")) != hash_weights(other)


def test_the_same_factors_with_another_scale_are_another_student(tmp_path: Path) -> None:
    one, two = (
        write(tmp_path / "one", r=8, lora_alpha=8),
        write(tmp_path / "two", r=8, lora_alpha=9),
    )
    assert hash_weights(one) != hash_weights(two)


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut off"):
        hash_weights(folder)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged"):
        hash_weights(folder)


def test_a_folder_without_weights_is_hashed_over_its_files(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "note.txt").write_text("x", encoding="utf-8")
    assert not has_weights(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert measure(tmp_path / "one") == measure(tmp_path / "two")
