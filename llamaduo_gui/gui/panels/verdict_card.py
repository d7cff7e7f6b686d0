"""The card above the results: the verdict as a sentence, why, and what to know before believing."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QWidget

from llamaduo_gui.gui.models.results_view import Headline
from llamaduo_gui.gui.theme.tokens import SPACE
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import IconLabel, Label
from llamaduo_gui.gui.widgets.pill import Pill

_GAP = 10


class VerdictCard(Card):
    """A pill and the claim, the ground below, then the caveats."""

    def __init__(self) -> None:
        super().__init__()
        self._pill = Pill("")
        self._claim = Label("", "verdict", wrap=True, selectable=True)
        self._claim.setAccessibleName("Verdict")
        self._ground = Label("", "small", tone="text2", wrap=True, selectable=True)
        self._ground.setAccessibleName("Ground of the verdict")
        for label in (self._claim, self._ground):
            label.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        row = QHBoxLayout()
        row.setSpacing(_GAP)
        row.addWidget(self._pill, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._claim, 1)
        self.body.addLayout(row)
        self.body.addWidget(self._ground)
        self._caveats = Label("", "small", tone="text2", wrap=True, selectable=True)
        self._caveats.setAccessibleName("What to know before believing the scores")
        self._caveats.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._warning = QWidget()
        line = QHBoxLayout(self._warning)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(SPACE.s)
        line.addWidget(IconLabel("warning", "warn", 14), 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self._caveats, 1)
        self.body.addWidget(self._warning)

    def show_headline(self, headline: Headline) -> None:
        """Show a verdict, or why there is none yet."""
        self._pill.set(headline.kind, headline.word, headline.icon)
        self._claim.setText(headline.claim)
        self._ground.setText(headline.ground)
        self._caveats.setText(" ".join(headline.caveats))
        self._warning.setVisible(bool(headline.caveats))

    def text(self) -> str:
        """Everything the card says."""
        parts = (self._pill, self._claim, self._ground, self._caveats)
        return " ".join(part.text() for part in parts if part.text())
