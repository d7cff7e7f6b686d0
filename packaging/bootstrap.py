"""Sets LlamaDuo up in .venv beside pyproject.toml and starts it, with the standard library only.

    python3 packaging/bootstrap.py demo|run|test|install [set-up options] [arguments]

Standard output belongs to the program that is started; set-up speaks on standard error. This file
and its setup_* neighbours parse on Python 3.7, to be able to say that 3.7 is too old.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from setup_faults import check_display, lacks_venv
from setup_machine import SetupError, System, say
from setup_oracle import offer_converter
from setup_steps import PYTHONS, Options, Setup

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "demo": "the whole loop, offline, on the built-in data",
    "run": "open the window",
    "test": "every check of the project",
    "install": "set up only",
}
EXIT_UNABLE = 2
EXIT_STOPPED = 130


def find_python(system: System) -> str:
    """Path of a Python that can make the environment: the running one, else one on PATH."""
    version = "{}.{}".format(*system.version)
    if version in PYTHONS and system.has_module("ensurepip"):
        return system.executable
    probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys.executable)"
    launcher = system.which("py") if system.platform == "win32" else None
    for wanted in PYTHONS:
        found = system.which(f"python{wanted}")
        commands = [[found]] if found else []
        commands += [[launcher, f"-{wanted}"]] if launcher else []
        for command in commands:
            answer = system.run([*command, "-c", probe])
            words = answer.text.strip().split(" ", 1)
            if answer.is_ok and words[0] == wanted:
                return words[1]
    if version in PYTHONS:
        raise SetupError(lacks_venv(version, system.executable))
    raise SetupError(
        f"LlamaDuo needs Python 3.11, 3.12 or 3.13 and this is {version}, with no other on PATH: "
        "install one and run this again with it."
    )


def run_gates(setup: Setup, arguments: list[str]) -> int:
    """Run every check of the project, all of them even if one fails; 0 when all passed."""
    linter = "from importlinter.cli import lint_imports_command as lint; lint()"
    gates = {
        "ruff check": ["-m", "ruff", "check", "."],
        "ruff format": ["-m", "ruff", "format", "--check", "."],
        "mypy": ["-m", "mypy"],
        "import-linter": ["-c", linter, "--no-logo"],
        "pytest": ["-m", "pytest", *arguments],
    }
    results = []
    has_failed = False
    for name, command in gates.items():
        print(f"== {name}", flush=True)
        start = time.monotonic()
        code = setup.system.call([str(setup.python), *command], setup.root)
        has_failed = has_failed or code != 0
        word = "ok" if code == 0 else f"FAILED (exit {code})"
        results.append(f"{name} {word} {time.monotonic() - start:.0f} s")
    print("== " + ", ".join(results), flush=True)
    return int(has_failed)


def parse(argv: list[str]) -> tuple[str, Options, list[str]]:
    """Split the command line into the command, set-up's options and the program's arguments."""
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    shared.add_argument("--cuda", action="store_true", help="build llama.cpp for NVIDIA GPUs")
    shared.add_argument("--cpu", action="store_true", help="the CPU builds, also beside a GPU")
    shared.add_argument("--llama-wheels", metavar="URL", help="index of llama-cpp-python wheels")
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        parents=[shared],
        allow_abbrev=False,
        description="Set LlamaDuo up in .venv and start it.",
        epilog="Further arguments go to the command: demo --no-gui --json, test -k words.",
    )
    summary = "; ".join(f"{name}: {text}" for name, text in COMMANDS.items())
    parser.add_argument("command", choices=list(COMMANDS), help=summary)
    at = next((i for i, word in enumerate(argv) if word in COMMANDS), len(argv))
    first = parser.parse_args(argv[: at + 1])
    later, rest = shared.parse_known_args(argv[at + 1 :])
    options = Options(
        cuda=first.cuda or later.cuda,
        cpu=first.cpu or later.cpu,
        llama_wheels=later.llama_wheels or first.llama_wheels,
    )
    if options.cuda and options.cpu:
        parser.error("--cuda and --cpu exclude each other")
    return first.command, options, rest


def opens_window(command: str, arguments: list[str]) -> bool:
    """Whether this command line ends in a window; `run` also takes the app's other commands."""
    if command == "run":
        return not arguments or arguments[0] == "open"
    return command == "demo" and not {"--no-gui", "--help", "-h"} & set(arguments)


def start(command: str, arguments: list[str], setup: Setup) -> int:
    """Run `command` in the finished environment; returns its exit status."""
    if command == "install":
        say("LlamaDuo is set up; open it with: python3 packaging/bootstrap.py run")
        return 0
    if command == "test":
        offer_converter(setup)
        return run_gates(setup, arguments)
    words = ["demo", *arguments] if command == "demo" else arguments
    return setup.system.replace_by([str(setup.python), "-m", "llamaduo_gui", *words])


def main(argv: list[str], system: System | None = None, root: Path = ROOT) -> int:
    """Run one command line; returns the exit status, 2 when set-up is not possible."""
    command, options, arguments = parse(argv)
    machine = system or System()
    extras = {"test"} if command == "test" else set()
    has_window = opens_window(command, arguments)
    try:
        if has_window:
            check_display(machine)
        setup = Setup(options, root, machine)
        if not setup.is_complete(extras) and not setup.has_usable_python():
            python = find_python(machine)
            if python != machine.executable:
                say(f"Using {python}")
                return machine.replace_by([python, str(Path(__file__).resolve()), *argv])
        setup.ensure(extras)
        setup.check_qt(is_required=has_window or command == "test", has_window=has_window)
        return start(command, arguments, setup)
    except SetupError as error:
        say(f"llamaduo-gui: {error}")
        return EXIT_UNABLE
    except OSError as error:
        say(f"llamaduo-gui: set-up cannot go on: {error}")
        return EXIT_UNABLE
    except KeyboardInterrupt:
        say("Stopped; the next run goes on from here.")
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
