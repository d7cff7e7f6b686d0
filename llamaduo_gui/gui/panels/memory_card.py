"""Memory and time of a training as a card, before it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamaduo_gui.gui.models.train_view import PART_NAMES
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label
from llamaduo_gui.gui.widgets.memory_bar import MemoryBar
from llamaduo_gui.gui.widgets.wording import format_size

if TYPE_CHECKING:
    from llamaduo_gui.pipeline.local_estimate import LocalEstimate

# Less than this share of the whole is not worth a word.
_NAMED_SHARE = 0.01


class MemoryCard(Card):
    """A bar with what the memory is for, and the time, each as far as it is known."""

    def __init__(self) -> None:
        super().__init__("Memory and time")
        self.headline = Label("Reading the model's sizes", "strong", wrap=True)
        self.bar = MemoryBar()
        self.parts = Label("", "small", tone="text2", wrap=True)
        self.words = Label("", "small", tone="text2", wrap=True)
        self.machine = Label("", "small", tone="text2", wrap=True)
        for widget in (self.headline, self.bar, self.parts, self.words, self.machine):
            self.body.addWidget(widget)
        self.body.addStretch(1)

    def show_estimate(self, found: LocalEstimate | str) -> None:
        """Show an estimate, or why there is none."""
        is_known = not isinstance(found, str)
        for widget in (self.bar, self.parts, self.machine):
            widget.setVisible(is_known)
        if isinstance(found, str):
            self.headline.setText("Not known yet")
            self.headline.set_tone("text2")
            self.words.setText(found)
            return
        from llamaduo_gui.pipeline.forecast_text import time_range
        from llamaduo_gui.pipeline.local_estimate import advice

        training, machine = found.training, found.machine
        free = machine.model_bytes_free
        verdict = "" if found.does_fit else ": more than there is"
        self.headline.setText(
            f"About {format_size(training.needed_bytes)} of {format_size(free)} free{verdict}; "
            f"about {time_range(training.seconds)}"
        )
        self.headline.set_tone("text" if found.does_fit else "bad")
        factor = training.needed_bytes / training.memory.total
        shown = [
            (PART_NAMES.get(name, name), size * factor)
            for name, size in training.memory.parts.items()
            if size > 0
        ]
        self.bar.set_parts(shown, free)
        named = [item for item in shown if item[1] >= _NAMED_SHARE * training.needed_bytes]
        self.parts.setText(" · ".join(f"{name} {format_size(size)}" for name, size in named))
        self.words.setText(
            f"{found.parameters / 1e6:,.1f} million parameters, {found.trained / 1e6:,.2f} million "
            f"trained. Answering takes about {format_size(found.inference.needed_bytes)} and "
            f"{time_range(found.inference.seconds)}. {found.basis[:1].upper()}{found.basis[1:]}."
        )
        gpu = machine.gpus[0] if machine.gpus else None
        place = f"{gpu.name}, driver {gpu.driver}" if gpu else advice(found)
        disk = f" {format_size(machine.disk_free)} free on the disk."
        self.machine.setText(f"{place.rstrip('.')}.{disk}")
