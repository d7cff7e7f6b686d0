"""The Settings page: API keys, appearance, folders, and what this machine has."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PySide6.QtWidgets import QApplication, QFormLayout

from llamaduo_gui.core.paths import user_state_dir
from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES, KeyringInfo, KeyStatus
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.pages.base import PageInfo, WorkspacePage
from llamaduo_gui.gui.theme.settings import (
    TEXT_SCALES,
    Appearance,
    load_appearance,
    save_appearance,
)
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.buttons import combo_box
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.key_field import KeyField
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.segmented import SegmentedControl
from llamaduo_gui.gui.workspace import Workspace

_SOURCES = {
    "keyring": "in the keyring ({detail})",
    "environment": "from the environment variable {detail}",
    "session": "for this session only",
    "none": "not set",
}


@dataclass(frozen=True, slots=True)
class _Keys:
    keyring: KeyringInfo
    statuses: tuple[KeyStatus, ...]


class SettingsPage(WorkspacePage):
    """Changes take effect at once."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Settings", workspace)
        self._banner = MessageBanner()
        self.body.addWidget(self._banner)
        self._fields: dict[str, KeyField] = {}
        self._keyring_line = Label("Looking for a keyring...", tone="text2", wrap=True)
        self.body.addWidget(self._build_keys())
        self.body.addWidget(self._build_appearance())
        self.body.addWidget(self._build_machine())
        self.body.addStretch(1)

    def refresh(self) -> None:
        """Ask the keyring and the machine again, off the GUI thread."""
        self.background.run("keys", self._read_keys, self._show_keys, self._show_error)
        self.background.run("gpu", describe_gpu, self._gpu.setText)

    def key_field(self, provider: str) -> KeyField:
        """The field for the key of one provider; KeyError if it needs none."""
        return self._fields[provider]

    def choose_theme(self, mode: str) -> None:
        """Switch to `system`, `light` or `dark`."""
        self._mode.button(mode).click()

    def _build_keys(self) -> Card:
        from llamaduo_gui.providers.registry import all_providers

        card = Card("API keys", "kept in the operating system's keyring, never in a file")
        card.body.addWidget(self._keyring_line)
        for name in ENVIRONMENT_VARIABLES:
            info = all_providers().get(name)
            if info is None:
                continue
            field = KeyField(info.title, "paste a key")
            field.set_can_test(False)
            field.save_requested.connect(partial(self._save_key, name))
            field.delete_requested.connect(partial(self._ask_to_delete, name, info.title))
            self._fields[name] = field
            card.body.addWidget(field)
        return card

    def _build_appearance(self) -> Card:
        card = Card("Appearance")
        now = load_appearance()
        self._mode = SegmentedControl(
            [("system", "System"), ("light", "Light"), ("dark", "Dark")], "Theme"
        )
        self._mode.set_current(now.mode)
        self._mode.changed.connect(lambda _: self._apply_appearance())
        self._scale = combo_box([(f"{round(s * 100)} %", s) for s in TEXT_SCALES], "Text size")
        self._scale.setCurrentIndex(TEXT_SCALES.index(now.text_scale))
        self._scale.currentIndexChanged.connect(lambda _: self._apply_appearance())
        rows = _rows()
        rows.addRow("Theme", self._mode)
        rows.addRow("Text size", self._scale)
        card.body.addLayout(rows)
        return card

    def _build_machine(self) -> Card:
        card = Card("This machine")
        self._gpu = Label("Looking...", selectable=True)
        rows = _rows()
        rows.addRow("Processor", Label(describe_cpu(), selectable=True))
        rows.addRow("GPU", self._gpu)
        rows.addRow("Demo projects", Label(str(user_state_dir() / "demos"), selectable=True))
        rows.addRow("Models from the Hub", Label(hub_cache(), selectable=True))
        card.body.addLayout(rows)
        return card

    def _read_keys(self) -> _Keys:
        store = self.workspace.secrets
        return _Keys(store.keyring_info(), tuple(store.status(name) for name in self._fields))

    def _show_keys(self, keys: _Keys) -> None:
        if keys.keyring.is_available:
            self._keyring_line.setText(f"Keys are saved in {keys.keyring.name}.")
        else:
            self._keyring_line.setText(
                f"There is {keys.keyring.name}: a key typed here is held in memory until the "
                "window closes. Set the environment variable to keep it."
            )
        for status in keys.statuses:
            text = _SOURCES[status.source].format(detail=status.detail)
            if status.source == "none":
                text += f" (or set {ENVIRONMENT_VARIABLES[status.provider][0]})"
            self._fields[status.provider].set_source(
                text,
                is_set=status.source != "none",
                can_delete=status.source in ("keyring", "session"),
            )

    def _save_key(self, provider: str, key: str) -> None:
        def keep() -> KeyStatus:
            return self.workspace.secrets.set(provider, key)

        self._fields[provider].clear()
        self.background.run("save", keep, lambda _: self.refresh(), self._show_error)

    def _ask_to_delete(self, provider: str, title: str) -> None:
        dialog = ConfirmDialog(
            self,
            f"Delete the key for {title}?",
            "The key is removed from the keyring and from this session.",
            "Delete key",
            kind="danger",
        )
        dialog.accepted.connect(partial(self._delete_key, provider))
        dialog.open()

    def _delete_key(self, provider: str) -> None:
        def delete() -> bool:
            return self.workspace.secrets.delete(provider)

        self.background.run("delete", delete, lambda _: self.refresh(), self._show_error)

    def _apply_appearance(self) -> None:
        modes = {"system": "system", "light": "light", "dark": "dark"}
        mode = modes[self._mode.current()]
        appearance = Appearance(mode, float(self._scale.currentData()))  # type: ignore[arg-type]
        save_appearance(appearance)
        app = QApplication.instance()
        if isinstance(app, QApplication):
            apply_theme(app, appearance.mode, appearance.text_scale)

    def _show_error(self, text: str) -> None:
        self._banner.show_message("bad", text)


def describe_cpu() -> str:
    """Cores, architecture and memory, as far as the system tells."""
    parts = [f"{os.cpu_count() or 1} cores", platform.machine()]
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        parts.append(f"{total / 1e9:.0f} GB memory")
    except (AttributeError, ValueError, OSError):
        parts.append(platform.system())
    return " · ".join(part for part in parts if part)


def describe_gpu() -> str:
    """Name and memory of the NVIDIA card, or what its absence means."""
    executable = shutil.which("nvidia-smi")
    if executable is None:
        return "none found: training and inference run on the CPU"
    query = [executable, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi gives no answer; check the driver"
    return found.stdout.strip().replace("\n", "; ") or "none found"


def hub_cache() -> str:
    """Folder into which models from the Hub are downloaded."""
    explicit = os.environ.get("HF_HUB_CACHE")
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return explicit or str(home / "hub")


def _rows() -> QFormLayout:
    rows = QFormLayout()
    rows.setHorizontalSpacing(SPACE.l)
    rows.setVerticalSpacing(SPACE.s)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.FieldsStayAtSizeHint)
    return rows


INFO = PageInfo("settings", "Settings", "settings", 100, SettingsPage, needs_project=False)
