"""Tests of the guards that every other test relies on."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import keyring
import keyring.errors
import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_a_connection_beyond_this_machine_is_refused(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="loopback only"):
        socket.create_connection((host, 80), timeout=1)


def test_a_connection_by_address_is_refused_without_a_lookup() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="loopback only"):
        client.connect(("192.0.2.1", 80))


def test_loopback_connections_are_allowed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_the_home_folder_is_a_fresh_one(isolated_home: Path) -> None:
    assert Path.home() == isolated_home
    assert not any(path.is_file() for path in isolated_home.rglob("*"))


def test_the_testers_keyring_and_keys_are_out_of_reach() -> None:
    with pytest.raises(keyring.errors.NoKeyringError):
        keyring.get_password("llamaduo-gui", "openai")
    assert "OPENAI_API_KEY" not in os.environ


def test_a_thread_that_outlives_its_test_fails_it(pytester: pytest.Pytester) -> None:
    conftest = Path(__file__).parents[1] / "conftest.py"
    pytester.makeconftest(conftest.read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import threading

        def test_leaks():
            threading.Thread(target=threading.Event().wait, args=(8,), daemon=True).start()

        def test_joins():
            thread = threading.Thread(target=threading.Event().wait, args=(0.01,))
            thread.start()
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test left thread*running*"])


@hypothesis.given(st.integers())
def test_property_tests_run_under_the_guards(value: int) -> None:
    assert threading.active_count() >= 1
    assert value == int(str(value))
