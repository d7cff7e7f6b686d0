"""The project database: migrations, one process at a time, and queries that lose nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import (
    Message,
    Record,
    RecordStatus,
    RejectReason,
    RunStatus,
    Split,
    Stage,
    TokenCounts,
)
from llamaduo_gui.store.database import HEAD_REVISION, KNOWN_REVISIONS, make_engine
from llamaduo_gui.store.lock import find_interrupted, working_lock
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, NewJudgement, NewSynthetic, RecordFilter
from llamaduo_gui.store.schema import metadata


def make_record(number: int, category: str = "a") -> Record:
    turns = (Message("user", f"question {number}"), Message("assistant", f"answer {number}"))
    return Record(turns, category, f"id-{number}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "p", PipelineConfig()) as made:
        made.records.add_coverage(
            (make_record(n, "a" if n % 2 else "b"), split, f"f:{n}")
            for n, split in enumerate([Split.TRAIN] * 6 + [Split.VALIDATION] * 2 + [Split.TEST])
        )
        yield made


def begin(project: Project, key: str, run_id: int | None = None) -> None:
    project.replies.begin(
        key, run_id=run_id, provider="p", model="m", purpose="judge", request={"messages": []}
    )


def complete(project: Project, key: str, cost: float | None = 0.5) -> None:
    project.replies.complete(
        key,
        text="reply",
        finish_reason="stop",
        tokens=TokenCounts(prompt=10, completion=5, cached=4, reasoning=2),
        cost_usd=cost,
        latency_s=0.1,
        attempts=2,
    )


def test_migrations_make_the_schema_the_code_expects(project: Project) -> None:
    engine = make_engine(project.paths.database)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_project_of_the_first_version_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    with Project.create(tmp_path / "old", PipelineConfig()) as made:
        begin(made, "k")
        complete(made, "k")
    path = tmp_path / "old" / "project.db"
    downgrade_to_first_version(path)
    with Project.open(tmp_path / "old") as opened:
        row = opened.replies.find("k")
        assert row is not None
        assert (row.text, row.cost_usd, row.cached_tokens, row.batch_id) == ("reply", 0.5, 0, None)
        engine = make_engine(path)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()
    assert path.with_name("project.db.before-0003").is_file()


def downgrade_to_first_version(path: Path) -> None:
    """Make the file what the first released schema was, with its rows."""
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        DROP INDEX ix_replies_batch_id;
        CREATE TABLE kept AS SELECT * FROM replies;
        DROP TABLE replies;
        DROP TABLE votes;
        DROP TABLE batches;
        ALTER TABLE records DROP COLUMN rejected_against;
        CREATE TABLE replies (
            id INTEGER NOT NULL, request_key VARCHAR NOT NULL, run_id INTEGER,
            provider VARCHAR NOT NULL, model VARCHAR NOT NULL, purpose VARCHAR NOT NULL,
            request JSON NOT NULL, state VARCHAR NOT NULL, text TEXT NOT NULL,
            finish_reason VARCHAR NOT NULL, prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL, cost_usd FLOAT, latency_s FLOAT,
            attempts INTEGER NOT NULL, losses INTEGER NOT NULL, error TEXT NOT NULL,
            created_at FLOAT NOT NULL, finished_at FLOAT,
            CONSTRAINT pk_replies PRIMARY KEY (id),
            CONSTRAINT uq_replies_request_key UNIQUE (request_key),
            CONSTRAINT fk_replies_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id)
        );
        INSERT INTO replies SELECT id, request_key, run_id, provider, model, purpose, request,
            state, text, finish_reason, prompt_tokens, completion_tokens, cost_usd, latency_s,
            attempts, losses, error, created_at, finished_at FROM kept;
        DROP TABLE kept;
        CREATE INDEX ix_replies_run_id ON replies (run_id);
        CREATE INDEX ix_replies_state ON replies (state);
        UPDATE alembic_version SET version_num = '0001';
        """
    )
    connection.commit()
    connection.close()


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "llamaduo_gui.store:migrations")
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == HEAD_REVISION
    assert {item.revision for item in script.walk_revisions()} == set(KNOWN_REVISIONS)


def test_a_database_of_a_newer_version_is_refused(project: Project) -> None:
    project.close()
    connection = sqlite3.connect(project.paths.database)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match="newer version"):
        Project.open(project.folder)


