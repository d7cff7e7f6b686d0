"""The tables of the project database; changes go through a migration (store/migrations)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", JSON, nullable=False),
)

# Coverage rows have round 0 and a split; synthetic rows have round >= 1 and split "train".
records = Table(
    "records",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("prompt_id", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("split", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("category", String, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("instruction", Text, nullable=False),
    Column("response", Text, nullable=False),
    Column("generator", String),
    Column("seed_prompt", String),
    Column("reject_reason", String),
    Column("reject_detail", Text),
    # prompt_id of the record a rejected pair is too close to.
    Column("rejected_against", String),
    # Position in the source: a file's line, or "run:request:pair" of a synthetic pair.
    Column("source", String, nullable=False),
    UniqueConstraint("source"),
    Index(None, "split", "origin", "status"),
    Index(None, "round", "status"),
    Index(None, "prompt_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False),
    Column("parent_id", Integer, ForeignKey("runs.id")),
    Column("stage", String, nullable=False),
    Column("round", Integer),
    Column("label", String, nullable=False),
    Column("split", String),
    Column("status", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("pid", Integer),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    # Seconds of earlier attempts, so that a resumed run shows the time it really took.
    Column("spent_s", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("summary", JSON, nullable=False),
    UniqueConstraint("key"),
)

replies = Table(
    "replies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_key", String, nullable=False),
    Column("run_id", Integer, ForeignKey("runs.id")),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cost_usd", Float),
    Column("latency_s", Float),
    Column("attempts", Integer, nullable=False),
    # Times a request was in flight when the process died: it may have been paid for.
    Column("losses", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("cached_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("reasoning_tokens", Integer, nullable=False, server_default="0"),
    # Estimate, in dollars, of what requests lost in flight may have cost; None without a price.
    Column("lost_usd", Float),
    # The batch a request is part of; while it is under way there, its state is "in_batch".
    Column("batch_id", Integer, ForeignKey("batches.id")),
    UniqueConstraint("request_key"),
    Index(None, "run_id"),
    Index(None, "state"),
    Index(None, "batch_id"),
)

# A batch is noted before it is handed in (no remote_id yet), so that no restart hands it in twice.
batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id")),
    Column("provider", String, nullable=False),
    Column("base_url", String, nullable=False),
    Column("model", String, nullable=False),
    Column("label", String, nullable=False),
    Column("remote_id", String),
    Column("state", String, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("problem", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("label"),
    Index(None, "run_id"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("record_id", Integer, ForeignKey("records.id"), nullable=False),
    Column("sample", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("latency_s", Float),
    Column("error", Text, nullable=False),
    UniqueConstraint("run_id", "record_id", "sample"),
)

judgements = Table(
    "judgements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("candidate_id", Integer, ForeignKey("candidates.id"), nullable=False),
    Column("judge", String, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("precision", Float),
    Column("similarity", Float),
    Column("precision_reason", Text, nullable=False),
    Column("similarity_reason", Text, nullable=False),
    # Empty when scored; else why the reply gave no scores. `raw` is then the judge's own text.
    Column("unscored_reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
    UniqueConstraint("candidate_id", "judge", "repeat"),
    Index(None, "run_id"),
)

training_log = Table(
    "training_log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Float, nullable=False),
    UniqueConstraint("run_id", "name", "step"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("round", Integer),
    Column("path", String, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("sha256", String, nullable=False),
    Column("meta", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("path"),
)

log_lines = Table(
    "log_lines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer),
    Column("at", Float, nullable=False),
    Column("level", String, nullable=False),
    Column("source", String, nullable=False),
    Column("text", Text, nullable=False),
)

# Blind votes on the Try page. The hash of a side is that of its weights, so that votes on another
# export of the same name are not counted together.
votes = Table(
    "votes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("system", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("left_kind", String, nullable=False),
    Column("left_name", String, nullable=False),
    Column("left_sha256", String, nullable=False),
    Column("left_answer", Text, nullable=False),
    Column("right_kind", String, nullable=False),
    Column("right_name", String, nullable=False),
    Column("right_sha256", String, nullable=False),
    Column("right_answer", Text, nullable=False),
    Column("choice", String, nullable=False),
    Column("created_at", Float, nullable=False),
)
