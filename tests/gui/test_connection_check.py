"""Tests of Test connection as the window does it: in a child, the report as a signal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.connection_check import ConnectionCheck
from llamaduo_gui.providers.check import ConnectionReport
from tests.fakes.openai_server import FakeOpenAI, Settings

KEY = "sk-marked-0123456789"
TIMEOUT_MS = 60_000


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(Settings(key=KEY, models=("small", "large"))) as running:
        yield running


def test_a_typed_key_is_tried_before_it_is_saved(qtbot: QtBot, server: FakeOpenAI) -> None:
    check = ConnectionCheck(SecretStore())
    loaded = "openai" in sys.modules
    with qtbot.waitSignal(check.finished, timeout=TIMEOUT_MS) as caught:
        check.start("openai", "small", server.url, KEY)
        assert check.is_running
    report = caught.args[0]
    assert isinstance(report, ConnectionReport)
    assert report.ok
    assert [model.id for model in report.models] == ["large", "small"]
    assert not check.is_running
    assert ("openai" in sys.modules) == loaded, "the window's process loads no SDK"


def test_only_the_last_of_two_checks_reports(qtbot: QtBot, server: FakeOpenAI) -> None:
    check = ConnectionCheck(SecretStore())
    reports: list[ConnectionReport] = []
    check.finished.connect(reports.append)
    with qtbot.waitSignal(check.finished, timeout=TIMEOUT_MS):
        check.start("openai", "small", server.url, KEY)
        check.start("openai", "small", server.url, "sk-wrong")
    assert [report.ok for report in reports] == [False]
    assert "did not accept the API key" in reports[0].sentence


def test_a_dropped_check_says_nothing(qtbot: QtBot, server: FakeOpenAI) -> None:
    check = ConnectionCheck(SecretStore())
    with qtbot.assertNotEmitted(check.finished, wait=300):
        check.start("openai", "small", server.url, KEY)
        check.cancel()
    assert not check.is_running
