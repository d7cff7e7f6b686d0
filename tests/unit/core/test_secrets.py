"""API keys: where they are looked for, where they are kept, and that they never show."""

from __future__ import annotations

from collections.abc import Iterator

import keyring
import keyring.backend
import pytest
from keyring.errors import KeyringError, PasswordDeleteError

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.secrets import SecretStore

KEY = "sk-marked-0123456789"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring of the operating system, as far as the `keyring` package is concerned."""

    priority = 1  # type: ignore[assignment]
    name = "Memory"
    is_locked = False

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise KeyringError("locked")
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.entries:
            raise PasswordDeleteError("none")
        del self.entries[service, username]


@pytest.fixture
def system_keyring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_a_key_goes_to_the_keyring_under_the_documented_names(
    system_keyring: MemoryKeyring,
) -> None:
    store = SecretStore()
    status = store.set("openai", f" {KEY}\n")
    assert (status.source, status.detail) == ("keyring", "Memory")
    assert system_keyring.entries == {("llamaduo-gui", "openai"): KEY}
    assert SecretStore().get("openai") == KEY


def test_without_a_keyring_a_key_lasts_for_the_session_and_says_so() -> None:
    store = SecretStore()
    assert not store.keyring_info().is_available
    status = store.set("openai", KEY)
    assert status.source == "session"
    assert "session" in status.detail
    assert store.get("openai") == KEY
    assert SecretStore().get("openai") is None


def test_a_locked_keyring_falls_back_to_the_session(system_keyring: MemoryKeyring) -> None:
    system_keyring.is_locked = True
    store = SecretStore()
    assert store.set("openai", KEY).source == "session"
    assert store.get("openai") == KEY


def test_the_keyring_comes_before_the_environment(
    system_keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "from-environment")
    store = SecretStore()
    assert store.status("gemini").detail == "GOOGLE_API_KEY"
    store.set("gemini", KEY)
    assert store.get("gemini") == KEY


def test_an_openai_key_is_not_offered_to_other_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert SecretStore().collect({"openai_compatible"}) == {}


def test_deleting_forgets_the_key_everywhere(system_keyring: MemoryKeyring) -> None:
    store = SecretStore()
    store.set("openai", KEY)
    assert store.delete("openai")
    assert not store.delete("openai")
    assert store.get("openai") is None
    assert system_keyring.entries == {}


@pytest.mark.parametrize("key", ["", "   ", "two\nlines"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(UserError):
        SecretStore().set("openai", key)


def test_the_store_does_not_show_its_keys() -> None:
    store = SecretStore()
    store.set("openai", KEY)
    assert KEY not in repr(store) + repr(store.status("openai"))
