"""The batch inference stage: K responses to every prompt of a split, stored as they are made."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.job import JobContext, ProgressMeter
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import ModelKind, Record, Split
from llamaduo_gui.inference.base import Backend, Generation, GenerationSettings, PromptJob
from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.engines import make_engine
from llamaduo_gui.providers.ledger import StoredReply
from llamaduo_gui.providers.registry import make_provider
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import CandidateRow, NewCandidate, RecordRow, RunRow

_SOURCE = "infer"
_FLUSH_COUNT = 64
_FLUSH_INTERVAL_S = 0.5


def run_inference(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    backend: Backend,
    split: Split,
    kind: ModelKind,
    round_number: int | None,
    config: PipelineConfig,
) -> dict[str, Any]:
    """Have a local model answer every prompt of a split `config.inference.samples` times.

    Responses that are stored already are not generated again. The seed of a response depends on
    the project's seed, the prompt and the sample only, so the models of a project answer under
    the same random numbers, which makes their difference more exact.

    Args:
        project: where prompts come from and responses go.
        run: the inference run the responses belong to.
        context: progress, log and cancellation.
        backend: the loaded model; the caller closes it.
        split: which prompts.
        kind: whose weights they are; for the log and the summary.
        round_number: of the adapter; None for the base model.
        config: its `inference` part and the seed are used.

    Returns:
        The summary: responses, errors, reasons of the ends, tokens, seconds, speed.

    Raises:
        JobCancelledError: the user asked to stop; finished responses are stored.
    """
    records = project.records.by_split(split)
    existing = project.candidates.existing(run.id)
    missing = list(_missing(records, existing, config.inference.samples))
    jobs = [_job(row, sample, config.seed) for row, sample in missing]
    name = f"{kind.value} model" + (f" of round {round_number}" if round_number is not None else "")
    _log_start(context, run, f"{name} on {split.value}", len(jobs), len(existing), backend.note)
    writer = _CandidateWriter(project, run, context, len(existing), len(jobs) + len(existing))
    settings = GenerationSettings(
        config.inference.temperature, config.inference.top_p, config.inference.max_new_tokens
    )
    started = time.monotonic()
    try:
        if jobs:
            backend.generate(
                jobs,
                settings,
                lambda job, found: writer.add(_candidate(run.id, job, found)),
                context.check_cancelled,
                lambda text: context.log(_SOURCE, text, level="warning", run_id=run.id),
            )
    finally:
        writer.flush()
    summary = _summarise(project.candidates.of_run(run.id), time.monotonic() - started, len(jobs))
    summary |= {"backend": backend.name, "backend_note": backend.note}
    summary |= {"kind": kind.value, "split": split.value}
    _log_end(context, run, summary)
    return summary


def run_service_inference(
    project: Project,
    run: RunRow,
    context: JobContext,
    *,
    service: ServiceConfig,
    split: Split,
    config: PipelineConfig,
    first_repeat: int = 0,
    kind: ModelKind = ModelKind.SERVICE,
) -> dict[str, Any]:
    """Have a service LLM answer every prompt of a split `config.inference.samples` times.

    Replies come through the request engine, so none is paid for twice. A request that the
    service rejects for good is stored as a response with an error and counted.

    Args:
        project: where prompts come from and responses go.
        run: the inference run the responses belong to.
        context: progress, log, cancellation, and the service's key.
        service: the service LLM; its own temperature goes before the one of `config.inference`.
        split: which prompts.
        config: its `inference` part is used.
        first_repeat: number of the first sample's repeat; another one makes the service answer
            anew, as the noise ceiling needs it.
        kind: whose answers they are; the student's and the base's are sampled with the same seeds
            and settings as on this computer, on an endpoint that serves their weights.

    Returns:
        The summary, as of `run_inference`, with the engine's counts.

    Raises:
        FatalProviderError: no request to the service can succeed.
        JobCancelledError: the user asked to stop; finished responses are stored.
    """
    records = project.records.by_split(split)
    existing = project.candidates.existing(run.id)
    missing = list(_missing(records, existing, config.inference.samples))
    is_own = kind in (ModelKind.BASE, ModelKind.TUNED)
    _log_start(context, run, f"{service.name} on {split.value}", len(missing), len(existing))
    writer = _CandidateWriter(project, run, context, len(existing), len(missing) + len(existing))

    def request(row: RecordRow, sample: int) -> ChatRequest:
        made = service_request(service, row.record, first_repeat + sample, config)
        if not is_own:
            return made
        seed = _job(row, sample, config.seed).seed
        return replace(made, top_p=config.inference.top_p, seed=seed)

    requests = ((request(row, sample), (row.id, sample)) for row, sample in missing)

    def store(tag: tuple[int, int], outcome: StoredReply) -> None:
        writer.add(_service_candidate(run.id, tag, outcome))

    started = time.monotonic()
    counts: dict[str, int] = {}
    if missing:
        provider = make_provider(service, context.secrets)
        engine = make_engine(provider, service, project, run.id, context)
        try:
            stats = engine.run_blocking(requests, store)
        finally:
            writer.flush()
        counts = {"requests": stats.sent, "from_store": stats.from_store, "lost": stats.lost}
    elapsed = time.monotonic() - started
    summary = _summarise(project.candidates.of_run(run.id), elapsed, len(missing))
    summary |= {"backend": service.name, "kind": kind.value, "split": split.value}
    if is_own:
        summary |= {"backend_note": f"{service.model} at {service.base_url}"}
    _log_end(context, run, summary)
    return summary | counts


def service_request(
    service: ServiceConfig, record: Record, repeat: int, config: PipelineConfig
) -> ChatRequest:
    """The request for one of the answers of a service LLM to a record's prompt."""
    return ChatRequest.for_service(
        service,
        record.prompt_messages,
        "answer",
        temperature=config.inference.temperature,
        repeat=repeat,
    )


