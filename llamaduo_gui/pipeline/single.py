"""One stage alone, as the commands `synthesize`, `finetune`, `infer`, `judge`, `export` do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import ModelKind, RunStatus, Split, Stage
from llamaduo_gui.pipeline.also import parse_also, write_also
from llamaduo_gui.pipeline.backends import find_gguf
from llamaduo_gui.pipeline.certify import find_student
from llamaduo_gui.pipeline.certify_single import certify
from llamaduo_gui.pipeline.execute import Executor, export_copy
from llamaduo_gui.pipeline.feedback import read_decisions
from llamaduo_gui.pipeline.local_estimate import round_to_train
from llamaduo_gui.pipeline.loop import write_report
from llamaduo_gui.pipeline.plan import Step, answer_steps, next_synthesis_round
from llamaduo_gui.pipeline.spending import put_budget_in_force
from llamaduo_gui.store.project import Project
from llamaduo_gui.training.options import TrainingOptions


def run_single(project: Project, context: JobContext, options: Mapping[str, Any]) -> dict[str, Any]:
    """Do one stage for the current round; the loop later finds it done.

    Args:
        project: an open project whose lock is held.
        context: reports and cancellation.
        options: `stage`, and by stage: `count` (synthesize), `quant` and `out` (export), `gguf`,
            `quant` and `judge` (certify).

    Raises:
        UserError: what the stage needs is not there yet.
    """
    config = project.config
    count = options.get("count")
    executor = Executor(
        project,
        context,
        config,
        config.decision.max_rounds,
        pair_count=count,
        training=TrainingOptions(
            should_restart=bool(options.get("restart")),
            accelerate_config=str(options.get("accelerate") or ""),
        ),
    )
    stage = Stage(options["stage"])
    # The student's own inference costs nothing, so `infer` alone needs no price.
    paid = {Stage.JUDGE} if options.get("judge") else {stage}
    put_budget_in_force(project, context, config, paid - {Stage.INFER})
    if stage is Stage.REPORT:
        return dict(write_report(executor).summary)
    if stage is Stage.EXPORT:
        return _export(executor, options)
    if stage is Stage.CERTIFY:
        return certify(executor, options, round_to_export(project))
    summaries = [
        {"run": run.key, **run.summary}
        for run in (executor.run(step, again=True) for step in _steps(project, config, stage))
    ]
    return summaries[0] if len(summaries) == 1 else {"runs": summaries}


def _steps(project: Project, config: PipelineConfig, stage: Stage) -> list[Step]:
    trained = trained_rounds(project)
    if stage is Stage.SYNTHESIZE:
        number = next_synthesis_round(trained)
        return [Step(f"synthesize:r{number}", stage, number)]
    if stage is Stage.FINETUNE:
        return [_finetune_step(project)]
    if not trained:
        raise UserError("There is no trained student yet; run `finetune` first.")
    answer, judge = answer_steps(ModelKind.TUNED, Split(config.decision.split), max(trained))
    if stage is Stage.INFER:
        return [answer]
    if stage is Stage.JUDGE:
        if project.runs.by_key(answer.key) is None:
            raise UserError("There are no answers to judge yet; run `infer` first.")
        return [judge]
    raise UserError(f"The stage {stage.value} cannot be run alone.")


def _finetune_step(project: Project) -> Step:
    number = round_to_train(project)
    return Step(f"finetune:r{number}", Stage.FINETUNE, number)


def trained_rounds(project: Project) -> list[int]:
    """Numbers of the rounds with a finished student."""
    return [
        run.round
        for run in project.runs.all(Stage.FINETUNE)
        if run.status is RunStatus.SUCCEEDED and run.round is not None
    ]


def round_to_export(project: Project) -> int:
    """The round whose student is exported: the best decided one, else the last trained.

    Raises:
        UserError: there is no trained student yet.
    """
    trained = trained_rounds(project)
    if not trained:
        raise UserError("There is no trained student to export yet; run the loop first.")
    decisions = read_decisions(project)
    return decisions[max(decisions)].best_round if decisions else max(trained)


def _export(executor: Executor, options: Mapping[str, Any]) -> dict[str, Any]:
    project = executor.project
    parse_also(options.get("also", ""))
    number = round_to_export(project)
    quant = options.get("quant") or executor.config.export.quant
    step = Step(f"export:{quant}:r{number}", Stage.EXPORT, number, ModelKind.GGUF)
    row = find_gguf(project, number, quant)
    is_there = row is not None and project.artifacts.absolute(row).is_file()
    run = executor.run(step, again=not is_there)
    summary = dict(run.summary)
    path = project.folder / summary["path"]
    summary["path"] = str(export_copy(path, Path(options["out"])) if options.get("out") else path)
    if options.get("also"):
        student = find_student(project, executor.config, number)
        summary["also"] = write_also(
            parse_also(options["also"]),
            Path(summary["path"]),
            student,
            project.name,
            executor.config,
            executor.context.check_cancelled,
        )
    if options.get("certify"):
        wanted = {"gguf": str(path), "judge": options.get("judge")}
        summary["certificate"] = certify(executor, wanted, number)
    return summary
