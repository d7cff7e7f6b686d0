"""Screenshots without a display, and the window's sentence when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication

from llamaduo_gui.core.errors import LlamaDuoError
from llamaduo_gui.core.paths import user_state_dir
from llamaduo_gui.gui.pages.base import find_pages
from llamaduo_gui.gui.pages.settings import SettingsPage
from llamaduo_gui.gui.screenshots import take_screenshots
from llamaduo_gui.gui.theme.tokens import DARK, LIGHT
from tests.gui.projects import make_data_project, make_judged_project

WAIT_S = 240
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line, on a machine without a display."""
    environment = {name: value for name, value in os.environ.items() if name not in DISPLAYS}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "llamaduo_gui", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=environment,
        check=False,
    )


def test_every_page_is_rendered_in_both_themes_without_a_display(tmp_path: Path) -> None:
    make_judged_project(tmp_path / "project").close()
    done = run("screenshots", tmp_path / "project", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
    names = [f"{info.key}-{mode}.png" for info in find_pages() for mode in ("light", "dark")]
    files = json.loads(done.stdout)["files"]
    assert [Path(name).name for name in files] == names
    for name in names:
        image = QImage(str(tmp_path / "out" / name))
        assert (image.width(), image.height()) == (1280, 800)
        tokens = LIGHT if name.endswith("light.png") else DARK
        # The page's own margin, left of its first card.
        assert image.pixelColor(204, 400) == QColor(tokens.bg), name
    assert not (user_state_dir() / "recent.json").exists()


def test_a_page_that_fails_fails_the_screenshots(
    app: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(*_: object) -> None:
        raise RuntimeError("no such column")

    monkeypatch.setattr(SettingsPage, "_show_services", show)
    make_data_project(tmp_path / "project").close()
    with pytest.raises(LlamaDuoError, match="page Settings failed: RuntimeError: no such column"):
        take_screenshots(tmp_path / "project", tmp_path / "out")


def test_a_folder_that_is_no_project_ends_in_one_sentence(tmp_path: Path) -> None:
    done = run("screenshots", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "is not a LlamaDuo project" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these always have a display")
@pytest.mark.parametrize("arguments", [[], ["demo"]])
def test_a_window_without_a_display_ends_in_one_sentence(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no display" in done.stderr
    assert done.stderr.count("\n") == 1
