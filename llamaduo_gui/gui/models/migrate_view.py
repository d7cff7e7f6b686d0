"""What the Migrate page shows, read from the project in one go; no widgets here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.budget import is_budget_stop
from llamaduo_gui.core.errors import ConfigError
from llamaduo_gui.core.types import Metric, ModelKind, Origin, RunStatus, Split, Stage
from llamaduo_gui.gui.widgets.charts import LossPoint, RatioPoint
from llamaduo_gui.gui.widgets.stage_timeline import CellState, RoundRow, StageCell
from llamaduo_gui.gui.widgets.wording import (
    NO_VALUE,
    Interval,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_percent,
    format_range,
    format_size,
)
from llamaduo_gui.store.rows import Usage

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig
    from llamaduo_gui.core.events import Progress
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import LogRow, RunRow

BASELINE_ROW = -1
FINAL_ROW = 10_000
COLUMNS: tuple[tuple[str, str], ...] = (
    (Stage.SYNTHESIZE.value, "Synthesise"),
    (Stage.FINETUNE.value, "Fine-tune"),
    (Stage.INFER.value, "Answer"),
    (Stage.JUDGE.value, "Judge"),
    (Stage.DECIDE.value, "Decide"),
)
_STATES = {
    RunStatus.SUCCEEDED: CellState.DONE,
    RunStatus.RUNNING: CellState.RUN,
    RunStatus.QUEUED: CellState.WAIT,
    RunStatus.FAILED: CellState.FAILED,
    RunStatus.CANCELLED: CellState.STOPPED,
    RunStatus.INTERRUPTED: CellState.STOPPED,
}
# The last row's stages under the headings of a round.
_COLUMN_OF = {Stage.EXPORT: Stage.FINETUNE, Stage.CERTIFY: Stage.DECIDE}
_EMPTY = StageCell(CellState.WAIT, NO_VALUE)


@dataclass(frozen=True, slots=True)
class MigrateView:
    """A snapshot of the loop. `problem` is why it cannot be started, one sentence or empty."""

    rows: tuple[RoundRow, ...] = ()
    future: RoundRow | None = None
    ratios: tuple[RatioPoint, ...] = ()
    threshold: float | None = None
    running_round: int | None = None
    max_rounds: int = 0
    usage: Usage = field(default_factory=Usage)
    budget_usd: float | None = None
    seconds: float = 0.0
    judgements: tuple[int, int] = (0, 0)
    verdict: str = ""
    is_matched: bool | None = None
    is_complete: bool = False
    has_started: bool = False
    last_status: RunStatus | None = None
    last_error: str = ""
    problem: str = ""
    plan: tuple[tuple[str, str], ...] = ()
    logs: tuple[LogRow, ...] = ()
    loss_round: int | None = None
    loss: tuple[LossPoint, ...] = ()
    eval_loss: tuple[LossPoint, ...] = ()
    total_steps: int = 0
    run_ids: dict[tuple[int, str], int] = field(default_factory=dict)

    @property
    def spent_usd(self) -> float:
        """Dollars of replies, and of what was lost on the way."""
        return self.usage.cost_usd + self.usage.lost_usd

    @property
    def is_at_budget(self) -> bool:
        """Whether the loop stands still because the next call would cross the budget."""
        return self.last_status is not RunStatus.SUCCEEDED and is_budget_stop(self.last_error)


def read_migrate(project: Project) -> MigrateView:
    """Read everything the page shows. Takes milliseconds, but not for the GUI thread."""
    # Runs that wait for their stage are a pilot's: nothing of the loop has happened in them.
    runs = [run for run in project.runs.all() if run.attempts or run.status is not RunStatus.QUEUED]
    try:
        config = project.config
        config.require_services()
        problem = ""
    except ConfigError as error:
        config, problem = _last_config(runs), str(error)
    parent = next((run for run in runs if run.stage is Stage.PIPELINE), None)
    rows, run_ids = _rows(runs)
    last_decision = _last(runs, Stage.DECIDE)
    trainings = [run for run in runs if run.stage is Stage.FINETUNE and run.attempts]
    training = trainings[-1] if trainings else None
    stages = [run for run in runs if run.stage is not Stage.PIPELINE]
    running = next((run for run in stages if run.status is RunStatus.RUNNING), None)
    return MigrateView(
        rows=rows,
        future=_future(runs, config, last_decision),
        ratios=_ratios(runs),
        threshold=_threshold(config),
        running_round=running.round if running else None,
        max_rounds=config.decision.max_rounds,
        usage=project.replies.usage(),
        budget_usd=config.budget.usd,
        seconds=sum(run.elapsed_s for run in stages),
        judgements=project.judgements.totals(),
        verdict=_verdict_text(last_decision),
        is_matched=last_decision.summary.get("is_matched") if last_decision else None,
        is_complete=bool(parent and parent.summary.get("is_complete")),
        has_started=parent is not None and parent.attempts > 0,
        last_status=parent.status if parent else None,
        last_error=_error_of(parent, stages),
        problem=problem,
        plan=_plan(project, config),
        logs=tuple(project.logs.tail(500)),
        loss_round=training.round if training else None,
        loss=_series(project, training, "loss"),
        eval_loss=_series(project, training, "eval_loss"),
        total_steps=training.total if training else 0,
        run_ids=run_ids,
    )


def live_cell(progress: Progress) -> StageCell:
    """The cell of the stage that runs, with its progress."""
    units = progress.units or "units"
    unit = {"steps": "Step"}.get(units)
    done, total = f"{progress.done:,}", f"{progress.total:,}"
    text = f"{unit} {done} of {total}" if unit else f"{done} of {total} {units}"
    if progress.total and progress.done >= progress.total and progress.message:
        text = progress.message
    return StageCell(CellState.RUN, text, done=progress.done, total=progress.total)


def row_of(round_number: int | None, split: Split | None, kind: str, stage: str) -> int:
    """The row of the timeline a run belongs to."""
    if stage in (Stage.EXPORT.value, Stage.CERTIFY.value) or split is Split.TEST:
        return FINAL_ROW
    if round_number is None or kind in (ModelKind.SERVICE, ModelKind.CEILING, ModelKind.BASE):
        return BASELINE_ROW
    return round_number


def _last_config(runs: Sequence[RunRow]) -> PipelineConfig:
    from llamaduo_gui.core.config import PipelineConfig

    used = [run.config for run in runs if run.config]
    try:
        return PipelineConfig.model_validate(used[-1]) if used else PipelineConfig()
    except ValueError:
        return PipelineConfig()


def _last(runs: Sequence[RunRow], stage: Stage) -> RunRow | None:
    found = [run for run in runs if run.stage is stage and run.summary]
    return found[-1] if found else None


def _rows(
    runs: Sequence[RunRow],
) -> tuple[tuple[RoundRow, ...], dict[tuple[int, str], int]]:
    by_cell: dict[tuple[int, str], list[RunRow]] = {}
    for run in runs:
        if run.stage in (Stage.PIPELINE, Stage.REPORT, Stage.CHAT):
            continue
        number = row_of(run.round, run.split, run.label, run.stage.value)
        column = _COLUMN_OF.get(run.stage, run.stage)
        by_cell.setdefault((number, column.value), []).append(run)
    numbers = sorted({number for number, _ in by_cell})
    rows = []
    for number in numbers:
        found = [by_cell.get((number, key), []) for key, _ in COLUMNS]
        is_current = any(run.status is RunStatus.RUNNING for group in found for run in group)
        cells = tuple(
            _cell(number, key, group) for (key, _), group in zip(COLUMNS, found, strict=True)
        )
        rows.append(RoundRow(number, _row_label(number), cells, is_current))
    return tuple(rows), {cell: group[-1].id for cell, group in by_cell.items()}


def _row_label(number: int) -> str:
    return {BASELINE_ROW: "Baselines", FINAL_ROW: "Test split"}.get(number, f"Round {number}")


def _cell(number: int, stage: str, group: Sequence[RunRow]) -> StageCell:
    if not group:
        if stage == Stage.SYNTHESIZE.value and number == 0:
            return StageCell(CellState.DONE, "Coverage data", "no synthesis")
        return _EMPTY
    open_runs = [run for run in group if run.status is not RunStatus.SUCCEEDED]
    shown = open_runs[-1] if open_runs else group[-1]
    state = _STATES[shown.status]
    if state is CellState.RUN:
        return StageCell(state, "Starting", done=shown.done, total=shown.total)
    if state is CellState.FAILED:
        return StageCell(state, "Failed", shown.error)
    if is_budget_stop(shown.error):
        return StageCell(state, "Budget reached", _count(shown))
    if state is CellState.STOPPED:
        return StageCell(state, shown.status.value.capitalize(), _count(shown))
    if state is CellState.WAIT:
        return StageCell(state, "Next")
    text, detail = _describe(stage, group)
    has_failed = shown.stage is Stage.CERTIFY and not shown.summary.get("is_certified")
    if has_failed or (shown.stage is Stage.DECIDE and not shown.summary.get("is_matched")):
        state = CellState.NOT_MATCHED
    return StageCell(state, text, detail)


def _count(run: RunRow) -> str:
    return f"at {run.done:,} of {run.total:,}" if run.total else ""


def _describe(stage: str, group: Sequence[RunRow]) -> tuple[str, str]:
    run, summary = group[-1], group[-1].summary
    took = format_duration(sum(item.elapsed_s for item in group))
    if run.stage is Stage.EXPORT:
        size = format_size(summary.get("size_bytes", 0))
        return f"GGUF {summary.get('quant', '')}".strip(), f"{size} · {took}"
    if run.stage is Stage.CERTIFY:
        return str(summary.get("verdict", "Certified")), took
    if stage == Stage.SYNTHESIZE.value:
        kept, parsed = summary.get("kept", 0), summary.get("parsed", 0)
        return f"{kept:,} of {parsed:,} kept", took
    if stage == Stage.FINETUNE.value:
        loss = summary.get("eval_loss")
        return f"Eval loss {format_number(loss, 2)}", took
    if stage == Stage.INFER.value:
        total = sum(int(item.summary.get("responses", item.total)) for item in group)
        return f"{format_count(total)} responses", took
    if stage == Stage.JUDGE.value:
        if len({item.label for item in group}) > 1:
            return _compare_means(group), f"mean precision · {took}"
        interval = judged_interval(summary, Metric.PRECISION)
        return (format_interval(interval) if interval else "Unscored"), f"precision · {took}"
    return _describe_decision(summary)


def _compare_means(group: Sequence[RunRow]) -> str:
    """`service 93.2, base 1.0`: the means of several models in one cell."""
    parts = []
    for run in group:
        interval = judged_interval(run.summary, Metric.PRECISION)
        value = format_number(interval.estimate if interval else None)
        parts.append(f"{run.label.upper() if run.label == 'gguf' else run.label} {value}")
    return ", ".join(parts)


def judged_interval(summary: dict[str, Any], metric: Metric) -> Interval | None:
    """Mean and interval of a judging run's summary, pooled over the judges."""
    mean = summary.get("pooled", {}).get(metric.value, {}).get("mean")
    return to_interval(mean)


