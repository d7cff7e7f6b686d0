"""What data is read from: files of any known kind, and remote datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llamaduo_gui.data.files import DataFile
from llamaduo_gui.data.formats.base import ContainerInfo, RawRow, Unit
from llamaduo_gui.data.formats.registry import containers, remote_of

Source = Path | str


def find_container(file: DataFile) -> ContainerInfo:
    """What kind of file it is, by its content; JSON lines where nothing can be told."""
    known = containers()
    found = next((info for info in known if info.claims(file)), None)
    return found or next(info for info in known if info.name == "jsonl")


@dataclass(slots=True)
class OpenedSource:
    """A source found fit to be read.

    Attributes:
        name: short and unique among the sources, part of every record's `source`.
        size_bytes: on disk; 0 where it is not known.
        note: what to know about it, one sentence, or empty.
    """

    name: str
    label: str
    title: str
    unit: Unit
    rows: Callable[[], Iterator[RawRow]]
    size_bytes: int = 0
    file: DataFile | None = None
    note: str = ""


def open_source(
    source: Source, container: ContainerInfo | None = None, name: str = ""
) -> OpenedSource:
    """Find out what a source is.

    Args:
        source: a path, or text with a remote prefix ("hub:OWNER/NAME@REVISION").
        container: the kind of file; None finds it from the content.
        name: short name; None takes the file's.

    Raises:
        DataError: it is missing, a folder, empty or no data. One sentence.
    """
    remote = remote_of(source) if isinstance(source, str) else None
    if remote is not None:
        text = str(source)
        key = text.removeprefix(remote.prefix)
        note = remote.note(key)
        rows_of = remote.rows
        return OpenedSource(
            name or text, text, remote.title, "row", lambda: rows_of(key), note=note
        )
    file = DataFile(Path(source).expanduser())
    info = container or find_container(file)
    packed = " packed with gzip" if file.is_gzip else ""
    title = info.title + packed
    label = str(file.path)
    rows = info.rows
    return OpenedSource(
        name or file.path.name, label, title, info.unit, lambda: rows(file), file.size_bytes, file
    )


def short_names(sources: Sequence[Source]) -> list[str]:
    """File names, numbered where two files have the same one, so that sources stay unique."""
    seen: Counter[str] = Counter()
    names = []
    for source in sources:
        is_remote = isinstance(source, str) and remote_of(source) is not None
        name = str(source) if is_remote else Path(source).name
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
