"""API keys: OS keyring first, then environment variables, then a key held for this session.

Keys are never written to a file, a database, a log or a command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from llamaduo_gui.core.errors import UserError

SERVICE_NAME = "llamaduo-gui"
# Not a provider: what clients of `llamaduo-gui serve` have to send.
SERVER = "serve"

ENVIRONMENT_VARIABLES: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    # An OpenAI key is not sent to an arbitrary address, so this provider has its own variable.
    "openai_compatible": ("OPENAI_COMPATIBLE_API_KEY",),
    SERVER: ("LLAMADUO_SERVER_KEY",),
}

Source = Literal["keyring", "environment", "session", "none"]


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Where a provider's key comes from, without the key.

    `detail` names the keyring backend or the environment variable.
    """

    provider: str
    source: Source
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KeyringInfo:
    """Whether the operating system's keyring can be used, and its name or the reason why not."""

    is_available: bool
    name: str


@dataclass(slots=True)
class SecretStore:
    """Finds, sets and deletes keys; one instance per process."""

    _session: dict[str, str] = field(default_factory=dict, repr=False)

    def keyring_info(self) -> KeyringInfo:
        """Name the keyring backend in use, or say why there is none."""
        import keyring
        from keyring.backends import chainer, fail, null

        backend = keyring.get_keyring()
        if isinstance(backend, fail.Keyring | null.Keyring):
            return KeyringInfo(False, "no keyring on this system")
        if isinstance(backend, chainer.ChainerBackend):
            if not backend.backends:
                return KeyringInfo(False, "no keyring on this system")
            backend = backend.backends[0]
        return KeyringInfo(True, str(getattr(backend, "name", type(backend).__name__)))

    def get(self, provider: str) -> str | None:
        """The key for `provider`, or None."""
        return self._find(provider)[1]

    def status(self, provider: str) -> KeyStatus:
        """Where the key of `provider` comes from."""
        return self._find(provider)[0]

    def set(self, provider: str, key: str) -> KeyStatus:
        """Keep a key: in the keyring where there is one, else for this session only.

        Raises:
            UserError: the key is empty or holds a line break.
        """
        cleaned = key.strip()
        if not cleaned or "\n" in cleaned:
            raise UserError("The key is empty or has a line break; paste the key alone.")
        info = self.keyring_info()
        if info.is_available:
            import keyring
            from keyring.errors import KeyringError

            try:
                keyring.set_password(SERVICE_NAME, provider, cleaned)
            except KeyringError:
                self._session[provider] = cleaned
                return KeyStatus(provider, "session", f"{info.name} refused; this session only")
            self._session.pop(provider, None)
            return KeyStatus(provider, "keyring", info.name)
        self._session[provider] = cleaned
        return KeyStatus(provider, "session", f"{info.name}; this session only")

    def delete(self, provider: str) -> bool:
        """Forget the key in the keyring and in this session; True if there was one."""
        found = self._session.pop(provider, None) is not None
        if self.keyring_info().is_available:
            import keyring
            from keyring.errors import KeyringError, PasswordDeleteError

            try:
                keyring.delete_password(SERVICE_NAME, provider)
                found = True
            except PasswordDeleteError:
                return found
            except KeyringError as error:
                raise UserError(
                    f"The keyring did not delete the {provider} key ({type(error).__name__}); "
                    "unlock the keyring and try again."
                ) from error
        return found

    def collect(self, providers: Iterable[str]) -> dict[str, str]:
        """Keys of the named providers that have one, to hand to a child on standard input."""
        found = {name: self.get(name) for name in sorted({*providers})}
        return {name: key for name, key in found.items() if key}

    def _find(self, provider: str) -> tuple[KeyStatus, str | None]:
        info = self.keyring_info()
        if info.is_available:
            import keyring
            from keyring.errors import KeyringError

            try:
                key = keyring.get_password(SERVICE_NAME, provider)
            except KeyringError:
                key = None
            if key:
                return KeyStatus(provider, "keyring", info.name), key
        for variable in ENVIRONMENT_VARIABLES.get(provider, ()):
            value = os.environ.get(variable, "").strip()
            if value:
                return KeyStatus(provider, "environment", variable), value
        if provider in self._session:
            return KeyStatus(provider, "session", "this session only"), self._session[provider]
        return KeyStatus(provider, "none"), None
