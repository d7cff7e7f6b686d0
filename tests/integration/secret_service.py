"""Unlocks a new Secret Service and runs commands beside it; for `dbus-run-session`.

    dbus-run-session -- python -m tests.integration.secret_service < COMMANDS

Standard input is a JSON list of [arguments, text for the command's standard input]; standard
output is a JSON list of [exit status, standard output, standard error].
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Start the keyring daemon, run each command, report, stop the daemon."""
    commands = json.loads(sys.stdin.read())
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert daemon.stdin is not None
    daemon.stdin.write(b"the keyring's own password")
    daemon.stdin.close()
    results = []
    try:
        for arguments, text in commands:
            done = subprocess.run(
                [sys.executable, "-m", "llamaduo_gui", *arguments],
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
            results.append([done.returncode, done.stdout, done.stderr])
    finally:
        daemon.terminate()
        daemon.wait()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
