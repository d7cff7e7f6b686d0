"""Tests of the shape of the code: imports, sizes, docstrings, and what travels in the wheel."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "llamaduo_gui"
SLOW_LIBRARIES = (
    "accelerate",
    "anthropic",
    "bitsandbytes",
    "datasets",
    "google.genai",
    "llama_cpp",
    "openai",
    "peft",
    "rouge_score",
    "torch",
    "transformers",
    "trl",
)
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
PYTHON_FILES = sorted(
    path
    for folder in ("llamaduo_gui", "packaging", "tests")
    for path in (REPOSITORY / folder).rglob("*.py")
)
# An import name that belongs to several distributions, and the one that is meant.
AMBIGUOUS_IMPORTS = {
    "google": "google-genai",
    "PySide6": "PySide6-Essentials",
    "pynvml": "nvidia-ml-py",
}


def modules_loaded_by(modules: list[str]) -> set[str]:
    """Names in sys.modules of a fresh interpreter after importing `modules`."""
    lines = [f"import {name}" for name in modules]
    program = "\n".join([*lines, "import sys, json", "print(json.dumps(sorted(sys.modules)))"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def module_name(path: Path) -> str:
    """Dotted name of a source file of the package."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_whole_window_loads_without_any_slow_library() -> None:
    names = [module_name(path) for path in sorted((PACKAGE / "gui").rglob("*.py"))]
    assert modules_loaded_by(names) & set(SLOW_LIBRARIES) == set()


def test_the_command_line_starts_without_qt_and_without_any_slow_library() -> None:
    loaded = modules_loaded_by(["llamaduo_gui.__main__", "llamaduo_gui.cli"])
    assert loaded & {*SLOW_LIBRARIES, "PySide6", "matplotlib"} == set()


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_says_what_it_is_for_and_stays_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert len(text.splitlines()) <= MAX_FILE_LINES
    is_migration = path.parent.name == "versions"  # a list of columns, as long as the schema
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_migration:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_package_files_hold_nothing_but_their_docstring() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        if path.parent not in (PACKAGE, PACKAGE / "providers"):  # the version and the registry
            assert len(statements) == 1, f"{path} holds code"


def test_the_packaging_folder_never_hides_the_packaging_library() -> None:
    assert not (REPOSITORY / "packaging" / "__init__.py").exists()


def declared_distributions() -> set[str]:
    """Normalised names of the dependencies in pyproject.toml, with those of the extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["gpu"], *extras["server"]]
    return {normalised(re.split(r"[\[<>=!;~ ]", requirement)[0]) for requirement in wanted}


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_packages(path: Path) -> set[str]:
    """Top-level names that a file imports absolutely."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def test_every_imported_library_is_a_declared_dependency() -> None:
    declared = declared_distributions()
    owners = metadata.packages_distributions()
    foreign = {name for path in PACKAGE.rglob("*.py") for name in imported_packages(path)}
    foreign -= {*sys.stdlib_module_names, "llamaduo_gui"}
    for name in foreign:
        candidates = [AMBIGUOUS_IMPORTS.get(name, name), *owners.get(name, [])]
        assert declared & {normalised(candidate) for candidate in candidates}, name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built in this process and without a network."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    builder = builders.WheelBuilder(str(REPOSITORY))
    return Path(next(iter(builder.build(directory=str(folder), versions=["standard"]))))


def test_the_wheel_carries_every_resource_and_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    sources = [(REPOSITORY / "resources", "llamaduo_gui/resources"), (PACKAGE, "llamaduo_gui")]
    for folder, target in sources:
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in (path for path in files if "__pycache__" not in path.parts):
            assert f"{target}/{path.relative_to(folder).as_posix()}" in carried
    assert not any(name.startswith(("tests/", "packaging/", "resources/")) for name in carried)


def test_the_wheel_names_its_command_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        about = next(name for name in names if name.endswith("METADATA"))
        assert "llamaduo-gui = llamaduo_gui.__main__:main" in archive.read(entry).decode()
        assert "License-Expression: Apache-2.0" in archive.read(about).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_qt_calls_leave_the_reference_count_of_none_alone(qtbot: QtBot) -> None:
    """PySide6 6.12.0 dropped one reference a call under Python 3.11 and crashed the window."""
    label = QLabel()
    qtbot.addWidget(label)
    before = sys.getrefcount(None)
    for number in range(1000):
        label.setText(str(number))
    assert abs(sys.getrefcount(None) - before) < 500
