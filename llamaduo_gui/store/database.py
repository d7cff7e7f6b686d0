"""Opening the project database: SQLite in WAL mode, migrated, never downgraded."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from llamaduo_gui.core.errors import UserError

HEAD_REVISION = "0003"
KNOWN_REVISIONS = ("0001", "0002", "0003")


def open_database(path: Path) -> Engine:
    """Open (or make) the database at `path` and bring its schema up to date.

    A copy `project.db.before-REVISION` is kept before an existing file is migrated.

    Raises:
        UserError: the file is not a project database, was made by a newer version of
            the application, or the disk cannot be written.
    """
    try:
        revision = _current_revision(path)
        if revision is not None and revision not in KNOWN_REVISIONS:
            raise UserError(
                f"{path.parent.name} was made by a newer version of LlamaDuo GUI "
                f"(database revision {revision}); update the application to open it."
            )
        engine = make_engine(path)
        if revision != HEAD_REVISION:
            if revision is not None:
                shutil.copy2(path, path.with_name(f"{path.name}.before-{HEAD_REVISION}"))
            _migrate(engine)
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise UserError(
            f"{path} cannot be opened as a project database ({error.__class__.__name__}); "
            "check that it is a LlamaDuo project, can be written and the disk is not full."
        ) from error
    return engine


def make_engine(path: Path, *, is_durable: bool = False) -> Engine:
    """A SQLAlchemy engine whose connections use WAL, foreign keys and a busy timeout.

    Any commit survives the death of the process. With `is_durable` it also survives a power
    cut, for 4 ms of fsync a commit (measured): used for replies that were paid for.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _current_revision(path: Path) -> str | None:
    """Revision of an existing file, None if there is no file or no schema in it yet."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    connection = sqlite3.connect(path, timeout=30)
    try:
        tables = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        if "alembic_version" not in tables:
            if tables:
                raise UserError(f"{path} is a database of another program; choose another folder.")
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    finally:
        connection.close()


def _migrate(engine: Engine) -> None:
    # Imported here: alembic takes 0.1 s and an up-to-date project does not need it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "llamaduo_gui.store:migrations")
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        raise UserError(
            f"The project database could not be written ({error.orig}); "
            "check that the folder is writable and the disk is not full."
        ) from error