def test_what_is_no_project_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a LlamaDuo project"):
        Project.open(tmp_path)
    (tmp_path / "project.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match="cannot be opened as a project database"):
        Project.open(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    connection = sqlite3.connect(other / "project.db")
    connection.execute("CREATE TABLE things (x)")
    connection.close()
    with pytest.raises(UserError, match="another program"):
        Project.open(other)


def test_a_project_is_not_made_over_something_else(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="project already"):
        Project.create(project.folder, PipelineConfig())
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        Project.create(full, PipelineConfig())
    assert (full / "thesis.txt").read_text() == "mine"


def test_splits_are_kept_apart_and_rejects_do_not_train(project: Project) -> None:
    project.records.add_synthetic(
        [
            NewSynthetic(make_record(100), 1, "s:0"),
            NewSynthetic(
                make_record(101), 1, "s:1", RecordStatus.REJECTED, RejectReason.SCHEMA, "why"
            ),
            NewSynthetic(make_record(102), 2, "s:2"),
        ]
    )
    assert len(project.records.training_set(0)) == 6
    assert [row.record.prompt_id for row in project.records.training_set(1)][-1] == "id-100"
    assert len(project.records.training_set(2)) == 8
    assert len(project.records.by_split(Split.VALIDATION)) == 2
    assert project.records.reject_counts(1) == {RejectReason.SCHEMA: 1}


def test_a_pair_stored_again_after_a_kill_is_there_once(project: Project) -> None:
    pairs = [NewSynthetic(make_record(100), 1, "s:0")]
    assert project.records.add_synthetic(pairs) == 1
    assert project.records.add_synthetic(pairs) == 0
    assert len(project.records.synthetic(1)) == 1


def test_views_filter_sort_and_page_in_the_database(project: Project) -> None:
    view = RecordFilter(text="QUESTION 3")
    assert project.records.count(view) == 1
    assert project.records.count(RecordFilter(text="%")) == 0
    page = project.records.page(
        RecordFilter(splits=frozenset({Split.TRAIN}), category="a"),
        offset=1,
        limit=1,
        sort="instruction",
        is_descending=True,
    )
    assert [row.record.instruction for row in page] == ["question 3"]


def test_a_run_is_found_again_by_its_key(project: Project) -> None:
    first = project.runs.find_or_create("finetune:r0", Stage.FINETUNE, round_number=0)
    assert project.runs.find_or_create("finetune:r0", Stage.FINETUNE).id == first.id
    project.runs.start(first.id, {"torch": "x"})
    project.runs.finish(first.id, RunStatus.SUCCEEDED, summary={"loss": 1.5})
    row = project.runs.get(first.id)
    assert (row.status, row.summary, row.attempts) == (RunStatus.SUCCEEDED, {"loss": 1.5}, 1)
    assert row.elapsed_s >= 0


def test_runs_of_a_dead_process_become_interrupted_but_not_while_one_works(
    project: Project,
) -> None:
    run = project.runs.find_or_create("judge:x", Stage.JUDGE)
    with working_lock(project):
        project.runs.start(run.id, {})
        with Project.open(project.folder) as window:
            assert not find_interrupted(window)
        assert project.runs.get(run.id).status is RunStatus.RUNNING
    assert find_interrupted(project)
    assert project.runs.get(run.id).status is RunStatus.INTERRUPTED
    assert project.runs.get(run.id).status.is_resumable


def test_a_second_worker_is_turned_away(project: Project) -> None:
    with (
        working_lock(project),
        Project.open(project.folder) as other,
        pytest.raises(UserError, match="Another job is running"),
        working_lock(other),
    ):
        pass


def test_a_request_in_flight_when_the_process_died_counts_as_lost(project: Project) -> None:
    begin(project, "k1")
    complete(project, "k1")
    begin(project, "k2")
    begin(project, "k2")
    complete(project, "k2")
    usage = project.replies.usage()
    assert (usage.requests, usage.lost_in_flight, usage.cost_usd) == (2, 1, 1.0)
    assert project.replies.lost_count() == 1


def test_a_stopped_request_is_not_counted_as_lost(project: Project) -> None:
    begin(project, "k")
    project.replies.release("k")
    begin(project, "k")
    complete(project, "k", cost=0.0)
    row = project.replies.find("k")
    assert row is not None
    assert (row.state, row.losses, row.text) == ("done", 0, "reply")


def test_results_written_twice_are_there_once_and_unscored_ones_are_counted(
    project: Project,
) -> None:
    answers = project.runs.find_or_create("infer:x", Stage.INFER)
    judging = project.runs.find_or_create("judge:x", Stage.JUDGE)
    record = project.records.by_split(Split.VALIDATION)[0]
    for _ in range(2):
        project.candidates.add([NewCandidate(answers.id, record.id, k, "t", 1) for k in (0, 1)])
    stored = project.candidates.of_run(answers.id)
    assert project.candidates.existing(answers.id) == {(record.id, 0), (record.id, 1)}
    for _ in range(2):
        project.judgements.add(
            [
                NewJudgement(judging.id, stored[0].id, "j", 0, 80, 70, "p", "s"),
                NewJudgement(
                    judging.id, stored[1].id, "j", 0, None, None, unscored_reason="no JSON", raw="?"
                ),
            ]
        )
    assert project.judgements.totals() == (2, 1)
    assert [row.is_scored for row in project.judgements.of_candidates(answers.id)] == [True, False]


def test_settings_are_replaced_in_one_step(project: Project) -> None:
    config = project.config.model_copy(update={"task": "other"})
    project.save_config(config)
    assert project.config.task == "other"
    assert [item.name for item in project.folder.glob("*.new")] == []


def test_an_artifact_is_kept_with_size_and_hash(project: Project) -> None:
    run = project.runs.find_or_create("export:x", Stage.EXPORT)
    path = project.paths.artifacts / "model.gguf"
    path.write_bytes(b"abc")
    row = project.artifacts.add(run.id, "gguf", path, round_number=1, meta={"quant": "Q8_0"})
    assert row.size_bytes == 3
    assert row.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert row.path == "artifacts/model.gguf"
    assert project.artifacts.latest("gguf", 1) == row
    assert project.artifacts.latest("gguf", 2) is None
