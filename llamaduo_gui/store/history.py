"""Queries on what runs leave behind: training curves, files and log lines."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.core.events import Level
from llamaduo_gui.core.weights_hash import has_weights, hash_weights
from llamaduo_gui.store.rows import ArtifactRow, LogRow
from llamaduo_gui.store.schema import artifacts, log_lines, training_log

_HASH_BLOCK_BYTES = 1 << 20


class TrainingLog:
    """Reads and writes the `training_log` table: named series of (step, value)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, run_id: int, step: int, name: str, value: float) -> None:
        """Store one point; a resumed run replaces the points it computes again."""
        statement = insert(training_log).values(run_id=run_id, step=step, name=name, value=value)
        statement = statement.on_conflict_do_update(
            index_elements=["run_id", "name", "step"], set_={"value": value}
        )
        with self._engine.begin() as connection:
            connection.execute(statement)

    def series(self, run_id: int, name: str) -> list[tuple[int, float]]:
        """(step, value) of one series, by step."""
        query = (
            select(training_log.c.step, training_log.c.value)
            .where(training_log.c.run_id == run_id, training_log.c.name == name)
            .order_by(training_log.c.step)
        )
        with self._engine.connect() as connection:
            return [(int(step), float(value)) for step, value in connection.execute(query)]

    def forget_after(self, run_id: int, step: int) -> None:
        """Drop points beyond the checkpoint a resumed run starts from."""
        with self._engine.begin() as connection:
            connection.execute(
                delete(training_log).where(
                    training_log.c.run_id == run_id, training_log.c.step > step
                )
            )


class ArtifactQueries:
    """Reads and writes the `artifacts` table; paths are relative to the project folder."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    def add(
        self,
        run_id: int,
        kind: str,
        path: Path,
        *,
        round_number: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtifactRow:
        """Register a file or folder, with its size in bytes and SHA-256; a path is kept once."""
        size_bytes, digest = measure(path)
        try:
            shown = path.resolve().relative_to(self._folder.resolve()).as_posix()
        except ValueError:
            shown = str(path.resolve())
        values = {
            "run_id": run_id,
            "kind": kind,
            "round": round_number,
            "path": shown,
            "size_bytes": size_bytes,
            "sha256": digest,
            "meta": dict(meta or {}),
            "created_at": time.time(),
        }
        statement = insert(artifacts).values(**values)
        statement = statement.on_conflict_do_update(index_elements=["path"], set_=values)
        with self._engine.begin() as connection:
            connection.execute(statement)
            found = (
                connection.execute(select(artifacts).where(artifacts.c.path == shown))
                .mappings()
                .one()
            )
        return ArtifactRow(**found)

    def all(self, kind: str | None = None) -> list[ArtifactRow]:
        """All artifacts, oldest first, optionally of one kind."""
        query = select(artifacts).order_by(artifacts.c.id)
        if kind is not None:
            query = query.where(artifacts.c.kind == kind)
        with self._engine.connect() as connection:
            return [ArtifactRow(**item) for item in connection.execute(query).mappings()]

    def latest(self, kind: str, round_number: int | None = None) -> ArtifactRow | None:
        """The newest artifact of a kind, optionally of one round."""
        found = [row for row in self.all(kind) if round_number is None or row.round == round_number]
        return max(found, key=lambda row: (row.created_at, row.id), default=None)

    def absolute(self, row: ArtifactRow) -> Path:
        """Where an artifact lies on this machine."""
        return self._folder / row.path


class LogLines:
    """Reads and writes the `log_lines` table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, level: Level, source: str, text: str, run_id: int | None = None) -> None:
        """Store one line."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(log_lines).values(
                    run_id=run_id, at=time.time(), level=level, source=source, text=text
                )
            )

    def tail(self, limit: int = 500) -> list[LogRow]:
        """The last lines, oldest first."""
        query = select(log_lines).order_by(log_lines.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            found = [LogRow(**item) for item in connection.execute(query).mappings()]
        return found[::-1]


def measure(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file.

    Of a folder with safetensors weights the hash is of these alone (`hash_weights`), so that equal
    weights have equal hashes; of another folder, over its files by relative name.

    Raises:
        OSError, ValueError: a file cannot be read or is damaged.
    """
    digest = hashlib.sha256()
    if path.is_file():
        return _feed(path, digest), digest.hexdigest()
    if has_weights(path):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return size, hash_weights(path)
    total = 0
    for item in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(item.relative_to(path).as_posix().encode())
        total += _feed(item, digest)
    return total, digest.hexdigest()


def _feed(path: Path, digest: Any) -> int:
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return size
