"""Tests that each thing a machine can lack is told in one sentence, with exit status 2."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

import bootstrap
from setup_faults import explain
from setup_machine import Outcome, System
from setup_steps import Options, Setup
from tests.unit.packaging.machines import FakeSystem, make_venv

NOT_FOUND = Outcome(1, "ERROR: No matching distribution found for it")
NO_WHEEL = {"--only-binary llama-cpp-python": NOT_FOUND}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CXX", "CUDACXX", "CUDA_PATH", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM")
    monkeypatch.setenv("DISPLAY", ":0")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def system(root: Path) -> FakeSystem:
    return FakeSystem(root / ".venv")


def sentence(capsys: pytest.CaptureFixture[str], system: FakeSystem, root: Path, *argv: str) -> str:
    """Run the command line, which must fail, and return the one sentence it ends with."""
    assert bootstrap.main(list(argv), system, root) == 2
    output = capsys.readouterr()
    assert output.out == ""
    last = output.err.splitlines()[-1]
    assert last.startswith("llamaduo-gui: ")
    return last


def test_a_full_disk_is_noticed_before_anything_is_made(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.free = 2.0
    text = sentence(capsys, system, root, "install")
    assert "has 2.0 GB free and set-up needs about 6.0 GB" in text
    assert not (root / ".venv").exists()


def test_a_disk_that_fills_up_on_the_way_is_said(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = {"torch==2.13": Outcome(1, "OSError: [Errno 28] No space left on device")}
    assert "The disk became full while installing PyTorch" in sentence(
        capsys, system, root, "install"
    )
    assert len(system.pip_commands()) == 1


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_a_wrong_python_with_no_other_is_said(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str], version: tuple[int, int]
) -> None:
    system.version = version
    text = sentence(capsys, system, root, "demo")
    assert f"needs Python 3.11, 3.12 or 3.13 and this is {version[0]}.{version[1]}" in text


def test_a_wrong_python_hands_over_to_a_right_one_on_path(system: FakeSystem, root: Path) -> None:
    system.version = (3, 9)
    system.executables.add("python3.11")
    system.replies = {"/usr/bin/python3.11 -c": Outcome(0, "3.11 /opt/a python/bin/python3.11\n")}
    assert bootstrap.main(["demo", "--no-gui"], system, root) == 0
    script = Path(bootstrap.__file__).resolve()
    assert system.commands[-1] == f"/opt/a python/bin/python3.11 {script} demo --no-gui"


def test_a_version_managers_shim_without_a_python_behind_it_is_passed_over(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.version = (3, 9)
    system.executables.add("python3.12")
    system.replies = {"/usr/bin/python3.12 -c": Outcome(127, "python3.12: command not found")}
    assert "with no other on PATH" in sentence(capsys, system, root, "demo")


def test_an_environment_that_is_complete_is_used_whatever_python_asks(
    system: FakeSystem, root: Path
) -> None:
    bootstrap.main(["install"], system, root)
    system.version = (3, 9)
    assert bootstrap.main(["demo", "--no-gui"], system, root) == 0
    assert system.commands[-1].endswith("-m llamaduo_gui demo --no-gui")


def test_a_python_without_venv_is_said_with_the_package_to_install(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.modules.clear()
    text = sentence(capsys, system, root, "demo")
    assert "lacks its venv module" in text
    assert "apt-get install python3.12-venv" in text


def test_a_venv_command_that_misses_ensurepip_is_said_the_same_way(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = {"-m venv": Outcome(1, "ensurepip is not available")}
    assert "python3.12-venv" in sentence(capsys, system, root, "demo")


def test_a_read_only_folder_is_said(
    system: FakeSystem,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    text = sentence(capsys, system, root, "demo")
    assert "cannot be written to (Read-only file system): copy the project" in text


def test_a_missing_compiler_is_said_before_the_build(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = dict(NO_WHEEL)
    system.executables.clear()
    text = sentence(capsys, system, root, "install")
    assert "there is no C++ compiler" in text
    assert "build-essential" in text
    assert "--llama-wheels URL" in text


@pytest.mark.parametrize(
    ("platform", "advice"), [("darwin", "xcode-select --install"), ("win32", "Build Tools")]
)
def test_a_missing_compiler_is_said_in_the_platforms_words(
    system: FakeSystem,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    platform: str,
    advice: str,
) -> None:
    system.platform = platform
    system.executables.clear()
    system.replies = {**NO_WHEEL, "xcode-select": Outcome(2, "unable to get active developer")}
    assert advice in sentence(capsys, system, root, "install")


def test_a_compiler_that_does_not_work_is_said(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Outcome(1, "-- The CXX compiler identification is unknown\nERROR: failed")
    system.replies = {**NO_WHEEL, "--verbose llama-cpp-python": broken}
    assert "The C++ compiler does not work" in sentence(capsys, system, root, "install")


def test_cuda_without_its_compiler_is_said(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--cuda needs nvcc" in sentence(capsys, system, root, "install", "--cuda")


def test_missing_qt_libraries_are_named_as_packages(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = {
        "from PySide6 import QtWidgets": Outcome(1, "ImportError: libEGL.so.1: cannot open"),
        "QtWidgets.abi3.so": Outcome(0, "\tlibEGL.so.1 => not found\n\tlibc.so.6 => /lib/libc"),
        "libqxcb.so": Outcome(0, "\tlibxcb-cursor.so.0 => not found\n"),
    }
    text = sentence(capsys, system, root, "run")
    assert text.endswith("sudo apt-get install libegl1 libxcb-cursor0")


def test_a_window_needs_the_x11_plugin_and_the_tests_do_not(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = {"libqxcb.so": Outcome(0, "\tlibxcb-icccm.so.4 => not found\n")}
    assert bootstrap.main(["test"], system, root) == 0
    capsys.readouterr()
    assert sentence(capsys, system, root, "demo").endswith("libxcb-icccm4")


def test_without_a_window_missing_qt_libraries_are_only_mentioned(
    system: FakeSystem, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system.replies = {
        "from PySide6 import QtWidgets": Outcome(1, "ImportError: libEGL.so.1: cannot open"),
        "QtWidgets.abi3.so": Outcome(0, "\tlibEGL.so.1 => not found\n"),
    }
    assert bootstrap.main(["demo", "--no-gui"], system, root) == 0
    assert "libegl1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "demo"])
def test_a_window_without_a_display_is_refused_before_anything_is_installed(
    system: FakeSystem,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.delenv("DISPLAY")
    assert "There is no display here" in sentence(capsys, system, root, command)
    assert system.commands == []
    assert bootstrap.main(["demo", "--no-gui"], system, root) == 0
    assert bootstrap.main(["run", "report", "D"], system, root) == 0


def test_an_unknown_failure_names_its_last_error_and_the_log(tmp_path: Path) -> None:
    outcome = Outcome(1, "ERROR: first\nERROR: second thing\nbye\n")
    text = explain(outcome, "LlamaDuo", tmp_path / "setup.log")
    assert "(ERROR: second thing)" in text
    assert text.endswith("setup.log.")


def test_an_index_that_cannot_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    environment = tmp_path / ".venv"
    venv.create(environment, with_pip=False, symlinks=os.name == "posix")
    packages = next(path for path in map(Path, sys.path) if (path / "pip").is_dir())
    (next(environment.rglob("site-packages")) / "pip.pth").write_text(str(packages))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    setup = Setup(Options(), tmp_path, System())
    outcome = setup._pip("install", ["a-package-that-is-not-there"], "Installing a package")
    assert "index cannot be reached" in explain(outcome, "a package", setup.log)


def test_a_complete_environment_works_from_a_read_only_folder(
    system: FakeSystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_venv(root / ".venv")
    bootstrap.main(["demo", "--no-gui"], system, root)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert bootstrap.main(["demo", "--no-gui"], system, root) == 0


def test_an_interrupt_says_that_nothing_is_lost(
    system: FakeSystem,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*args: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(system, "follow", interrupt)
    assert bootstrap.main(["install"], system, root) == 130
    assert "the next run goes on from here" in capsys.readouterr().err
