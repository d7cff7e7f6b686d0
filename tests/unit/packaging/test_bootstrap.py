"""Tests of the set-up command line: arguments, standard output, gates, and the time to start."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bootstrap
import setup_machine
from setup_machine import System
from setup_steps import Options
from tests.unit.packaging.machines import FakeSystem, make_venv

LIMIT_START_S = 3.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "command", "options", "rest"),
    [
        (["demo", "--no-gui", "--json"], "demo", Options(), ["--no-gui", "--json"]),
        (["test", "-k", "a or b", "-x"], "test", Options(), ["-k", "a or b", "-x"]),
        (["--cuda", "run"], "run", Options(cuda=True), []),
        (["run", "--cpu", "report", "D"], "run", Options(cpu=True), ["report", "D"]),
        (["install", "--llama-wheels", "U"], "install", Options(llama_wheels="U"), []),
        (["demo", "--help"], "demo", Options(), ["--help"]),
    ],
)
def test_set_up_takes_its_own_options_and_passes_the_others_on(
    argv: list[str], command: str, options: Options, rest: list[str]
) -> None:
    assert bootstrap.parse(argv) == (command, options, rest)


@pytest.mark.parametrize("argv", [[], ["fly"], ["install", "--cuda", "--cpu"]])
def test_a_wrong_command_line_ends_with_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bootstrap.parse(argv)
    assert caught.value.code == 2


def test_run_opens_the_window_with_the_environments_python(root: Path) -> None:
    system = FakeSystem(root / ".venv")
    assert bootstrap.main(["run"], system, root) == 0
    assert system.commands[-1] == f"{root}/.venv/bin/python -m llamaduo_gui"


def test_install_starts_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = FakeSystem(root / ".venv")
    assert bootstrap.main(["install"], system, root) == 0
    assert not any("llamaduo_gui" in command for command in system.commands)
    assert capsys.readouterr().out == ""


def test_every_gate_runs_even_if_the_first_fails(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = FakeSystem(root / ".venv")
    system.exit_codes = {"-m ruff check": 1}
    assert bootstrap.main(["test", "-k", "words"], system, root) == 1
    ran = [text.partition("bin/python ")[2] for text in system.commands[-5:]]
    assert ran[0] == "-m ruff check ."
    assert ran[1] == "-m ruff format --check ."
    assert ran[2] == "-m mypy"
    assert "importlinter" in ran[3]
    assert ran[4] == "-m pytest -k words"
    assert "ruff check FAILED (exit 1)" in capsys.readouterr().out.splitlines()[-1]


def test_the_gates_pass_when_all_pass(root: Path) -> None:
    assert bootstrap.main(["test"], FakeSystem(root / ".venv"), root) == 0


def test_progress_shows_the_compilers_steps_and_the_log_keeps_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = "import time; print('  [7/9] /usr/bin/c++ -c a.cpp', flush=True); time.sleep(0.5)"
    original = setup_machine.Indicator
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup_machine, "Indicator", lambda title: original(title, 0.0))
        command = [sys.executable, "-c", program]
        outcome = System().follow(command, "Building", {}, tmp_path / "setup.log")
    assert outcome.is_ok
    output = capsys.readouterr()
    assert output.out == ""
    assert "Building ..." in output.err
    assert "compiled 7 of 9" in output.err
    assert "[7/9] /usr/bin/c++" in (tmp_path / "setup.log").read_text()


def complete_checkout(root: Path, repository: Path) -> Path:
    """A finished installation in `root` whose app prints one JSON document; returns set-up."""
    (root / "packaging").mkdir()
    for source in (repository / "packaging").glob("*.py"):
        shutil.copy(source, root / "packaging")
    make_venv(root / ".venv", version="3.11.7")
    (root / ".venv" / "bin" / "python").unlink()
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    stamp = {"torch": "cpu", "llama": "cpu", "project": digest, "extras": [], "qt": True}
    stamp["environment"] = [str(root), "3.11.7"]
    (root / ".venv" / "llamaduo-setup.json").write_text(json.dumps(stamp))
    (root / "llamaduo_gui").mkdir()
    (root / "llamaduo_gui" / "__main__.py").write_text(
        "import json, sys; print(json.dumps(sys.argv[1:]))"
    )
    return root / "packaging" / "bootstrap.py"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_a_second_start_is_quick_and_prints_only_what_the_app_prints(
    root: Path, repository: Path
) -> None:
    script = complete_checkout(root.resolve(), repository)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), "demo", "--no-gui", "--json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - start < LIMIT_START_S
    assert json.loads(done.stdout) == ["demo", "--no-gui", "--json"]
    assert done.stderr == ""
