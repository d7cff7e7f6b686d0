"""The Settings page: providers and keys, limits, prices, appearance, and this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QApplication, QFormLayout

from llamaduo_gui.core.paths import user_state_dir
from llamaduo_gui.core.secrets import SecretStore
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
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.gui.widgets.segmented import SegmentedControl
from llamaduo_gui.gui.workspace import Workspace

if TYPE_CHECKING:
    from llamaduo_gui.gui.models.services_view import ServicesView
    from llamaduo_gui.gui.panels.own_values_card import OwnValuesCard
    from llamaduo_gui.gui.panels.service_cards import ServiceCards
    from llamaduo_gui.gui.widgets.key_field import KeyField
    from llamaduo_gui.store.project import Project


class SettingsPage(WorkspacePage):
    """Changes take effect at once."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Settings", workspace)
        self._banner = MessageBanner()
        self.body.addWidget(self._banner)
        self._cards: ServiceCards | None = None
        self._problem = ""
        self._reading = Label("Reading keys, limits and prices\u2026", tone="text2")
        self.body.addWidget(self._reading)
        self.body.addWidget(self._build_appearance())
        self.body.addWidget(self._build_machine())
        self.body.addStretch(1)

    @property
    def cards(self) -> ServiceCards:
        """Keys, limits and prices; RuntimeError until they are read."""
        if self._cards is None:
            raise RuntimeError("the page has not read its settings yet")
        return self._cards

    def refresh(self) -> None:
        """Ask the keyring, the project and the machine again, off the GUI thread."""
        self.background.run("gpu", describe_gpu, self._gpu.setText)
        if self._cards is None:
            project = self.session.project if self.session is not None else None
            load = partial(_load_cards, self.workspace.secrets, project)
            self.background.run("cards", load, self._add_cards, self._show_error)
        else:
            self._cards.keys.refresh()
            self._read_services()

    def showEvent(self, event: QShowEvent) -> None:
        """The settings of the project may have changed while another page was shown."""
        super().showEvent(event)
        self._read_services()

    def shutdown(self) -> None:
        """Drop what is being tried out."""
        if self._cards is not None:
            self._cards.keys.shutdown()

    def key_field(self, provider: str) -> KeyField:
        """The field for the key of one provider; KeyError until it is built."""
        return self.cards.keys.panels[provider].key_field

    def message(self) -> str:
        """The problem shown above the cards, or an empty text."""
        return self._banner.text() if self._banner.isVisible() else ""

    def choose_theme(self, mode: str) -> None:
        """Switch to `system`, `light` or `dark`."""
        self._mode.button(mode).click()

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
        own = str(user_state_dir() / "services.yaml")
        rows.addRow("Limits and prices", Label(own, selectable=True))
        rows.addRow("Demo projects", Label(str(user_state_dir() / "demos"), selectable=True))
        rows.addRow("Models from the Hub", Label(hub_cache(), selectable=True))
        card.body.addLayout(rows)
        return card

    def _add_cards(self, make: type[ServiceCards]) -> None:
        self._cards = cards = make(self.workspace.secrets, self.background, self._show_error)
        place = self.body.indexOf(self._reading)
        self._reading.hide()
        for card in (cards.prices, cards.limits, cards.keys):
            self.body.insertWidget(place, card)
        for own in (cards.limits, cards.prices):
            own.changed.connect(partial(self._keep, own))
        self.refresh()

    def _read_services(self) -> None:
        if self._cards is None:
            return
        project = self.session.project if self.session is not None else None
        self.background.run(
            "services",
            partial(self._cards.read_services, project),
            self._show_services,
            self._show_error,
        )

    def _show_services(self, view: ServicesView) -> None:
        if view.problem:
            self._banner.show_message("bad", view.problem)
        elif self._problem:
            self._banner.clear()
        self._problem = view.problem
        self.cards.show_services(view)

    def _keep(self, card: OwnValuesCard, name: str, value: object) -> None:
        self.background.run(
            f"keep {name}",
            partial(card.values.store, name, value),
            lambda _: self._note_kept(),
            self._show_error,
        )

    def _note_kept(self) -> None:
        self._banner.clear()
        self._read_services()
        if self.session is not None:
            # Pages that forecast cost and time read again what they make of replies.
            self.session.changed.emit(frozenset({"replies"}))

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


def _load_cards(secrets: SecretStore, project: Project | None) -> type[ServiceCards]:
    # In a background thread: providers and settings take as long to load as the whole window.
    from llamaduo_gui.gui.panels.service_cards import ServiceCards

    # The first reading loads the keyring and the price list. Done now, that does not compete
    # with the window while it builds the cards.
    ServiceCards.read(secrets, project)
    return ServiceCards


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
