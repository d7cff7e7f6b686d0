"""The commands on data: `new`, `preview` and `export-data`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llamaduo_gui import console
from llamaduo_gui.core.errors import UserError

if TYPE_CHECKING:
    from llamaduo_gui.data.conversion import ReadOptions
    from llamaduo_gui.data.preview import Preview

_SHOWN_ROWS = 5
_SHOWN_TEXT = 160
_SHOWN_PROBLEMS = 10


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """`--format` and `--map`, shared by the commands that read data."""
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        metavar="NAME",
        help="layout of the rows (messages, pairs, alpaca, sharegpt, openai_chat, "
        "openai_responses, llamaduo) or kind of file (jsonl, json, csv, parquet); found from the "
        "content by default",
    )
    parser.add_argument(
        "--map",
        nargs="+",
        default=[],
        metavar="PART=COLUMN",
        help="column of a part: prompt=COL response=COL system=COL category=COL",
    )


def add_data_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: argparse.ArgumentParser,
) -> None:
    """Add `preview` and `export-data`."""
    text = "show what an import would make of data files, without making anything"
    parser = commands.add_parser("preview", help=text, description=text, parents=[shared])
    parser.add_argument("sources", nargs="+", metavar="FILE", help="file, or hub:ID@REVISION#SPLIT")
    add_reading_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="read the first rows only")
    parser.set_defaults(command=preview)
    text = "write the project's data as a dataset with a card"
    parser = commands.add_parser("export-data", help=text, description=text, parents=[shared])
    parser.add_argument("project", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--format", nargs="+", choices=("messages", "parquet"), default=["messages"]
    )
    parser.set_defaults(command=export_data)


def new(arguments: argparse.Namespace) -> int:
    """Make a project from coverage data."""
    from llamaduo_gui.pipeline.create import create_project

    created = create_project(
        arguments.project,
        arguments.coverage,
        config_path=arguments.config,
        seed=arguments.seed,
        options=_options(arguments, arguments.on_error),
    )
    for line in created.warnings:
        console.say(line)
    if arguments.json:
        console.print_json(created.to_dict())
    else:
        console.say(created.sentence)
    return console.EXIT_OK


def preview(arguments: argparse.Namespace) -> int:
    """Show what an import would make of sources; exit 2 if nothing can be imported like this."""
    from llamaduo_gui.data.preview import make_preview

    found = make_preview(
        arguments.sources, _options(arguments, "keep"), is_whole=not arguments.quick
    )
    if arguments.json:
        console.print_json(found.to_dict())
    else:
        console.say("\n".join(_describe(found)))
    return console.EXIT_BAD_INPUT if found.error else console.EXIT_OK


def export_data(arguments: argparse.Namespace) -> int:
    """Write the project's data."""
    from llamaduo_gui.pipeline.data_export import export_data as write_data
    from llamaduo_gui.store.project import Project

    with Project.open(arguments.project) as project:
        exported = write_data(project, arguments.out, arguments.format)
    if arguments.json:
        console.print_json(exported.to_dict())
    else:
        console.say(exported.sentence)
    return console.EXIT_OK


def _options(arguments: argparse.Namespace, on_error: str) -> ReadOptions:
    from llamaduo_gui.data.conversion import make_options

    mapping = read_mapping(arguments.map)
    return make_options(arguments.format, mapping, "keep" if on_error == "keep" else "refuse")


def read_mapping(items: Sequence[str]) -> dict[str, str]:
    """`PART=COLUMN` arguments as a dictionary.

    Raises:
        UserError: one has no equals sign.
    """
    mapping = {}
    for item in items:
        part, sign, column = item.partition("=")
        if not sign or not column:
            raise UserError(f"`--map {item}` names no column; write {part or 'prompt'}=COLUMN.")
        mapping[part] = column
    return mapping


def _describe(found: Preview) -> list[str]:
    """The preview as lines for a terminal."""
    lines = [
        ", ".join(part for part in (f"{item.name}: {item.format}", item.encoding) if part)
        for item in found.sources
    ]
    if found.layout_title:
        lines.append(f"layout: {found.layout_title}")
    chosen = found.mapping or found.suggestion
    if chosen:
        word = "columns" if found.mapping else "try --map"
        lines.append(f"{word}: " + " ".join(f"{part}={name}" for part, name in chosen.items()))
    for row in found.rows[:_SHOWN_ROWS]:
        lines.append(f"{row.file} {row.number}" + (f": {row.problem}" if row.problem else ""))
        for turn in row.messages:
            text = " ".join(turn["content"].split())
            cut = text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "..."
            lines.append(f"  {turn['role']}: {cut}")
    if found.counts is not None:
        lines += _describe_counts(found)
    return [*lines, found.error] if found.error else lines


def _describe_counts(found: Preview) -> list[str]:
    counts = found.counts
    if counts is None:
        return []
    broken = f"{counts.problem_count:,} broken, {counts.copies:,} repeated"
    lines = [f"{counts.rows:,} rows: {counts.records:,} records, {broken}"]
    if counts.splits:
        parts = ", ".join(f"{count:,} {name}" for name, count in counts.splits.items())
        lines.append(f"splits: {parts}")
    lines += counts.notes
    for item in counts.problems[:_SHOWN_PROBLEMS]:
        lines.append(f"{item['file']} {item['unit']} {item['line_number']}: {item['reason']}")
    more = counts.problem_count - min(len(counts.problems), _SHOWN_PROBLEMS)
    return [*lines, f"and {more:,} more"] if more > 0 else lines
