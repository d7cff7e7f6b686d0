"""Tiny models shared by the tests of the export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import Architecture, make_tiny_model

ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2", "qwen3")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each architecture whose rows divide into K-quant blocks."""
    folder = tmp_path_factory.mktemp("model") / request.param
    return make_tiny_model(folder, request.param, hidden=256, intermediate=512)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small llama model, untied."""
    return make_tiny_model(tmp_path_factory.mktemp("llama"), "llama")
