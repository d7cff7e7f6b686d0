"""Tests of what Phi and SmolLM3 need that other architectures do not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import check_gguf
from llamaduo_gui.export.architectures import (
    long_rope_attention_factor,
    read_architecture,
    rope_factors,
)
from tests.gguf_files import write_test_gguf
from tests.tiny_families import make_family_model
from tests.unit.export.test_tensors import edit_config

FACTORS = {"short_factor": [1.0] * 12, "long_factor": [2.0] * 12}


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family_model(tmp_path_factory.mktemp("phi") / "model", "phi3-mini-4k")


@pytest.fixture
def phi_copy(phi: Path, tmp_path: Path) -> Path:
    """A folder with nothing but the config.json of a Phi."""
    (tmp_path / "config.json").write_bytes((phi / "config.json").read_bytes())
    (tmp_path / "tokenizer.json").write_bytes((phi / "tokenizer.json").read_bytes())
    return tmp_path


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_old_names_of_longrope_mean_the_same(phi_copy: Path, kind: str) -> None:
    scaling = {"type": kind, **FACTORS}
    changes = {"rope_parameters": None, "rope_scaling": scaling, "rope_theta": 10_000.0}
    folder = edit_config(phi_copy, **changes, original_max_position_embeddings=128)
    architecture = read_architecture(folder)
    assert architecture.rope.kind == "longrope"
    found = rope_factors(architecture)
    assert set(found) == {"rope_factors_long.weight", "rope_factors_short.weight"}
    np.testing.assert_array_equal(found["rope_factors_long.weight"], np.full(12, 2, np.float32))
    # Four times the trained length of 128 = 2 ** 7: sqrt(1 + 2 / 7).
    assert long_rope_attention_factor(architecture) == pytest.approx(math.sqrt(9 / 7))
    assert "In a context of more than 128 tokens" in architecture.warnings[-1]


def test_a_window_shorter_than_the_context_is_warned_of(phi_copy: Path) -> None:
    (warning,) = read_architecture(phi_copy).warnings
    assert "sees the last 511 tokens" in warning
    assert read_architecture(edit_config(phi_copy, sliding_window=512)).warnings == ()
    assert read_architecture(edit_config(phi_copy, sliding_window=None)).sliding_window is None


def test_a_phi_without_a_window_says_zero(phi: Path, tmp_path: Path) -> None:
    folder = make_family_model(tmp_path / "model", "phi3-mini-4k", sliding_window=None)
    metadata = check_gguf(write_test_gguf(folder, tmp_path / "m.gguf")).metadata
    assert metadata["phi3.attention.sliding_window"] == 0
    assert metadata["phi3.rope.scaling.original_context_length"] == 4096


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 32}, "which llama.cpp cannot do for Phi models"),
        ({"hidden_act": "gelu"}, "activation gelu"),
    ],
)
def test_a_phi_that_llama_cpp_would_run_wrongly_is_refused(
    phi_copy: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        read_architecture(edit_config(phi_copy, **changes))


def test_smollm3_must_leave_every_fourth_layer_without_rope(tmp_path: Path) -> None:
    folder = make_family_model(tmp_path / "model", "smollm3-3b")
    assert read_architecture(folder).is_tied
    for layers in ([1, 1, 1, 0, 1], None):
        assert read_architecture(edit_config(folder, no_rope_layers=layers)).layers == 5
    for changes in ({"no_rope_layers": [1, 1, 0, 1, 1]}, {"no_rope_layer_interval": 3}):
        with pytest.raises(UserError, match="every fourth layer"):
            read_architecture(edit_config(folder, **{"no_rope_layers": None, **changes}))
