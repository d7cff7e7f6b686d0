"""The providers with their keys: kept, tried, deleted; and what the keyring of this system is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.secrets import (
    ENVIRONMENT_VARIABLES,
    KeyringInfo,
    KeyStatus,
    SecretStore,
)
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.dialogs.confirm import ConfirmDialog
from llamaduo_gui.gui.panels.provider_panel import ProviderPanel
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import Label, Separator
from llamaduo_gui.gui.widgets.message_banner import MessageBanner
from llamaduo_gui.providers.base import ProviderInfo
from llamaduo_gui.providers.registry import all_providers


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the keyring is, which providers take a key, and where each key comes from."""

    keyring: KeyringInfo
    infos: tuple[ProviderInfo, ...]
    statuses: tuple[KeyStatus, ...]


def read_keys(secrets: SecretStore) -> KeyState:
    """Ask for the providers, the keyring and the source of each key; takes time."""
    infos = [info for info in all_providers().values() if info.name in ENVIRONMENT_VARIABLES]
    # The one whose key few need comes last.
    infos.sort(key=lambda info: not info.needs_key)
    statuses = tuple(secrets.status(info.name) for info in infos)
    return KeyState(secrets.keyring_info(), tuple(infos), statuses)


class KeysCard(Card):
    """One panel for each provider that takes a key; all asking happens off the GUI thread."""

    def __init__(
        self, secrets: SecretStore, background: Background, show_error: Callable[[str], None]
    ) -> None:
        super().__init__("Providers and keys", "keys are never written to a file")
        self._secrets = secrets
        self._background = background
        self._show_error = show_error
        self._services: tuple[ServiceConfig, ...] = ()
        self.panels: dict[str, ProviderPanel] = {}
        self.keyring_line = Label("Looking for a keyring\u2026", tone="text2", wrap=True)
        self.banner = MessageBanner()
        self.body.addWidget(self.keyring_line)
        self.body.addWidget(self.banner)

    def refresh(self) -> None:
        """Ask for the providers and the keyring again."""
        self._background.run(
            "keys", partial(read_keys, self._secrets), self.show_keys, self._show_error
        )

    def set_services(self, services: Sequence[ServiceConfig]) -> None:
        """The services of the open project, whose addresses are offered."""
        self._services = tuple(services)
        for name, panel in self.panels.items():
            panel.set_service(next((s for s in services if s.provider == name), None))

    def shutdown(self) -> None:
        """Drop the tests under way."""
        for panel in self.panels.values():
            panel.shutdown()

    def show_keys(self, keys: KeyState) -> None:
        """Show what was found."""
        self.keyring_line.setText(_describe(keys.keyring))
        for info, status in zip(keys.infos, keys.statuses, strict=True):
            if info.name not in self.panels:
                self._add_panel(info)
            self.panels[info.name].set_status(status)

    def _add_panel(self, info: ProviderInfo) -> None:
        panel = ProviderPanel(info, self._secrets)
        panel.key_field.save_requested.connect(partial(self._save, panel))
        panel.key_field.delete_requested.connect(partial(self._ask_to_delete, panel))
        self.panels[info.name] = panel
        self.set_services(self._services)
        self.body.addWidget(Separator())
        self.body.addWidget(panel)

    def _save(self, panel: ProviderPanel, key: str) -> None:
        name = panel.info.name

        def keep() -> tuple[KeyStatus, KeyStatus]:
            return self._secrets.set(name, key), self._secrets.status(name)

        panel.key_field.clear()
        panel.forget_outcome()
        self._background.run(f"save {name}", keep, partial(self._note_saved, panel), self._fail)

    def _note_saved(self, panel: ProviderPanel, outcome: tuple[KeyStatus, KeyStatus]) -> None:
        kept, in_use = outcome
        if in_use.source == "environment":
            self.banner.show_message(
                "warn",
                f"The key for {panel.info.title} is kept for this session, but {in_use.detail} is "
                "set and comes first; unset it and open the window again to use the new key.",
            )
        elif kept.source == "session":
            self.banner.show_message(
                "info", f"The key for {panel.info.title} is not stored: {kept.detail}."
            )
        else:
            self.banner.clear()
        self.refresh()

    def _ask_to_delete(self, panel: ProviderPanel) -> None:
        dialog = ConfirmDialog(
            self,
            f"Delete the key for {panel.info.title}?",
            "The key is removed from the keyring and from this session.",
            "Delete key",
            kind="danger",
        )
        dialog.accepted.connect(partial(self._delete, panel))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _delete(self, panel: ProviderPanel) -> None:
        name = panel.info.name
        panel.forget_outcome()
        self.banner.clear()
        self._background.run(
            f"delete {name}",
            partial(self._secrets.delete, name),
            lambda _: self.refresh(),
            self._fail,
        )

    def _fail(self, text: str) -> None:
        self.banner.show_message("bad", text)


def _describe(keyring: KeyringInfo) -> str:
    if keyring.is_available:
        return (
            f"Keys are saved in {keyring.name}, the keyring of this system. "
            "A key there comes before an environment variable."
        )
    return (
        f"There is {keyring.name}: a key typed here is held in memory until the window closes. "
        "To keep a key, set its environment variable before the window opens."
    )
