"""`llamaduo-gui serve`: an OpenAI-compatible endpoint for an exported model, with a plan B."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from pathlib import Path
from typing import Any

from llamaduo_gui import console
from llamaduo_gui.core.config import ServiceConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.secrets import SERVER, SecretStore

DEFAULT_PORT = 8080
PLANS = {
    "local": "the local model alone (default)",
    "local_first": "the service LLM where the local model fails or says nothing",
    "service_first": "the local model where the service is out of reach",
    "shadow": "as service_first, and the local model is asked the same beside it",
}


def add_serve_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` to the parser."""
    text = "an OpenAI-compatible endpoint on 127.0.0.1 for an exported model"
    parser = commands.add_parser(
        "serve",
        help=text,
        description=text,
        epilog="Clients have to send an API key if LLAMADUO_SERVER_KEY is set, or one was kept "
        f"with `llamaduo-gui keys set {SERVER}`.",
    )
    parser.add_argument("project", type=Path, metavar="DIR", nargs="?")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="in place of the newest export")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one")
    plans = "; ".join(f"{name}: {meaning}" for name, meaning in PLANS.items())
    parser.add_argument("--plan", choices=tuple(PLANS), default="local", help=plans)
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="with --plan shadow: write what both said there (prompts and answers in full)",
    )
    parser.add_argument(
        "--service-timeout", type=float, metavar="SECONDS", help="for an answer of the service"
    )
    parser.set_defaults(command=serve)


def serve(arguments: argparse.Namespace) -> int:
    """Run the endpoint until Ctrl+C; returns the exit code.

    Raises:
        UserError: the arguments, the file, the port or the service cannot be used.
    """
    _check(arguments)
    from llamaduo_gui.serving.answerers import LocalModel, ServiceModel
    from llamaduo_gui.serving.app import HOST, open_socket, run_server
    from llamaduo_gui.serving.comparison_log import ComparisonLog
    from llamaduo_gui.serving.routing import Router

    store = SecretStore()
    path, service, options = _read_project(arguments)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_socket(arguments.port))
        remote = (
            None if service is None else ServiceModel(service, store.collect([service.provider]))
        )
        log = None
        if arguments.log is not None:
            log = stack.enter_context(contextlib.closing(ComparisonLog(arguments.log)))
        local = LocalModel(path, **options)
        key = store.get(SERVER)
        router = Router(
            arguments.plan,
            local,
            remote,
            say=console.say,
            on_comparison=log.add if log is not None else None,
        )
        info = local.info
        console.say(
            f"{info.path.name}: {info.quant}, {info.size_bytes / 1e6:,.1f} MB, "
            f"weights {info.sha256}, {info.context_length:,} tokens of context"
        )
        port = opened.getsockname()[1]
        console.say(f"Serving on http://{HOST}:{port}/v1, {_describe(arguments, remote, key)}.")
        console.say("Ctrl+C ends.")
        run_server(router, key, opened)
        console.say(_summary(router, remote))
    return console.EXIT_OK


def _check(arguments: argparse.Namespace) -> None:
    if arguments.project is None and arguments.gguf is None:
        raise UserError("Name a project (serve DIR) or a model file (serve --gguf FILE).")
    if arguments.plan != "local" and arguments.project is None:
        raise UserError(
            f"--plan {arguments.plan} needs a service LLM: name the project that has it."
        )
    if arguments.log is not None and arguments.plan != "shadow":
        raise UserError("--log is for --plan shadow, which asks both models.")
    if arguments.service_timeout is not None and arguments.service_timeout <= 0:
        raise UserError("--service-timeout must be more than 0.")
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"serve needs {' and '.join(missing)}: install them with "
            "`pip install 'llamaduo-gui[server]'`."
        )


def _read_project(
    arguments: argparse.Namespace,
) -> tuple[Path, ServiceConfig | None, dict[str, Any]]:
    """The file to serve, the service of the plan, and how the local model samples."""
    from llamaduo_gui.pipeline.backends import find_gguf
    from llamaduo_gui.store.project import Project

    if arguments.project is None:
        return arguments.gguf.expanduser(), None, {}
    with Project.open(arguments.project) as project:
        config = project.config
        found = None if arguments.gguf is not None else find_gguf(project)
        if arguments.gguf is None and found is None:
            raise UserError(
                f"{project.name} has no GGUF file yet; run the loop to its end or export one."
            )
        path = arguments.gguf if found is None else project.artifacts.absolute(found)
    service = None
    if arguments.plan != "local":
        service = config.teacher
        if service is None or service.provider == "offline":
            raise UserError(
                f"--plan {arguments.plan} needs a service LLM, and pipeline.yaml names none as "
                "the teacher."
            )
        if arguments.service_timeout is not None:
            service = service.model_copy(update={"timeout_s": arguments.service_timeout})
    return path.expanduser(), service, {"temperature": config.inference.temperature}


def _describe(arguments: argparse.Namespace, remote: Any, key: str | None) -> str:
    parts = [f"plan {arguments.plan}"]
    if remote is not None:
        parts.append(f"service {remote.name}")
    parts.append("an API key is asked for" if key else "no API key is asked for")
    if arguments.log is not None:
        parts.append(f"prompts and answers are written to {arguments.log}")
    return ", ".join(parts)


def _summary(router: Any, remote: Any) -> str:
    names = [answerer.name for answerer in router.answerers]
    parts = [f"{router.counts[name]:,} answered by {name}" for name in names]
    if router.plan == "shadow":
        counts = router.counts
        parts.append(f"{counts['compared']:,} compared, {counts['equal']:,} of them equal")
        if counts["left_out"]:
            parts.append(f"{counts['left_out']:,} not compared: the local model is too slow")
    if remote is not None:
        more = " and answers of unknown price" if remote.has_unpriced else ""
        parts.append(f"about ${remote.cost_usd:.4f} spent{more}")
    return "Stopped: " + "; ".join(parts) + "."
