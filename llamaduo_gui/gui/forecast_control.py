"""Fills the forecast card from the project, writes the budget, and starts a pilot."""

from __future__ import annotations

from PySide6.QtCore import QObject, Qt, Signal

from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.models.forecast_view import ForecastView, read_forecast, read_pilot
from llamaduo_gui.gui.panels.forecast_card import ForecastCard
from llamaduo_gui.gui.session import ProjectSession


class ForecastControl(QObject):
    """The life of one forecast card.

    Signals:
        said(str, str): a message for the page's banner, its kind ("info" or "bad") first.
        budget_changed(): `pipeline.yaml` has another budget.
    """

    said = Signal(str, str)
    budget_changed = Signal()

    def __init__(self, card: ForecastCard, background: Background) -> None:
        super().__init__(card)
        self._card = card
        self._background = background
        self._session: ProjectSession | None = None
        self._view = ForecastView()
        self._is_over = False
        card.budget_set.connect(self._set_budget)
        card.pilot_requested.connect(self._plan_pilot)

    def attach(self, session: ProjectSession | None) -> None:
        """Forecast another project."""
        self._session = session
        self._show(ForecastView())

    def refresh(self) -> None:
        """Forecast again; a loop at work is left alone."""
        if self._session is not None and not self._session.is_working:
            project = self._session.project
            self._background.run(
                "forecast", lambda: read_forecast(project), self._show, self._complain
            )

    def update_visibility(self, *, is_over: bool) -> None:
        """Show the card while it can change what a person does; `is_over` is a finished loop."""
        self._is_over = is_over
        is_working = self._session is not None and self._session.is_working
        self._card.setVisible(bool(self._view.lines) and not is_over and not is_working)

    def _show(self, view: ForecastView) -> None:
        self._view = view
        self._card.show_forecast(view)
        self.update_visibility(is_over=self._is_over)

    def _complain(self, text: str) -> None:
        self.said.emit("bad", text)

    def _set_budget(self, usd: float | None) -> None:
        if self._session is not None:
            project = self._session.project
            self._background.run(
                "budget",
                lambda: project.set_budget(usd),
                lambda _: self.budget_changed.emit(),
                self._complain,
            )

    def _plan_pilot(self) -> None:
        if self._session is not None and not self._session.is_working:
            project = self._session.project
            self._background.run(
                "pilot", lambda: read_pilot(project), self._ask_for_pilot, self._complain
            )

    def _ask_for_pilot(self, found: tuple[int, str]) -> None:
        """Say what the pilot may cost, and make it when the user agrees."""
        count, sentence = found
        if not count:
            self.said.emit("info", sentence)
            return
        dialog = ConfirmDialog(
            self._card,
            "Try real calls?",
            f"{sentence} The forecast then rests on them instead of text lengths.",
            f"Make {count:,} calls",
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(self._start_pilot)
        dialog.open()

    def _start_pilot(self) -> None:
        if self._session is not None and not self._session.is_working:
            self._session.start_job("pilot")
