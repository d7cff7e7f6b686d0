"""Events survive their trip through a pipe, and anything else on it is recognised as noise."""

from __future__ import annotations

import pytest

from llamaduo_gui.core import events
from llamaduo_gui.core.events import Event, from_line, to_line

EXAMPLES: list[Event] = [
    events.Started(1, "judge", 2, "tuned", "judgements", 40),
    events.Progress(1, 3, 40, "judgements", 12.5, "saving"),
    events.MetricLogged(1, "loss", 0.25, 7),
    events.Changed(("runs", "replies")),
    events.Log("info", "synth", "Zeile mit ü und\nUmbruch", 1),
    events.Token("☃"),
    events.Chat("answered", 3, {"text": "Zeile\nUmbruch ☃", "seconds": 1.5, "cost": None}),
    events.Finished(1, "succeeded", result={"a": [1, None]}),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_an_event_reads_back_the_same_from_one_line(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


@pytest.mark.parametrize(
    "line",
    ["", "Loading...", "{", "[]", "3", '{"type": "nope"}', '{"type": "token"}', '{"type": []}'],
)
def test_what_is_no_event_is_none(line: str) -> None:
    assert from_line(line) is None
