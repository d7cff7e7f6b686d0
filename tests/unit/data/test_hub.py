"""Tests of Hub datasets: how they are named, saved folders, and what is said when it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RevisionNotFoundError

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.data.formats.hub import HubDataset, _explain, parse_name
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.sources import open_source

ROWS = [{"prompt": f"p{n}", "response": f"r{n}"} for n in range(3)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("owner/name", HubDataset("owner/name")),
        ("owner/name@abc123", HubDataset("owner/name", "abc123")),
        ("owner/name#train", HubDataset("owner/name", split="train")),
        ("name@main#config/test", HubDataset("name", "main", "config", "test")),
    ],
)
def test_a_name_has_an_identifier_and_may_have_more(text: str, wanted: HubDataset) -> None:
    assert parse_name(text) == wanted


@pytest.mark.parametrize("text", ["", "@main", "a@b@c", "a#b/c/d"])
def test_a_name_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="write hub:OWNER/NAME@REVISION"):
        parse_name(text)


def test_what_the_library_saved_to_disk_is_read(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"eval": table}).save_to_disk(str(tmp_path / "dict"))
    for name in ("one", "dict", "dict#eval"):
        result = read_records(f"hub:{tmp_path / name}", on_error="refuse")
        assert [record.target for record in result.records] == ["r0", "r1", "r2"]
        assert result.sources[0] == f"hub:{tmp_path / name}:1"


def test_a_dataset_without_a_revision_is_noted_and_a_folder_is_not(tmp_path: Path) -> None:
    assert "without a revision" in open_source("hub:owner/name#train").note
    assert open_source("hub:owner/name@abc").note == ""
    assert open_source(f"hub:{tmp_path}").note == ""


def test_several_splits_have_to_be_named(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"a": table, "b": table}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match="several splits; name one of a, b as hub:"):
        read_records(f"hub:{tmp_path / 'd'}")


def response() -> Any:
    return SimpleNamespace(headers={}, request=None)


def test_failures_say_what_to_do_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    name = HubDataset("owner/name", "v9")
    gated = DatasetNotFoundError("hidden")
    gated.__cause__ = GatedRepoError("gated", response=response())
    assert _explain(gated, name) == (
        "owner/name@v9 is gated: ask for access on its page and set HF_TOKEN."
    )
    missing = RevisionNotFoundError("no", response=response())
    assert _explain(missing, name).startswith("owner/name has no revision `v9`;")
    assert "does not exist on the Hub; check the name, or set" in _explain(
        DatasetNotFoundError("no"), name
    )
    assert "HF_HUB_OFFLINE forbids" in _explain(OfflineModeIsEnabled("x"), name)
    assert "cannot be reached" in _explain(ConnectionError("x"), name)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = _explain(ValueError("bad hf_secret\nmore"), name)
    assert text == "owner/name@v9 cannot be read (bad [token])."
