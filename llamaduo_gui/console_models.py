"""The `models` commands: what is downloaded, search, download, delete."""

from __future__ import annotations

import argparse
import sys

from llamaduo_gui import console
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.hub_models import cached_models, delete_model, search_models
from llamaduo_gui.worker.model_jobs import download_spec
from llamaduo_gui.worker.supervisor import JobHandle


def add_model_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: argparse.ArgumentParser,
) -> None:
    """Add `models list|search|download|delete`."""
    text = "base models of the Hugging Face Hub on this machine"
    parser = commands.add_parser("models", help=text, description=text, parents=[shared])
    parser.add_argument("action", choices=("list", "search", "download", "delete"))
    parser.add_argument("model", nargs="?", metavar="ID", help="organisation/name")
    parser.add_argument("--revision", default="main", help="branch, tag or commit")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.set_defaults(command=models)


def models(arguments: argparse.Namespace) -> int:
    """Run one of the `models` commands; returns the exit code."""
    if arguments.action == "list":
        return _list(as_json=arguments.json)
    if not arguments.model:
        raise UserError(f"Name the model: llamaduo-gui models {arguments.action} ID.")
    if arguments.action == "search":
        return _search(arguments.model, as_json=arguments.json)
    if arguments.action == "delete":
        return _delete(arguments.model, is_sure=arguments.yes, as_json=arguments.json)
    spec = download_spec(arguments.model, arguments.revision)
    handle = JobHandle(spec, {}, on_event=console.ConsoleReporter(), cooperative_s=5.0)
    result = console.wait_for(handle.start())
    if result.status == "succeeded":
        console.say(f"{result.result['id']}, revision {result.result['revision']}")
    return console.report_result(result, as_json=arguments.json)


def _list(*, as_json: bool) -> int:
    found = cached_models()
    if as_json:
        total = sum(model.size_bytes for model in found)
        rows = [model.to_dict() for model in found]
        console.print_json({"models": rows, "size_bytes": total})
        return console.EXIT_OK
    for model in found:
        part = "" if model.is_complete else "  not complete"
        console.say(f"{model.size_bytes / 1e9:7.2f} GB  {model.id}@{model.revision[:12]}{part}")
    if not found:
        console.say("No model is downloaded.")
    return console.EXIT_OK


def _search(text: str, *, as_json: bool) -> int:
    found = search_models(text)
    if as_json:
        rows = [{"id": m.id, "gated": m.gated, "parameters": m.parameters} for m in found]
        console.print_json({"models": rows})
        return console.EXIT_OK
    for model in found:
        size = f"{model.parameters / 1e9:.2f} B" if model.parameters else ""
        console.say(f"{size:>9}  {model.id}{'  (licence to accept)' if model.gated else ''}")
    return console.EXIT_OK


def _delete(model_id: str, *, is_sure: bool, as_json: bool) -> int:
    if not is_sure:
        if not sys.stdin.isatty():
            raise UserError(f"Nothing is deleted without --yes; {model_id} is kept.")
        console.say(f"Delete {model_id} from this machine? [y/N]")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            return console.EXIT_OK
    freed = delete_model(model_id)
    if as_json:
        console.print_json({"freed_bytes": freed})
    console.say(f"Freed {freed / 1e9:.2f} GB.")
    return console.EXIT_OK
