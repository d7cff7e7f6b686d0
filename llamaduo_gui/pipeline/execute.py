"""Carries out one step: its run row, its events, and the call into the stage that does the work."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaduo_gui import __version__
from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.errors import BudgetReachedError, JobCancelledError, LlamaDuoError, UserError
from llamaduo_gui.core.events import Finished, Started
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import ModelKind, RunStatus, Split, Stage
from llamaduo_gui.pipeline.plan import Step, first_repeat
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import RunRow
from llamaduo_gui.training.options import TrainingOptions

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "llama-cpp-python",
    "gguf",
    "openai",
)

Summary = Mapping[str, Any]


def installed_versions() -> dict[str, str]:
    """Versions of this application, Python and the packages that shape the results."""
    found = {"llamaduo-gui": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def failure_detail(failure: LlamaDuoError) -> dict[str, Any]:
    """What a failure says for a program, under `failure`; empty for most."""
    detail = dict(failure.detail) if isinstance(failure, UserError) else {}
    return {"failure": detail} if detail else {}


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out steps of one project with one configuration.

    Attributes:
        last_round: number of the last round that may happen, kept with each decision.
        pair_count: pairs to synthesise instead of the configured number, or None.
        training: how a fine-tuning is started, None for as usual.
    """

    project: Project
    context: JobContext
    config: PipelineConfig
    last_round: int
    parent_id: int | None = None
    pair_count: int | None = None
    training: TrainingOptions | None = None

    def run(self, step: Step, *, again: bool = False) -> RunRow:
        """Do a step, or take it up where it stopped; a step that succeeded is not done twice.

        Args:
            step: what to do.
            again: do it even if it succeeded before.

        Raises:
            JobCancelledError, LlamaDuoError: the run row says so too.
        """
        self.context.check_cancelled()
        row = self.project.runs.find_or_create(
            step.key,
            step.stage,
            round_number=step.round,
            label=step.label,
            split=step.split,
            config=self.config.model_dump(mode="json"),
            seed=self.config.seed,
            parent_id=self.parent_id,
        )
        if row.status is RunStatus.SUCCEEDED and not again:
            return row
        if row.status is RunStatus.QUEUED:
            # A pilot made the row, maybe under other settings.
            self.project.runs.set_config(row.id, self.config.model_dump(mode="json"))
        return self.record(row, lambda: self._work(step, row))

    def record(self, row: RunRow, work: Callable[[], Summary]) -> RunRow:
        """Run `work` as the run `row`: status, times, error and summary are kept."""
        runs = self.project.runs
        runs.start(row.id, installed_versions())
        self.context.emit(Started(row.id, row.stage.value, row.round, row.label))
        self.context.changed("runs")
        status, error, summary = RunStatus.FAILED, "", None
        detail: dict[str, Any] = {}
        try:
            summary = dict(work())
            status = RunStatus.SUCCEEDED
        except (BudgetReachedError, JobCancelledError) as stop:
            # Nothing went wrong: the run waits for more money, or for the user.
            status, error = RunStatus.CANCELLED, str(stop)
            raise
        except LlamaDuoError as failure:
            error = self.context.redact(str(failure))
            detail = failure_detail(failure)
            summary = {**row.summary, **detail} if detail else None
            raise
        except BaseException as failure:
            # A bug: what it says may hold anything, an API key too.
            error = self.context.redact(f"{type(failure).__name__}: {failure}")
            raise
        finally:
            runs.finish(row.id, status, error=error, summary=summary)
            self.context.emit(Finished(row.id, status.value, error, result=detail))
            self.context.changed("runs")
        return runs.get(row.id)

    def _work(self, step: Step, run: RunRow) -> Summary:
        work: dict[Stage, Callable[[Step, RunRow], Summary]] = {
            Stage.SYNTHESIZE: self._synthesize,
            Stage.FINETUNE: self._finetune,
            Stage.INFER: self._infer,
            Stage.JUDGE: self._judge,
            Stage.DECIDE: self._decide,
            Stage.EXPORT: self._export,
            Stage.CERTIFY: self._certify,
        }
        return work[step.stage](step, run)

    def _synthesize(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.pipeline.feedback import seed_weights
        from llamaduo_gui.synthesis.stage import run_synthesis

        number = _round_of(step)
        config = self.config
        if self.pair_count is not None:
            synthesis = config.synthesis.model_copy(update={"pairs_per_round": self.pair_count})
            config = config.model_copy(update={"synthesis": synthesis})
        return run_synthesis(
            self.project,
            run,
            self.context,
            round_number=number,
            config=config,
            seed_weights=seed_weights(self.project, config, number),
        )

    def _finetune(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.training.stage import run_finetune

        return run_finetune(
            self.project,
            run,
            self.context,
            round_number=_round_of(step),
            config=self.config,
            options=self.training,
        )

    def _infer(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.inference.stage import run_inference, run_service_inference

        split, kind = step.split or Split.VALIDATION, step.kind or ModelKind.TUNED
        if (service := self._answering_service(step, kind)) is not None:
            return run_service_inference(
                self.project,
                run,
                self.context,
                service=service,
                split=split,
                config=self.config,
                first_repeat=first_repeat(self.config, step),
                kind=kind,
            )
        from llamaduo_gui.pipeline.backends import find_gguf, make_backend

        quant = self.config.export.quant if kind is ModelKind.GGUF else None
        backend = make_backend(
            self.project,
            self.config,
            kind,
            step.round,
            quant,
            self.context.check_cancelled,
            lambda text: self.context.log("infer", text, run_id=run.id),
        )
        try:
            summary = run_inference(
                self.project,
                run,
                self.context,
                backend=backend,
                split=split,
                kind=kind,
                round_number=step.round,
                config=self.config,
            )
        finally:
            backend.close()
        answering = find_gguf(self.project, step.round, quant) if quant else None
        return summary | ({"weights_sha256": answering.sha256} if answering else {})

    def _answering_service(self, step: Step, kind: ModelKind) -> ServiceConfig | None:
        """The service or endpoint that answers in this step; None if this computer does."""
        if kind in (ModelKind.SERVICE, ModelKind.CEILING):
            return self.config.require_services()[0]
        if self.config.inference.backend != "endpoint" or kind is ModelKind.GGUF:
            return None
        from llamaduo_gui.pipeline.backends import endpoint_service

        return endpoint_service(self.config, kind, step.round)

    def _judge(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.evaluation.stage import run_judging

        answered = self.project.runs.by_key(step.key.replace("judge:", "infer:", 1))
        if answered is None:
            raise LlamaDuoError(f"There are no answers to judge for {step.key}.")
        return run_judging(
            self.project, run, self.context, candidate_run_id=answered.id, config=self.config
        )

    def _decide(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.pipeline.feedback import decide_round

        decision = decide_round(self.project, self.config, _round_of(step), self.last_round)
        self.context.log("decide", f"round {step.round}: {decision.reason}", run_id=run.id)
        return {**decision.to_dict(), "last_round": self.last_round}

    def _export(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.export.stage import run_export
        from llamaduo_gui.pipeline.certify import find_student
        from llamaduo_gui.pipeline.merge_choice import choose_merge

        student = find_student(self.project, self.config, _round_of(step))
        choice = choose_merge(self.project, self.config, student, self.context)
        if choice.reason:
            self.context.log("export", choice.reason, run_id=run.id)
        return run_export(
            self.project,
            run,
            self.context,
            round_number=_round_of(step),
            quant=step.key.split(":")[1],
            config=self.config,
            merge=choice.to_dict(),
        )

    def _certify(self, step: Step, run: RunRow) -> Summary:
        from llamaduo_gui.pipeline.backends import find_gguf
        from llamaduo_gui.pipeline.certify import find_student, run_certification

        number, quant = _round_of(step), step.key.split(":")[1]
        exported = find_gguf(self.project, number, quant)
        if exported is None:
            raise UserError("There is no GGUF file yet; export one first.")
        return run_certification(
            self.project,
            run,
            self.context,
            config=self.config,
            path=self.project.artifacts.absolute(exported),
            student=find_student(self.project, self.config, number),
            quant=quant,
            versions=installed_versions(),
        )


def export_copy(path: Path, out: Path) -> Path:
    """Copy an exported file to where the user wants it; an existing file is replaced at the end."""
    import shutil

    out = out.expanduser().resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    try:
        shutil.copyfile(path, temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def _round_of(step: Step) -> int:
    if step.round is None:
        raise LlamaDuoError(f"{step.key} belongs to no round.")
    return step.round