def to_interval(estimate: dict[str, Any] | None, scale: float = 1.0) -> Interval | None:
    """An estimate of the statistics as the widgets take it; None if it has no value."""
    if not estimate or estimate.get("value") is None:
        return None
    low, high = estimate.get("low"), estimate.get("high")
    return Interval(
        estimate["value"] * scale,
        low * scale if low is not None else None,
        high * scale if high is not None else None,
    )


def decisive_ratio(summary: dict[str, Any]) -> Interval | None:
    """The lowest student/teacher ratio of a decision over its metrics, in per cent."""
    found = []
    for evidence in summary.get("verdict", {}).get("evidence", []):
        ratio = evidence.get("ratio")
        interval = to_interval(ratio["mean"], 100.0) if ratio else None
        if interval is not None:
            found.append(interval)
    return (
        min(found, key=lambda item: item.low if item.low is not None else item.estimate)
        if (found)
        else None
    )


def _describe_decision(summary: dict[str, Any]) -> tuple[str, str]:
    word = summary.get("verdict", {}).get("word", "Undecided")
    ratio = decisive_ratio(summary)
    if ratio is None:
        return word, ""
    return word, f"{format_percent(ratio.estimate)} {format_range(ratio)}".strip()


def _verdict_text(run: RunRow | None) -> str:
    return str(run.summary.get("reason", "")) if run else ""


