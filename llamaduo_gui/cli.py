"""The command line: the same jobs as the window, without one (DESIGN section 5)."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from llamaduo_gui import __version__, console, console_data, console_models, console_serve
from llamaduo_gui.core.config import QuantName
from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES, SecretStore

STAGE_COMMANDS = {
    "finetune": "train the student of the current round",
    "infer": "sample the student's answers on the validation split",
    "judge": "judge the sampled answers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 (ok), 1 (job failed) or 2 (bad input)."""
    arguments = build_parser().parse_args(argv)
    as_json = getattr(arguments, "json", False)
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except UserError as error:
        return _fail(error, console.EXIT_BAD_INPUT, as_json=as_json)
    except LlamaDuoError as error:
        return _fail(error, console.EXIT_FAILED, as_json=as_json)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="llamaduo-gui",
        description="Move a capability from a service LLM to a small local LLM, with proof.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(command=_open_window, project=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON document")
    _add_project_commands(commands, shared)
    _add_stage_commands(commands, shared)
    _add_result_commands(commands, shared)
    console_data.add_data_commands(commands, shared)
    console_models.add_model_commands(commands, shared)
    console_serve.add_serve_command(commands)
    return parser


def _add_project_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: argparse.ArgumentParser,
) -> None:
    def add(
        name: str, text: str, run: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text, parents=[shared])
        parser.set_defaults(command=run)
        return parser

    parser = add("open", "open the window with a project", _open_window)
    parser.add_argument("project", type=Path)
    parser = add("demo", "the whole loop on the built-in offline demo", _demo)
    parser.add_argument("--project", type=Path, metavar="DIR", help="folder of the demo project")
    parser.add_argument("--no-gui", action="store_true", help="run without a window")
    parser = add("new", "make a project from coverage data", console_data.new)
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument(
        "--coverage",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files in any known format, or hub:ID@REVISION#SPLIT",
    )
    console_data.add_reading_arguments(parser)
    parser.add_argument("--config", type=Path, metavar="pipeline.yaml")
    parser.add_argument("--seed", type=int, help="seed of the splits and of everything after")
    parser.add_argument(
        "--on-error",
        choices=("keep", "refuse"),
        default="refuse",
        help="broken rows: keep the rest, or refuse the whole file (default)",
    )
    parser = add("run", "the loop; takes up where it stopped", _run)
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="last round allowed (round 0 has coverage data only)",
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after the next such stage")
    parser = add("keys", "list, set, delete or test API keys in the OS keyring", _keys)
    parser.add_argument("action", choices=("list", "set", "delete", "test"))
    parser.add_argument("provider", nargs="?", choices=sorted(ENVIRONMENT_VARIABLES))
    parser.add_argument("--model", default="", metavar="NAME", help="test: try this model")
    parser.add_argument("--base-url", metavar="URL", help="test: the address, where it has none")


