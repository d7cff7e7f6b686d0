"""Fixtures and guards for every test: isolated folders, loopback only, no leaked threads."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Read at import or start-up by the libraries they configure: set before any test module loads.
os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Spinning OpenMP threads make tiny models twenty times slower when the cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for _name in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)

REPOSITORY = Path(__file__).resolve().parents[1]
THREAD_GRACE_S = 2.0
# Process-wide helper threads that libraries start once and never stop.
LIBRARY_THREADS = ("tqdm", "TMonitor", "QDBusConnection")
KEY_VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")

# A shared two-core machine makes per-example deadlines a coin toss.
hypothesis.settings.register_profile("llamaduo", deadline=None)
hypothesis.settings.load_profile("llamaduo")


def is_extended() -> bool:
    """Whether tests that take minutes are wanted."""
    return os.environ.get("LLAMADUO_EXTENDED") == "1"


def _has_nvidia_gpu() -> bool:
    """Whether `nvidia-smi -L` lists a card."""
    executable = shutil.which("nvidia-smi")
    if executable is None:
        return False
    listing = subprocess.run([executable, "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU 0" in listing.stdout


def _shared_data_dir() -> Path | None:
    """The data folder shared beside (or inside) the checkout, if this machine has one."""
    candidates = (REPOSITORY.parent / "shared" / "data", REPOSITORY / "shared" / "data")
    return next((path for path in candidates if path.is_dir()), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, the marked tests that this machine cannot run."""
    conditions: dict[str, tuple[Callable[[], bool], str]] = {
        "gpu": (_has_nvidia_gpu, "no NVIDIA GPU"),
        "extended": (is_extended, "set LLAMADUO_EXTENDED=1 to run it"),
        "shared_data": (lambda: _shared_data_dir() is not None, "no shared data folder"),
    }
    for marker, (is_met, reason) in conditions.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_met():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; the test asking for it carries the `shared_data` marker."""
    path = _shared_data_dir()
    if path is None:
        pytest.skip("no shared data folder")
    return path


@pytest.fixture(scope="session", autouse=True)
def _library_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give libraries one cache folder for the whole session, since building it takes seconds."""
    caches = tmp_path_factory.mktemp("library-caches")
    os.environ["MPLCONFIGDIR"] = str(caches / "matplotlib")
    os.environ["HF_HOME"] = str(caches / "huggingface")


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Point every per-user folder at a fresh one and hide the tester's API keys."""
    home = tmp_path_factory.mktemp("home")
    folders = {
        "HOME": home,
        "USERPROFILE": home,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "XDG_CACHE_HOME": home / ".cache",
        "APPDATA": home / "AppData" / "Roaming",
        "LOCALAPPDATA": home / "AppData" / "Local",
    }
    for variable, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(variable, str(folder))
    for variable in KEY_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return home


def _is_loopback(host: object) -> bool:
    """Whether `host`, a name or an address as socket functions take it, is this machine."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse, before a packet leaves, every connection and look-up beyond this machine."""

    def refuse_remote(host: object) -> None:
        if not _is_loopback(host):
            pytest.fail(f"a test tried to reach {host!r}: tests talk to loopback only")

    def guarded(name: str) -> Callable[..., Any]:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse_remote(address[0])
            return original(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_remote(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded("connect"))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded("connect_ex"))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(autouse=True)
def _no_learnt_limits() -> None:
    """Forget what earlier tests learnt of a service: its port may be another's by now."""
    # Only where a test came to use limits: this file also guards folders without the package.
    if limits := sys.modules.get("llamaduo_gui.providers.limits"):
        limits.forget_limits()


@pytest.fixture(autouse=True)
def _no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a Python thread running two seconds after its end."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_GRACE_S
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith(LIBRARY_THREADS) and not _is_foreign(thread):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                pytest.fail(f"the test left thread {thread.name!r} running")


def _is_foreign(thread: threading.Thread) -> bool:
    """Whether Python only met this thread, as it does Qt's and llama.cpp's, and never ended it."""
    return isinstance(thread, threading._DummyThread)