def _future(
    runs: Sequence[RunRow], config: PipelineConfig, decision: RunRow | None
) -> RoundRow | None:
    rounds = [run.round for run in runs if run.round is not None]
    first = max(rounds) + 1 if rounds else 0
    last = config.decision.max_rounds
    is_over = decision is not None and not decision.summary.get("should_continue", True)
    if first > last or (is_over and decision is not None and decision.round == first - 1):
        return None
    label = f"Round {first}" if first == last else f"Rounds {first}{chr(0x2013)}{last}"
    wait = CellState.WAIT
    cells = (
        StageCell(wait, "If not matched" if first else NO_VALUE),
        _EMPTY,
        _EMPTY,
        _EMPTY,
        StageCell(wait, f"Stops at round {last}"),
    )
    return RoundRow(first, label, cells)


def _ratios(runs: Sequence[RunRow]) -> tuple[RatioPoint, ...]:
    points = []
    for run in runs:
        if run.stage is Stage.DECIDE and run.round is not None:
            ratio = decisive_ratio(run.summary)
            if ratio is not None:
                points.append(RatioPoint(run.round, ratio))
    return tuple(points)


def _threshold(config: PipelineConfig) -> float | None:
    if config.decision.rule == "non_inferiority":
        return 100.0 * (1.0 - config.decision.margin)
    if config.decision.rule == "p_match":
        return config.decision.p_match_target
    return None