def _job(row: RecordRow, sample: int, seed: int) -> PromptJob:
    return PromptJob(
        record_id=row.id,
        sample=sample,
        messages=row.record.prompt_messages,
        seed=derive_seed(seed, "answer", row.record.prompt_id, sample),
    )


def _candidate(run_id: int, job: PromptJob, found: Generation) -> NewCandidate:
    return NewCandidate(
        run_id=run_id,
        record_id=job.record_id,
        sample=job.sample,
        text=found.text,
        seed=job.seed,
        finish_reason=found.finish_reason,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        latency_s=found.seconds,
        error=found.error,
    )


def _service_candidate(run_id: int, tag: tuple[int, int], outcome: StoredReply) -> NewCandidate:
    reply = outcome.reply
    error = outcome.error
    if reply is not None and not reply.text.strip():
        error = f"The service answered without a text (finish reason {reply.finish_reason})."
    return NewCandidate(
        run_id=run_id,
        record_id=tag[0],
        sample=tag[1],
        text=reply.text.strip() if reply is not None else "",
        seed=0,
        finish_reason=reply.finish_reason if reply is not None else "error",
        prompt_tokens=reply.prompt_tokens if reply is not None else 0,
        completion_tokens=reply.completion_tokens if reply is not None else 0,
        latency_s=reply.latency_s if reply is not None else None,
        error=error,
    )


@dataclass(slots=True)
class _CandidateWriter:
    """Stores responses a few at a time and reports the progress."""

    project: Project
    run: RunRow
    context: JobContext
    done: int
    total: int
    _waiting: list[NewCandidate] = field(default_factory=list)
    _flushed_at: float = field(default_factory=time.monotonic)
    _meter: ProgressMeter = field(init=False)

    def __post_init__(self) -> None:
        self._meter = ProgressMeter(
            self.context, self.run.id, self.total, "responses", initial=self.done
        )

    def add(self, candidate: NewCandidate) -> None:
        """Take one response; it is stored within half a second of work, or with the next 64."""
        self._waiting.append(candidate)
        is_due = time.monotonic() - self._flushed_at >= _FLUSH_INTERVAL_S
        if is_due or len(self._waiting) >= _FLUSH_COUNT:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        self._flushed_at = time.monotonic()
        if not self._waiting:
            return
        self.project.candidates.add(self._waiting)
        self.done += len(self._waiting)
        self._meter.update(len(self._waiting))
        self.project.runs.set_progress(self.run.id, self.done, self.total)
        self.context.changed("candidates")
        self._waiting.clear()


def _missing(
    records: Sequence[RecordRow], existing: set[tuple[int, int]], samples: int
) -> Iterator[tuple[RecordRow, int]]:
    for row in records:
        for sample in range(samples):
            if (row.id, sample) not in existing:
                yield row, sample


def _summarise(
    candidates: Sequence[CandidateRow], seconds: float, generated: int
) -> dict[str, Any]:
    """Counts over all responses of the run; the speed is of this attempt."""
    completion = sum(item.completion_tokens for item in candidates)
    share = generated / len(candidates) if candidates else 0.0
    return {
        "responses": len(candidates),
        "errors": sum(bool(item.error) for item in candidates),
        "finish_reasons": dict(Counter(item.finish_reason for item in candidates)),
        "prompt_tokens": sum(item.prompt_tokens for item in candidates),
        "completion_tokens": completion,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(completion * share / seconds, 1) if seconds > 0 else None,
    }


def _log_start(
    context: JobContext, run: RunRow, what: str, count: int, existing: int, note: str = ""
) -> None:
    resumed = f" ({existing} are there already)" if existing else ""
    by = f", {note}" if note else ""
    context.log(_SOURCE, f"{count} responses of the {what}{by}{resumed}.", run_id=run.id)


def _log_end(context: JobContext, run: RunRow, summary: dict[str, Any]) -> None:
    if not summary["errors"]:
        return
    text = f"{summary['errors']} of {summary['responses']} prompts have no response."
    context.log(_SOURCE, text, level="warning", run_id=run.id)
