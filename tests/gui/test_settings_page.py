"""The Settings page: keys, tests of connections, models, own limits and prices."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, PasswordDeleteError
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from llamaduo_gui.core.config import JudgeConfig, PipelineConfig, PriceConfig, ServiceConfig
from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.core.service_settings import (
    LimitConfig,
    load_service_settings,
    service_settings_path,
    set_own_limits,
    set_own_price,
    with_own_limits,
)
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.dialogs.model_list import ModelListDialog
from llamaduo_gui.gui.dialogs.own_values import LimitFields, OwnValuesDialog, PriceFields
from llamaduo_gui.gui.dialogs.pipeline_form import ServiceFields
from llamaduo_gui.gui.dialogs.pipeline_settings import PipelineSettingsDialog
from llamaduo_gui.gui.models.services_view import dollars, price_row, read_services
from llamaduo_gui.gui.pages.settings import SettingsPage
from llamaduo_gui.gui.panels.own_values_card import OwnValuesCard
from llamaduo_gui.gui.panels.provider_panel import ProviderPanel
from llamaduo_gui.gui.theme.theme import apply_theme
from llamaduo_gui.gui.workspace import Workspace
from llamaduo_gui.providers.pricing import price_of
from llamaduo_gui.store.project import Project
from tests.fakes.openai_server import FakeOpenAI, Settings
from tests.gui.checks import clipped_texts, unnamed_focusables

WAIT_MS = 30_000
KEY = "sk-marked-7713"
HOUSE = ServiceConfig(
    provider="openai_compatible", model="house-model", base_url="https://models.example.org/v1"
)


class MemoryKeyring(KeyringBackend):
    """A keyring in memory that can be slow or refuse."""

    priority = 1.0
    name = "Memory keyring"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.refuses = False
        self.latency_s = 0.0

    def get_password(self, service: str, username: str) -> str | None:
        time.sleep(self.latency_s)
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.refuses:
            raise KeyringError("locked")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise PasswordDeleteError("none")
        del self.kept[service, username]


@pytest.fixture
def memory_keyring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    made = MemoryKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    models = ("house-large", "house-model", "other")
    with FakeOpenAI(Settings(key=KEY, models=models)) as running:
        yield running


@pytest.fixture
def workspace(app: QApplication, tmp_path: Path) -> Iterator[Workspace]:
    config = PipelineConfig(
        teacher=ServiceConfig(provider="openai", model="gpt-5", max_rpm=500),
        judges=(JudgeConfig(**HOUSE.model_dump()), JudgeConfig(provider="offline", model="tutor")),
    )
    made = Workspace()
    made.adopt(Project.create(tmp_path / "project", config))
    yield made
    made.close_project()


@pytest.fixture
def page(workspace: Workspace, qtbot: QtBot) -> Iterator[SettingsPage]:
    made = SettingsPage(workspace)
    qtbot.addWidget(made)
    made.resize(1084, 764)
    made.show()
    qtbot.waitExposed(made)
    settle(made, qtbot)
    yield made
    made.shutdown()


def settle(page: SettingsPage, qtbot: QtBot) -> None:
    """Wait until the page has read everything."""
    qtbot.waitUntil(lambda: not page.background.is_busy, timeout=WAIT_MS)


def panel(page: SettingsPage, provider: str) -> ProviderPanel:
    return page.cards.keys.panels[provider]


def click(button: QWidget) -> None:
    """Click a button once it is laid out, scrolled to where a person would see it."""
    QApplication.processEvents()
    area = button.window().findChild(QScrollArea)
    if area is not None and area.isAncestorOf(button):
        area.ensureWidgetVisible(button)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def save_key(page: SettingsPage, qtbot: QtBot, provider: str, key: str) -> None:
    field = page.key_field(provider)
    QTest.keyClicks(field.field(), key)
    QTest.keyClick(field.field(), Qt.Key.Key_Return)
    settle(page, qtbot)


def confirm_delete(page: SettingsPage, qtbot: QtBot, provider: str) -> None:
    click(page.key_field(provider).delete_button())
    dialog = page.findChild(ConfirmDialog)
    assert isinstance(dialog, ConfirmDialog)
    click(dialog.action_button)
    settle(page, qtbot)


def row(card: OwnValuesCard, name: str) -> tuple[str, ...]:
    return next(cells[1:] for cells in card.table.rows() if cells[0] == name)


def open_dialog(card: OwnValuesCard, name: str) -> OwnValuesDialog:
    names = [cells[0] for cells in card.table.rows()]
    card.table.select_row(names.index(name))
    dialog = card.edit()
    assert dialog is not None
    return dialog


def test_a_key_is_kept_in_the_keyring_that_is_named_and_can_be_deleted(
    memory_keyring: MemoryKeyring, page: SettingsPage, qtbot: QtBot
) -> None:
    assert "Keys are saved in Memory keyring" in page.cards.keys.keyring_line.text()
    save_key(page, qtbot, "openai", KEY)
    field = page.key_field("openai")
    assert field.source_text() == "in the keyring (Memory keyring)"
    assert field.field().text() == ""
    assert memory_keyring.kept == {("llamaduo-gui", "openai"): KEY}
    assert not page.cards.keys.banner.isVisible()
    confirm_delete(page, qtbot, "openai")
    assert field.source_text().startswith("not set")
    assert memory_keyring.kept == {}


def test_without_a_keyring_a_key_is_for_this_session_and_both_are_said(
    page: SettingsPage, qtbot: QtBot
) -> None:
    assert "There is no keyring on this system" in page.cards.keys.keyring_line.text()
    save_key(page, qtbot, "anthropic", KEY)
    assert page.key_field("anthropic").source_text() == "for this session only"
    assert "is not stored: no keyring" in page.cards.keys.banner.text()
    confirm_delete(page, qtbot, "anthropic")
    assert page.workspace.secrets.get("anthropic") is None


def test_a_keyring_that_refuses_is_named(
    memory_keyring: MemoryKeyring, page: SettingsPage, qtbot: QtBot
) -> None:
    memory_keyring.refuses = True
    save_key(page, qtbot, "openai", KEY)
    assert page.key_field("openai").source_text() == "for this session only"
    assert "Memory keyring refused; this session only" in page.cards.keys.banner.text()


def test_an_environment_variable_is_named_and_comes_before_a_typed_key(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace, qtbot: QtBot
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-outside")
    page = SettingsPage(workspace)
    qtbot.addWidget(page)
    page.show()
    settle(page, qtbot)
    field = page.key_field("openai")
    assert field.source_text() == "from the environment variable OPENAI_API_KEY"
    assert field.delete_button().isHidden()
    save_key(page, qtbot, "openai", KEY)
    assert "OPENAI_API_KEY is set and comes first" in page.cards.keys.banner.text()


def test_a_connection_is_tried_with_a_wrong_and_a_right_key(
    page: SettingsPage, server: FakeOpenAI, qtbot: QtBot
) -> None:
    tried = panel(page, "openai_compatible")
    assert tried.address.text() == HOUSE.base_url, "that of the project is offered"
    tried.address.setText(server.url)
    field = tried.key_field
    loaded = "openai" in sys.modules
    QTest.keyClicks(field.field(), "sk-wrong")
    click(field.test_button())
    assert field.state_text() == "Testing\u2026"
    assert not field.test_button().isEnabled()
    qtbot.waitUntil(lambda: field.state_text() == "Failed", timeout=WAIT_MS)
    assert "did not accept the API key" in tried.outcome.text()
    assert "sk-wrong" not in tried.outcome.text()
    field.field().selectAll()
    QTest.keyClicks(field.field(), KEY)
    assert field.state_text() == "", "another key is another test"
    click(field.test_button())
    qtbot.waitUntil(lambda: field.state_text() == "Works, 3 models", timeout=WAIT_MS)
    assert "lists 3 models" in tried.outcome.text()
    assert ("openai" in sys.modules) == loaded, "the window's process loads no SDK"


def test_an_address_that_is_missing_is_asked_for(page: SettingsPage, qtbot: QtBot) -> None:
    tried = panel(page, "openai_compatible")
    tried.address.clear()
    click(tried.key_field.test_button())
    qtbot.waitUntil(lambda: tried.key_field.state_text() == "Failed", timeout=WAIT_MS)
    assert "needs an address, for example" in tried.outcome.text()


def test_a_slow_keyring_does_not_stop_the_window(
    memory_keyring: MemoryKeyring, page: SettingsPage, server: FakeOpenAI, qtbot: QtBot
) -> None:
    save_key(page, qtbot, "openai_compatible", KEY)
    memory_keyring.latency_s = 0.8
    tried = panel(page, "openai_compatible")
    tried.address.setText(server.url)
    started = time.monotonic()
    click(tried.key_field.test_button())
    assert time.monotonic() - started < 0.5
    qtbot.waitUntil(lambda: tried.key_field.state_text() == "Works, 3 models", timeout=WAIT_MS)


def test_models_are_listed_searched_and_copied(
    page: SettingsPage, server: FakeOpenAI, qtbot: QtBot
) -> None:
    tried = panel(page, "openai_compatible")
    tried.address.setText(server.url)
    tried.key_field.field().setText(KEY)
    click(tried.models_button)
    dialog = tried.findChild(ModelListDialog)
    assert isinstance(dialog, ModelListDialog)
    assert dialog.state.text().startswith("Asking")
    qtbot.waitUntil(lambda: len(dialog.model_names()) == 3, timeout=WAIT_MS)
    assert unnamed_focusables(dialog) == clipped_texts(dialog) == []
    QTest.keyClicks(dialog.filter.search_field(), "model house")
    qtbot.waitUntil(lambda: dialog.model_names() == ["house-model"], timeout=WAIT_MS)
    click(dialog.copy_button)
    assert QApplication.clipboard().text() == "house-model"
    assert not dialog.choose_button.isVisible()
    dialog.reject()


def test_a_list_that_does_not_come_says_why_and_can_be_asked_for_again(
    page: SettingsPage, server: FakeOpenAI, qtbot: QtBot
) -> None:
    dialog = ModelListDialog(page, page.workspace.secrets, "House", can_choose=True)
    dialog.open()
    dialog.ask("openai_compatible", server.url, "sk-wrong")
    qtbot.waitUntil(dialog.again_button.isEnabled, timeout=WAIT_MS)
    assert "did not accept the API key" in dialog.state.text()
    assert not dialog.choose_button.isEnabled()
    server.settings.key = "sk-wrong"
    click(dialog.again_button)
    qtbot.waitUntil(lambda: len(dialog.model_names()) == 3, timeout=WAIT_MS)
    dialog.table.select_row(1)
    with qtbot.waitSignal(dialog.chosen) as chosen:
        QTest.keyClick(dialog.table, Qt.Key.Key_Return)
    assert chosen.args == [dialog.model_names()[1]]


def test_a_limit_is_edited_used_and_removed(page: SettingsPage, qtbot: QtBot) -> None:
    limits = page.cards.limits
    assert [cells[0] for cells in limits.table.rows()] == ["openai:gpt-5", HOUSE.name]
    assert row(limits, HOUSE.name) == ("no limit", "no limit", "8", "not set")
    dialog = open_dialog(limits, HOUSE.name)
    assert unnamed_focusables(dialog) == clipped_texts(dialog) == []
    fields = dialog.fields
    assert isinstance(fields, LimitFields)
    fields.rpm.setValue(60)
    fields.concurrency.setValue(3)
    click(dialog.save_button)
    settle(page, qtbot)
    assert row(limits, HOUSE.name) == ("60", "no limit", "3", "your own")
    limited = with_own_limits(HOUSE)
    assert (limited.max_rpm, limited.max_tpm, limited.concurrency) == (60, None, 3)
    assert limits.remove_button.isEnabled()
    click(limits.remove_button)
    settle(page, qtbot)
    assert row(limits, HOUSE.name) == ("no limit", "no limit", "8", "not set")
    assert load_service_settings().limits == {}
    assert not limits.remove_button.isEnabled()


def test_a_limit_of_the_project_comes_first_and_the_page_says_so(
    page: SettingsPage, qtbot: QtBot
) -> None:
    limits = page.cards.limits
    assert row(limits, "openai:gpt-5") == ("500", "no limit", "8", "pipeline.yaml")
    set_own_limits("openai:gpt-5", LimitConfig(max_rpm=60, max_tpm=9000))
    page.refresh()
    settle(page, qtbot)
    assert row(limits, "openai:gpt-5") == ("500", "9,000", "8", "pipeline.yaml, your own")
    dialog = open_dialog(limits, "openai:gpt-5")
    texts = [label.text() for label in dialog.findChildren(type(limits.note))]
    assert any("pipeline.yaml sets 500 requests a minute" in text for text in texts)
    dialog.reject()


def test_a_service_of_no_project_is_added_by_name(page: SettingsPage, qtbot: QtBot) -> None:
    click(page.cards.limits.add_button)
    dialog = page.findChild(OwnValuesDialog)
    assert isinstance(dialog, OwnValuesDialog)
    offered = [dialog.provider.itemData(place) for place in range(dialog.provider.count())]
    assert offered == ["anthropic", "gemini", "openai", "openai_compatible"]
    assert isinstance(dialog.fields, LimitFields)
    dialog.fields.tpm.setValue(5000)
    click(dialog.save_button)
    assert dialog.isVisible(), "a model has to be named"
    dialog.model.setText("claude-x")
    click(dialog.save_button)
    settle(page, qtbot)
    assert row(page.cards.limits, "anthropic:claude-x")[1] == "5,000"
    assert "anthropic:claude-x" not in [cells[0] for cells in page.cards.prices.table.rows()]


def test_an_unknown_price_is_named_entered_used_and_removed(
    page: SettingsPage, qtbot: QtBot
) -> None:
    prices = page.cards.prices
    listed = row(prices, "openai:gpt-5")
    assert listed[:3] == ("$1.25", "$0.125", "$10.00")
    assert listed[3].startswith("genai-prices ")
    assert row(prices, HOUSE.name)[3] == "not known"
    assert f"No price is known for {HOUSE.name}" in prices.note.text()
    dialog = open_dialog(prices, HOUSE.name)
    assert unnamed_focusables(dialog) == clipped_texts(dialog) == []
    fields = dialog.fields
    assert isinstance(fields, PriceFields)
    fields.input.setValue(0.25)
    fields.output.setValue(1.5)
    session = page.workspace.session
    assert session is not None
    with qtbot.waitSignal(session.changed, timeout=WAIT_MS) as changed:
        click(dialog.save_button)
    assert changed.args == [frozenset({"replies"})], "forecasts are made again"
    settle(page, qtbot)
    assert row(prices, HOUSE.name) == ("$0.25", "$0.25", "$1.50", "your own")
    assert "No price is known" not in prices.note.text()
    price = price_of(HOUSE)
    assert price is not None
    assert (price.input, price.output, price.origin) == (0.25, 1.5, "own")
    click(prices.remove_button)
    settle(page, qtbot)
    assert price_of(HOUSE) is None


def test_editing_a_listed_price_starts_from_it(page: SettingsPage, qtbot: QtBot) -> None:
    dialog = open_dialog(page.cards.prices, "openai:gpt-5")
    assert isinstance(dialog.fields, PriceFields)
    expected = PriceConfig(input=1.25, output=10.0, cached_input=0.125)
    assert dialog.fields.value() == expected
    dialog.fields.same.setChecked(True)
    assert dialog.fields.value() == PriceConfig(input=1.25, output=10.0)
    dialog.reject()


def test_a_file_that_is_not_valid_is_named_and_left_alone(page: SettingsPage, qtbot: QtBot) -> None:
    service_settings_path().write_text("prices: {")
    page.refresh()
    settle(page, qtbot)
    assert "services.yaml line 1: not valid YAML" in page.message()
    assert page.cards.limits.table.rows() == []
    assert "services.yaml" in page.cards.limits.note.text()
    service_settings_path().unlink()
    page.refresh()
    settle(page, qtbot)
    assert page.message() == ""


def test_without_a_project_only_own_values_are_shown(app: QApplication, qtbot: QtBot) -> None:
    page = SettingsPage(Workspace())
    qtbot.addWidget(page)
    page.show()
    settle(page, qtbot)
    assert not page.cards.limits.table.isVisible()
    assert "Add a service" in page.cards.limits.note.text()
    set_own_price("gemini:gemini-2.5-pro", PriceConfig(input=1, output=8))
    page.refresh()
    settle(page, qtbot)
    assert row(page.cards.prices, "gemini:gemini-2.5-pro")[3] == "your own"
    assert "Add a service" in page.cards.limits.note.text()


def test_rows_are_edited_by_key(page: SettingsPage, qtbot: QtBot) -> None:
    table = page.cards.prices.table
    table.setFocus()
    table.select_row(0)
    QTest.keyClick(table, Qt.Key.Key_J)
    QTest.keyClick(table, Qt.Key.Key_Return)
    dialog = page.findChild(OwnValuesDialog)
    assert isinstance(dialog, OwnValuesDialog)
    assert dialog.windowTitle() == f"Price of {HOUSE.name}"
    dialog.reject()


@pytest.mark.parametrize(
    ("size", "scale"), [((1084, 764), 1.0), ((964, 660), 1.0), ((964, 660), 1.3)]
)
def test_nothing_is_cut_off_and_everything_has_a_name(
    page: SettingsPage, app: QApplication, qtbot: QtBot, size: tuple[int, int], scale: float
) -> None:
    tried = panel(page, "openai_compatible")
    tried.address.clear()
    click(tried.key_field.test_button())
    qtbot.waitUntil(lambda: tried.key_field.state_text() == "Failed", timeout=WAIT_MS)
    for mode in ("light", "dark"):
        apply_theme(app, mode, scale)
        page.resize(*size)
        app.processEvents()
        assert clipped_texts(page) == []
        assert unnamed_focusables(page) == []
        area = page.findChild(QScrollArea)
        assert area is not None
        assert area.horizontalScrollBar().maximum() == 0


def test_prices_are_written_with_the_decimals_they_have(app: QApplication) -> None:
    written = [dollars(amount) for amount in (0, 1.25, 0.075, 1500, 3)]
    assert written == ["$0.00", "$1.25", "$0.075", "$1,500.00", "$3.00"]


def test_a_price_that_rises_with_the_prompt_is_marked(tmp_path: Path) -> None:
    teacher = ServiceConfig(provider="anthropic", model="claude-sonnet-4-5")
    with Project.create(tmp_path / "project", PipelineConfig(teacher=teacher)) as project:
        view = read_services(project)
    assert price_row(view.uses[0])[1] == "$3.00+"


def test_the_page_loads_nothing_slow_with_the_window() -> None:
    code = (
        "import sys, llamaduo_gui.gui.pages.settings; "
        "print(*{'pydantic', 'asyncio', 'keyring', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_settings_of_a_project_take_a_model_from_the_list(
    app: QApplication, server: FakeOpenAI, qtbot: QtBot
) -> None:
    secrets = SecretStore()
    secrets.set("openai_compatible", KEY)
    teacher = HOUSE.model_copy(update={"base_url": server.url})
    dialog = PipelineSettingsDialog(None, PipelineConfig(teacher=teacher), secrets)
    qtbot.addWidget(dialog)
    dialog.show()
    assert unnamed_focusables(dialog) == clipped_texts(dialog) == []
    fields = dialog.findChildren(ServiceFields)[0]
    click(fields.models_button)
    listed = fields.findChild(ModelListDialog)
    assert isinstance(listed, ModelListDialog)
    qtbot.waitUntil(lambda: len(listed.model_names()) == 3, timeout=WAIT_MS)
    listed.table.select_row(listed.model_names().index("other"))
    click(listed.choose_button)
    assert fields.values()["model"] == "other"
    fields.set_values({"provider": "offline", "model": "tutor"})
    assert fields.models_button.isHidden(), "it has no models to list"