def _error_of(parent: RunRow | None, stages: Sequence[RunRow]) -> str:
    """Why the loop stands still: the newest stage that did not end well, or the loop itself."""
    if parent is None or parent.status is RunStatus.SUCCEEDED:
        return ""
    for run in reversed(stages):
        if run.status.is_resumable and run.error:
            return run.error
    return parent.error


def _plan(project: Project, config: PipelineConfig) -> tuple[tuple[str, str], ...]:
    counts = project.records.counts()
    by_split = {
        split: sum(
            number
            for (origin, own, _), number in counts.items()
            if origin is Origin.COVERAGE and own is split
        )
        for split in Split
    }
    sizes = ", ".join(f"{number:,} {split.value}" for split, number in by_split.items())
    last = config.decision.max_rounds
    teacher = config.teacher.name if config.teacher else "not set"
    judges = ", ".join(f"{item.name} \u00d7 {item.repeats}" for item in config.judges) or "not set"
    student, inference = config.student, config.inference
    return (
        ("Data", f"{sizes} pairs"),
        ("Teacher", teacher),
        ("Judges", judges),
        ("Student", f"{student.base_model}, recipe {student.recipe}"),
        (
            "Answers",
            f"{inference.samples} samples a prompt, up to {inference.max_new_tokens} tokens",
        ),
        ("Further rounds", f"{config.synthesis.pairs_per_round:,} new pairs each, up to {last}"),
        ("Result", f"a GGUF file ({config.export.quant}) and a report"),
    )


def _series(project: Project, run: RunRow | None, name: str) -> tuple[LossPoint, ...]:
    if run is None:
        return ()
    return tuple(LossPoint(step, value) for step, value in project.training.series(run.id, name))