def _add_stage_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: argparse.ArgumentParser,
) -> None:
    for name, text in STAGE_COMMANDS.items():
        parser = commands.add_parser(name, help=text, description=text, parents=[shared])
        parser.add_argument("project", type=Path, metavar="DIR")
        parser.set_defaults(command=_stage, stage=name)
        if name == "finetune":
            parser.add_argument(
                "--restart", action="store_true", help="from the base model, not a checkpoint"
            )
            parser.add_argument(
                "--accelerate",
                type=Path,
                metavar="CONFIG.yaml",
                help="train on the GPUs and machines of this `accelerate config`",
            )
    text = "ask the teacher for more pairs"
    parser = commands.add_parser("synthesize", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--count", type=int, metavar="N", help="pairs to keep")
    parser.set_defaults(command=_stage, stage="synthesize")
    text = "write the best student as a GGUF file"
    parser = commands.add_parser("export", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--quant", choices=get_args(QuantName))
    parser.add_argument("--out", type=Path, metavar="FILE", help="also copy the file to here")
    parser.add_argument(
        "--also", metavar="LIST", help="write beside it: peft,merged,modelfile (any of them)"
    )
    parser.set_defaults(command=_stage, stage="export")
    text = "check that an exported GGUF answers as the student that was trained"
    parser = commands.add_parser("certify", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("gguf", type=Path, metavar="GGUF", nargs="?", help="default: the newest")
    parser.add_argument(
        "--no-judge", action="store_true", help="do not have its answers judged where they are not"
    )
    parser.set_defaults(command=_certify)


def _add_result_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: argparse.ArgumentParser,
) -> None:
    text = "chat with an exported GGUF file, offline"
    parser = commands.add_parser("chat", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR", nargs="?")
    parser.add_argument("--gguf", type=Path, metavar="FILE")
    parser.add_argument("--prompt", metavar="TEXT", help="answer this and exit")
    parser.add_argument("--system", metavar="TEXT", default="", help="system prompt")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.set_defaults(command=_chat)
    text = "what the stages to come will cost, before it is spent"
    parser = commands.add_parser("estimate", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument(
        "--pilot", action="store_true", help="make about 20 real calls first; the loop uses them"
    )
    parser.add_argument(
        "--further-rounds",
        action="store_true",
        help="with --pilot: also try what comes only if a round does not match",
    )
    parser.set_defaults(command=_estimate)
    text = "write the training recipe, resolved, as a configuration file of TRL"
    parser = commands.add_parser("recipe", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="sft.yaml")
    parser.set_defaults(command=_recipe)
    text = "write the evaluation report"
    parser = commands.add_parser("report", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.set_defaults(command=_report)
    text = "the report's statistics for a CSV file of scores"
    parser = commands.add_parser("stats", help=text, description=text, parents=[shared])
    parser.add_argument("scores", type=Path, metavar="SCORES.csv")
    parser.set_defaults(command=_stats)
    text = "render every page of the window to PNG files"
    parser = commands.add_parser("screenshots", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.set_defaults(command=_screenshots)


def _open_window(arguments: argparse.Namespace) -> int:
    return _run_window(arguments.project)


def _run_window(project: Path | None, *, start_demo: bool = False) -> int:
    is_elsewhere = sys.platform in ("win32", "darwin")
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if not is_elsewhere and not any(os.environ.get(name) for name in variables):
        raise UserError(
            "There is no display to open the window on (neither DISPLAY nor WAYLAND_DISPLAY is "
            "set); the commands work without one, see `llamaduo-gui --help`."
        )
    with _system_libraries():
        from llamaduo_gui.gui.app import run_window
    return run_window(project, start_demo=start_demo)


@contextmanager
def _system_libraries() -> Iterator[None]:
    """Say which of the libraries that Qt takes from the system is missing."""
    try:
        yield
    except ImportError as error:
        if ".so" not in str(error):
            raise
        raise UserError(
            f"Qt needs a system library that is missing here ({error}); install it with the "
            "system's package manager."
        ) from error


def _demo(arguments: argparse.Namespace) -> int:
    if not arguments.no_gui and not arguments.json:
        return _run_window(arguments.project, start_demo=True)
    from llamaduo_gui.pipeline.create import create_demo

    with create_demo(arguments.project) as project:
        folder = project.folder
    console.say(f"The demo project is in {folder}")
    return console.run_job("pipeline", folder, {}, as_json=arguments.json)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.rounds is not None and arguments.rounds < 0:
        raise UserError("--rounds must be 0 or more.")
    options = {"rounds": arguments.rounds, "until": arguments.until}
    return console.run_job("pipeline", arguments.project, options, as_json=arguments.json)


def _stage(arguments: argparse.Namespace) -> int:
    options = {"stage": arguments.stage}
    for name in ("count", "quant", "out", "also", "restart", "accelerate"):
        value = getattr(arguments, name, None)
        if value is not None:
            options[name] = str(value.resolve()) if isinstance(value, Path) else value
    if int(options.get("count", 1)) < 1:
        raise UserError("--count must be 1 or more.")
    return console.run_job("stage", arguments.project, options, as_json=arguments.json)


def _certify(arguments: argparse.Namespace) -> int:
    options: dict[str, object] = {"stage": "certify", "judge": not arguments.no_judge}
    if arguments.gguf is not None:
        options["gguf"] = str(arguments.gguf.resolve())
    return console.certify(arguments.project, options, as_json=arguments.json)


def _chat(arguments: argparse.Namespace) -> int:
    from llamaduo_gui.console_chat import chat

    return chat(arguments)


def _estimate(arguments: argparse.Namespace) -> int:
    return console.estimate(
        arguments.project,
        is_pilot=arguments.pilot,
        has_further_rounds=arguments.further_rounds,
        as_json=arguments.json,
    )


def _recipe(arguments: argparse.Namespace) -> int:
    from llamaduo_gui.pipeline.recipe_export import export_recipe

    result = export_recipe(arguments.project, arguments.out)
    if arguments.json:
        console.print_json(result)
    else:
        console.say(result["sentence"])
    return console.EXIT_OK


def _report(arguments: argparse.Namespace) -> int:
    from llamaduo_gui.pipeline.outputs import write_report_files

    result = write_report_files(arguments.project, arguments.html, arguments.csv)
    if arguments.json:
        console.print_json(result)
    else:
        console.say("\n".join(str(path) for path in result["files"]))
    return console.EXIT_OK


def _stats(arguments: argparse.Namespace) -> int:
    from llamaduo_gui.evaluation.score_table import stats_from_csv

    console.print_json(stats_from_csv(arguments.scores))
    return console.EXIT_OK


def _screenshots(arguments: argparse.Namespace) -> int:
    with _system_libraries():
        from llamaduo_gui.gui.screenshots import take_screenshots

    files = take_screenshots(arguments.project, arguments.out)
    if arguments.json:
        console.print_json({"files": [str(path) for path in files]})
    else:
        console.say("\n".join(str(path) for path in files))
    return console.EXIT_OK


def _keys(arguments: argparse.Namespace) -> int:
    store = SecretStore()
    info = store.keyring_info()
    if arguments.action == "list":
        found = [store.status(name) for name in sorted(ENVIRONMENT_VARIABLES)]
        if arguments.json:
            entries = [
                {"provider": s.provider, "source": s.source, "detail": s.detail} for s in found
            ]
            console.print_json({"keyring": info.name, "keys": entries})
        for status in found if not arguments.json else ():
            console.say(f"{status.provider:<18} {status.source:<12} {status.detail}")
        return console.EXIT_OK
    if arguments.provider is None:
        raise UserError(f"Name the provider: llamaduo-gui keys {arguments.action} PROVIDER.")
    if arguments.action == "test":
        return console.try_service(
            store, arguments.provider, arguments.model, arguments.base_url, as_json=arguments.json
        )
    if arguments.action == "delete":
        is_deleted = store.delete(arguments.provider)
        console.say("Deleted." if is_deleted else "There was no key to delete.")
        return console.EXIT_OK
    if not info.is_available:
        variable = ENVIRONMENT_VARIABLES[arguments.provider][0]
        raise UserError(
            f"There is {info.name}, and keys are never written to a file; "
            f"set the environment variable {variable} instead."
        )
    key = getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    status = store.set(arguments.provider, key)
    console.say(f"Kept in {status.detail or status.source}.")
    return console.EXIT_OK


def _fail(error: LlamaDuoError, code: int, *, as_json: bool) -> int:
    if as_json:
        console.print_json({"status": "failed", "error": str(error)})
    console.say(str(error))
    return code
