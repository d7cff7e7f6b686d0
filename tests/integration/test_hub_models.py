"""Searching, downloading, resuming and deleting base models, against a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub_server import COMMIT, FakeHub, HubRepo

SIZE = 25_000_000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(SIZE),
    "pytorch_model.bin": b"pickle",
    "modeling_own.py": b"print('never')",
    "original/model.safetensors": b"again",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub(
        {
            "small/model": HubRepo(dict(FILES)),
            "closed/model": HubRepo(dict(FILES), gated=True),
            "old/model": HubRepo({"config.json": b"{}", "pytorch_model.bin": b"pickle"}),
        }
    )
    with hub.server() as server:
        hub.address = server.address
        hub.cache = tmp_path / "hub"
        yield hub


def ask(hub: FakeHub, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: huggingface_hub reads its settings when imported."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**settings(hub), **environment},
    )


def settings(hub: FakeHub) -> dict[str, str]:
    return {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_CACHE": str(hub.cache),
        "HF_HUB_OFFLINE": "0",
        "PYTHONWARNINGS": "ignore",
    }


def models(hub: FakeHub, *arguments: str, **environment: str) -> Any:
    """`llamaduo-gui models ... --json`: exit code, JSON, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "llamaduo_gui", "models", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**settings(hub), **environment},
    )
    return done.returncode, json.loads(done.stdout), done.stderr


CUT = """
from llamaduo_gui.core.hub_models import download_model
from llamaduo_gui.core.errors import JobCancelledError
seen = []
def stop():
    if seen and seen[-1] > 11_000_000:
        raise JobCancelledError("stop")
try:
    download_model("small/model", on_progress=lambda d, t: seen.append(d), check_cancelled=stop)
except JobCancelledError:
    print("stopped", seen[-1])
"""


def test_a_download_has_weights_and_no_code_and_is_pinned_to_the_commit(hub: FakeHub) -> None:
    code, found, _ = models(hub, "download", "small/model")

    assert code == 0
    assert found["revision"] == COMMIT
    names = sorted(path.name for path in Path(found["folder"]).iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (Path(found["folder"]) / "model.safetensors").stat().st_size == SIZE

    code, listed, _ = models(hub, "list")
    (row,) = listed["models"]
    assert (row["id"], row["is_complete"]) == ("small/model", True)
    assert row["size_bytes"] >= SIZE

    code, freed, _ = models(hub, "delete", "small/model", "--yes")
    assert freed["freed_bytes"] >= SIZE
    assert models(hub, "list")[1]["models"] == []


def test_a_stopped_download_goes_on_where_it_was(hub: FakeHub) -> None:
    stopped = ask(hub, CUT)
    assert stopped.stdout.startswith("stopped"), stopped.stderr
    assert hub.ranges == []

    code, _, errors = models(hub, "download", "small/model")

    assert code == 0, errors
    ((name, wanted),) = hub.ranges
    assert name == "model.safetensors"
    assert int(wanted.removeprefix("bytes=").partition("-")[0]) >= 10_000_000


def test_a_model_behind_a_licence_says_where_to_accept_it(hub: FakeHub) -> None:
    code, found, _ = models(hub, "download", "closed/model")

    assert code == 2
    assert f"{hub.address}/closed/model" in found["error"]
    assert "HF_TOKEN" in found["error"]


def test_a_model_without_safetensors_is_refused(hub: FakeHub) -> None:
    code, found, _ = models(hub, "download", "old/model")

    assert code == 2
    assert "safetensors" in found["error"]
    assert hub.downloads == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("download", "no/model"), "no model no/model"),
        (("download", "small/model", "--revision", "v9"), "no revision v9"),
        (("delete", "no/model", "--yes"), "not among"),
    ],
)
def test_what_is_not_there_is_named(hub: FakeHub, arguments: tuple[str, ...], word: str) -> None:
    code, found, _ = models(hub, *arguments)

    assert code == 2
    assert word in found["error"]


def test_offline_the_hub_is_not_asked(hub: FakeHub) -> None:
    code, found, _ = models(hub, "download", "small/model", HF_HUB_OFFLINE="1")

    assert code == 2
    assert "HF_HUB_OFFLINE" in found["error"]
    assert hub.downloads == []


def test_a_search_tells_which_models_ask_for_a_licence(hub: FakeHub) -> None:
    code, found, _ = models(hub, "search", "model")

    assert code == 0
    assert {row["id"]: row["gated"] for row in found["models"]} == {
        "small/model": False,
        "closed/model": True,
        "old/model": False,
    }


def test_nothing_is_deleted_without_a_yes(hub: FakeHub) -> None:
    models(hub, "download", "small/model")

    code, found, _ = models(hub, "delete", "small/model")

    assert code == 2
    assert "--yes" in found["error"]
    assert len(models(hub, "list")[1]["models"]) == 1
