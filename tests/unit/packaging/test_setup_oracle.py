"""Tests that the converter for the tests is fetched once, and that tests go on without it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import setup_oracle
from setup_machine import Outcome
from setup_steps import Options, Setup
from tests.unit.packaging.machines import FakeSystem, make_venv

MEMBERS = {
    "vendor/llama.cpp/convert_hf_to_gguf.py": "script",
    "vendor/llama.cpp/conversion/llama.py": "llama",
    "vendor/llama.cpp/gguf-py/gguf/constants.py": "constants",
    "vendor/llama.cpp/src/llama.cpp": "not needed",
    "vendor/llama.cpp/conversion/../../../../escaped.py": "outside",
    "README.md": "not needed",
}


class Machine(FakeSystem):
    """Has llama-cpp-python 0.3.36, and an index with some files of its source."""

    def __init__(self, venv: Path, members: dict[str, str] | None) -> None:
        super().__init__(venv, **{"importlib.metadata": Outcome(0, "0.3.36\n")})
        self.members = members

    def follow(self, command: list[str], title: str, env: dict[str, str], log: Path) -> Outcome:
        outcome = super().follow(command, title, env, log)
        if self.members is None:
            return Outcome(1, "no index")
        folder = Path(command[command.index("--dest") + 1])
        write_archive(folder / "llama_cpp_python-0.3.36.tar.gz", self.members)
        return outcome


def write_archive(path: Path, members: dict[str, str]) -> None:
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            file = path.with_name("member")
            file.write_text(text, encoding="utf-8")
            archive.add(file, f"llama_cpp_python-0.3.36/{name}")


def make_setup(root: Path, members: dict[str, str] | None) -> Setup:
    make_venv(root / ".venv")
    return Setup(Options(), root, Machine(root / ".venv", members))


@pytest.fixture(autouse=True)
def _no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and deleted, so that what the test sets is undone.
    monkeypatch.setenv(setup_oracle.VARIABLE, "")
    monkeypatch.delenv(setup_oracle.VARIABLE)


def test_the_converter_is_fetched_once_and_named_to_the_tests(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, MEMBERS)
    setup_oracle.offer_converter(setup)
    folder = tmp_path / ".venv" / "llama.cpp-0.3.36"
    assert os.environ[setup_oracle.VARIABLE] == str(folder)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "convert_hf_to_gguf.py",
        str(Path("conversion/llama.py")),
        str(Path("gguf-py/gguf/constants.py")),
    }
    assert not list(tmp_path.rglob("escaped.py"))
    assert not list(tmp_path.rglob("*.tar.gz"))
    system = setup.system
    assert isinstance(system, Machine)
    assert system.pip_commands()[0].startswith("download --no-deps --no-binary llama-cpp-python")
    assert "llama-cpp-python==0.3.36" in system.pip_commands()[0]
    assert setup_oracle.fetch_converter(setup) == folder
    assert len(system.pip_commands()) == 1


def test_a_checkout_that_the_user_names_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setup_oracle.VARIABLE, "/somewhere")
    setup = make_setup(tmp_path, MEMBERS)
    setup_oracle.offer_converter(setup)
    assert os.environ[setup_oracle.VARIABLE] == "/somewhere"
    assert isinstance(setup.system, Machine)
    assert setup.system.commands == []


@pytest.mark.parametrize("members", [None, {}, {"README.md": "no converter here"}])
def test_without_a_converter_the_tests_go_on(
    tmp_path: Path, members: dict[str, str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_oracle.offer_converter(make_setup(tmp_path, members))
    assert setup_oracle.VARIABLE not in os.environ
    assert "its tests are skipped" in capsys.readouterr().err
    assert not list(tmp_path.rglob("llama-source"))


def test_a_damaged_archive_is_no_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = make_setup(tmp_path, MEMBERS)

    def write_damaged(_requirement: str, folder: Path) -> Outcome:
        folder.mkdir()
        (folder / "x.tar.gz").write_bytes(b"not gzip")
        return Outcome(0, "")

    monkeypatch.setattr(setup, "download_source", write_damaged)
    assert setup_oracle.fetch_converter(setup) is None
