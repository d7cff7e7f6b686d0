"""Text as high as its content, plain or Markdown, to be stacked in a scrolling column."""

from __future__ import annotations

import re

from PySide6.QtCore import QEvent, QSize, Qt, QUrl
from PySide6.QtGui import (
    QFont,
    QPainter,
    QPaintEvent,
    QTextBlock,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextOption,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QTextBrowser

from llamaduo_gui.gui.theme.fonts import load_fonts, point_size
from llamaduo_gui.gui.theme.theme import color, theme_notifier
from llamaduo_gui.gui.theme.tokens import SEMIBOLD

_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_FRAME = 4  # the 2 px on either side that become the focus ring


class FlowText(QTextBrowser):
    """Selectable text without scroll bars of its own (but code scrolls sideways).

    Markdown comes from models: HTML in it is shown as written, and neither images nor links
    are ever loaded.
    """

    def __init__(self, name: str, *, is_code: bool = False) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setProperty("flat", True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setOpenLinks(False)
        self.setUndoRedoEnabled(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(0)
        self.document().setIndentWidth(18)
        self._is_code = is_code
        self._markdown: str | None = None
        self._shows_caret = False
        if is_code:
            self.setProperty("role", "mono")
            self.setWordWrapMode(QTextOption.WrapMode.NoWrap)
            self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        else:
            self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.document().contentsChanged.connect(self.updateGeometry)
        theme_notifier().changed.connect(self._restyle)

    def set_text(self, text: str) -> None:
        """Show plain text; a longer version of what is shown is appended, not laid out anew."""
        self._markdown = None
        shown = self.toPlainText()
        if text == shown:
            return
        if shown and text.startswith(shown):
            cursor = QTextCursor(self.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(text[len(shown) :])
        else:
            self.setPlainText(text)

    def set_markdown(self, text: str) -> None:
        """Show Markdown (GitHub dialect, HTML off, images named in place of shown)."""
        self._markdown = text
        features = (
            QTextDocument.MarkdownFeature.MarkdownDialectGitHub
            | QTextDocument.MarkdownFeature.MarkdownNoHTML
        )
        self.document().setMarkdown(_IMAGE.sub(r"[image: \1]", text), features)
        _style_document(self.document())
        self.updateGeometry()

    def set_caret(self, is_shown: bool) -> None:
        """Show or hide a caret after the last character, while text is being written."""
        self._shows_caret = is_shown
        self.viewport().update()

    def loadResource(self, _type: int, _name: QUrl | str) -> object:
        """Load nothing: a path or address in a model's answer must not be opened."""
        return None

    def hasHeightForWidth(self) -> bool:
        """Wrapped text is higher when narrow."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Height in px that shows all lines at `width`."""
        self.ensurePolished()  # the sheet decides the font, and a wrong one a wrong height
        document = self.document()
        if self._is_code:
            height = document.size().height()
            if document.idealWidth() > width - _FRAME:
                height += self.horizontalScrollBar().sizeHint().height()
            return round(height) + _FRAME
        before = document.textWidth()
        document.setTextWidth(max(1, width - _FRAME))
        height = document.size().height()
        document.setTextWidth(before)
        return round(height + 0.49) + _FRAME

    def sizeHint(self) -> QSize:
        """The text on as few lines as it has."""
        self.ensurePolished()
        document = self.document()
        before = document.textWidth()
        document.setTextWidth(-1)
        size = QSize(round(document.idealWidth()) + _FRAME + 1, round(document.size().height()))
        document.setTextWidth(before)
        return QSize(size.width(), size.height() + _FRAME)

    def minimumSizeHint(self) -> QSize:
        """One line of a few letters."""
        return QSize(60, self.fontMetrics().height() + _FRAME)

    def changeEvent(self, event: QEvent) -> None:
        """Measure again with another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.updateGeometry()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave vertical scrolling to the column; code takes sideways movement."""
        if self._is_code and abs(event.angleDelta().x()) > abs(event.angleDelta().y()):
            super().wheelEvent(event)
        else:
            event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text and the caret."""
        super().paintEvent(event)
        if self._shows_caret:
            end = QTextCursor(self.document())
            end.movePosition(QTextCursor.MoveOperation.End)
            place = self.cursorRect(end)
            painter = QPainter(self.viewport())
            painter.fillRect(
                place.left() + 1, place.top() + 1, 2, place.height() - 2, color("text")
            )

    def _restyle(self) -> None:
        if self._markdown is not None:
            self.set_markdown(self._markdown)
        self.updateGeometry()


def _style_document(document: QTextDocument) -> None:
    """Bring Markdown's headings and code to the type scale; Qt's own are far larger."""
    block = document.begin()
    while block.isValid():
        if block.blockFormat().headingLevel() > 0:
            _style_heading(block)
        _style_spans(block)
        block = block.next()


def _style_heading(block: QTextBlock) -> None:
    cursor = QTextCursor(block)
    cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
    text = QTextCharFormat()
    text.setFontWeight(SEMIBOLD)
    is_large = block.blockFormat().headingLevel() <= 2
    text.setFontPointSize(point_size("verdict" if is_large else "body"))
    cursor.mergeCharFormat(text)
    paragraph = QTextBlockFormat()
    paragraph.setTopMargin(8)
    paragraph.setBottomMargin(4)
    cursor.mergeBlockFormat(paragraph)


def _style_spans(block: QTextBlock) -> None:
    """Code in the monospace face; bold at 600, the heaviest shipped, so that none is faked."""
    code = QTextCharFormat()
    code.setFontFamilies([load_fonts()[1]])
    code.setFontPointSize(point_size("small"))
    code.setFontStyleHint(QFont.StyleHint.Monospace)
    bold = QTextCharFormat()
    bold.setFontWeight(SEMIBOLD)
    spans: list[tuple[int, int, QTextCharFormat]] = []
    walk = block.begin()
    while not walk.atEnd():
        fragment = walk.fragment()
        if fragment.charFormat().fontFixedPitch():
            spans.append((fragment.position(), fragment.length(), code))
        if fragment.charFormat().fontWeight() > SEMIBOLD:
            spans.append((fragment.position(), fragment.length(), bold))
        walk += 1
    for position, length, look in spans:
        cursor = QTextCursor(block.document())
        cursor.setPosition(position)
        cursor.setPosition(position + length, QTextCursor.MoveMode.KeepAnchor)
        cursor.mergeCharFormat(look)
