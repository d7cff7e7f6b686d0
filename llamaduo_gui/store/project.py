"""A project: one folder with its database, settings, artifacts and logs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine, select
from sqlalchemy.dialects.sqlite import insert

from llamaduo_gui.core.config import PipelineConfig, StudentConfig, dump_config, load_config
from llamaduo_gui.core.config_edit import with_budget, with_student
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.paths import ProjectPaths
from llamaduo_gui.store.batches import BatchQueries
from llamaduo_gui.store.costs import CostQueries
from llamaduo_gui.store.database import make_engine, open_database
from llamaduo_gui.store.history import ArtifactQueries, LogLines, TrainingLog
from llamaduo_gui.store.records import RecordQueries
from llamaduo_gui.store.replies import ReplyQueries
from llamaduo_gui.store.results import CandidateQueries, JudgementQueries
from llamaduo_gui.store.runs import RunQueries
from llamaduo_gui.store.schema import settings
from llamaduo_gui.store.votes import VoteQueries

# Setting: {prompt_id: group} of the evaluation prompts that share their passage with others.
PASSAGE_GROUPS = "passage_groups"


class Project:
    """An open project. Safe to use from several threads; close it when done.

    Attributes:
        paths: where the parts of the project lie.
        records, runs, replies, batches, costs, candidates, judgements, training, artifacts,
            logs, votes: queries by table family.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.paths = ProjectPaths(folder)
        self._engine = engine
        self.records = RecordQueries(engine)
        self.runs = RunQueries(engine)
        self._durable_engine = make_engine(self.paths.database, is_durable=True)
        self.replies = ReplyQueries(engine, self._durable_engine)
        self.batches = BatchQueries(engine, self._durable_engine)
        self.costs = CostQueries(engine)
        self.candidates = CandidateQueries(engine)
        self.judgements = JudgementQueries(engine)
        self.training = TrainingLog(engine)
        self.artifacts = ArtifactQueries(engine, folder)
        self.logs = LogLines(engine)
        self.votes = VoteQueries(engine)

    @classmethod
    def create(cls, folder: Path, config: PipelineConfig) -> Self:
        """Make a project in a new or empty folder.

        Raises:
            UserError: the folder holds something already or cannot be written.
        """
        folder = folder.expanduser().resolve()
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; choose a folder for the project.")
        if ProjectPaths(folder).database.exists():
            raise UserError(f"{folder} is a project already; open it or choose another folder.")
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; choose a new or empty folder.")
        paths = ProjectPaths(folder)
        try:
            for item in (folder, paths.artifacts, paths.logs):
                item.mkdir(parents=True, exist_ok=True)
            paths.config.write_text(dump_config(config), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}); choose another folder."
            ) from error
        return cls(folder, open_database(paths.database))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an existing project, migrating its database if it is older.

        Raises:
            UserError: there is no project, or it cannot be opened.
        """
        folder = folder.expanduser().resolve()
        if not ProjectPaths(folder).database.is_file():
            raise UserError(
                f"{folder} is not a LlamaDuo project (it has no project.db); "
                "make one with `llamaduo-gui new`."
            )
        return cls(folder, open_database(ProjectPaths(folder).database))

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.paths.folder

    @property
    def name(self) -> str:
        """The folder's name, shown as the project's name."""
        return self.paths.folder.name

    @property
    def config(self) -> PipelineConfig:
        """The settings as `pipeline.yaml` has them now."""
        return load_config(self.paths.config)

    def save_config(self, config: PipelineConfig) -> None:
        """Write `pipeline.yaml` in one step, so that a crash leaves the old or the new one."""
        temporary = self.paths.config.with_suffix(".yaml.new")
        temporary.write_text(dump_config(config), encoding="utf-8")
        temporary.replace(self.paths.config)

    def set_budget(self, usd: float | None) -> None:
        """Write the budget into `pipeline.yaml`, leaving the rest of the file as it is.

        Raises:
            ConfigError: the file is not valid.
        """
        self._edit_config(lambda text: with_budget(text, usd))

    def set_student(self, student: StudentConfig) -> None:
        """Write base model, recipe and overrides into `pipeline.yaml`, as `set_budget` does.

        Raises:
            ConfigError: the file is not valid.
        """
        self._edit_config(lambda text: with_student(text, student))

    def _edit_config(self, edit: Callable[[str], str]) -> None:
        path = self.paths.config
        text = edit(path.read_text(encoding="utf-8-sig"))
        temporary = path.with_suffix(".yaml.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def get_setting(self, key: str, default: Any = None) -> Any:
        """A stored value of this project."""
        with self._engine.connect() as connection:
            found = connection.execute(
                select(settings.c.value).where(settings.c.key == key)
            ).first()
        return default if found is None else found[0]

    def set_setting(self, key: str, value: Any) -> None:
        """Store a JSON-able value of this project."""
        statement = insert(settings).values(key=key, value=value)
        statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
        with self._engine.begin() as connection:
            connection.execute(statement)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
        self._durable_engine.dispose()

    def __enter__(self) -> Self:
        """Use the project in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the project."""
        with contextlib.suppress(OSError):
            self.close()
