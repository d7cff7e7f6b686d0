"""The report of a project as one JSON-able document: what was done, how good it is, the cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llamaduo_gui import __version__
from llamaduo_gui.core.config import PipelineConfig, ServiceConfig
from llamaduo_gui.core.types import (
    Metric,
    ModelKind,
    Origin,
    RecordStatus,
    RunStatus,
    Split,
    Stage,
)
from llamaduo_gui.evaluation.click_through import click_through
from llamaduo_gui.evaluation.report_certificate import certificate_caveat, certificate_of
from llamaduo_gui.evaluation.report_costs import usage_section
from llamaduo_gui.evaluation.results import (
    JudgedModel,
    best_p_match,
    describe_ceiling,
    describe_counts,
    final_model,
    final_verdict,
    judged_models,
    judges_of,
    result_table,
)
from llamaduo_gui.evaluation.statistics import CONFIDENCE, coverage_curve
from llamaduo_gui.evaluation.verdict import caveats
from llamaduo_gui.evaluation.votes import vote_summary
from llamaduo_gui.store.project import PASSAGE_GROUPS, Project
from llamaduo_gui.store.rows import ArtifactRow, RecordFilter, RunRow

FORMAT = 1
CURVE_THRESHOLDS = range(1, 101)
MOST_CURVE_POINTS = 200


def build_report(project: Project) -> dict[str, Any]:
    """Everything a colleague needs to believe (or doubt) the result.

    Numbers are per cent and scores of 1..100, each with its 95 % interval. The verdict is about
    the last model of the chain that was judged on the test split (the GGUF, else the tuned one),
    or on validation while there is nothing on test; `verdict.split` says which.
    """
    config = project.config
    models = {split: judged_models(project, split) for split in (Split.VALIDATION, Split.TEST)}
    shown = Split.TEST if models[Split.TEST] else Split.VALIDATION
    options = {"resamples": config.decision.resamples, "seed": config.seed}
    exported = project.artifacts.latest("gguf")
    certificate = certificate_of(project, exported) if exported else None
    verdict = _verdict(models[shown], config, shown)
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "application": {"name": "LlamaDuo GUI", "version": __version__},
        "project": {"name": project.name, "task": config.task, "seed": config.seed},
        "verdict": verdict,
        "caveats": [
            *certificate_caveat(certificate),
            *caveats(config, project.records.accepted_contaminated()),
        ],
        "services": _services(config),
        "statistics": {**options, "confidence": CONFIDENCE, "clustered_by": clustered_by(project)},
        "data": _data(project),
        "splits": {
            split.value: {
                "judges": judges_of(found),
                "models": result_table(found, **options),
                "p_match": best_p_match(found, **options),
            }
            for split, found in models.items()
        },
        "votes": vote_summary(project.votes.all()),
        "rounds": _rounds(project),
        "gguf": _gguf(project, exported, verdict, certificate),
        "certificate": certificate,
        "usage": usage_section(project, config),
        "versions": _versions(project),
        "config": config.model_dump(mode="json"),
        "curves": _curves(models[shown], **options),
        "shown_split": shown.value,
        "responses": click_through(project, models[shown]),
    }


def clustered_by(project: Project) -> str:
    """What the bootstrap draws, in words."""
    return "prompt and shared passage" if project.get_setting(PASSAGE_GROUPS) else "prompt"


def _verdict(models: Sequence[JudgedModel], config: PipelineConfig, split: Split) -> dict[str, Any]:
    chosen = final_model(models)
    return {
        **final_verdict(models, config).to_dict(),
        "split": split.value,
        "model": chosen.key if chosen else None,
        "counts": describe_counts(chosen) if chosen else "",
        "ceiling": describe_ceiling(models, config),
        "margin": config.decision.margin,
    }


def _services(config: PipelineConfig) -> list[dict[str, Any]]:
    used: list[tuple[str, ServiceConfig]] = []
    if config.teacher:
        used.append(("teacher", config.teacher))
    used += [("judge", judge) for judge in config.judges]
    return [
        {
            "role": role,
            "name": service.name,
            "provider": service.provider,
            "model": service.model,
            "base_url": service.base_url,
            "is_llm": service.provider != "offline",
            "note": "" if service.provider != "offline" else "not an LLM",
        }
        for role, service in used
    ]


def _data(project: Project) -> dict[str, Any]:
    counts: dict[str, int] = defaultdict(int)
    for (origin, split, status), number in project.records.counts().items():
        if origin is Origin.COVERAGE:
            counts[split.value] += number
        else:
            counts[f"synthetic_{status.value}"] += number
    names = [split.value for split in Split]
    names += [f"synthetic_{status.value}" for status in RecordStatus]
    return {name: counts[name] for name in names}


def _rounds(project: Project) -> list[dict[str, Any]]:
    """Each round's synthesis, training and decision; its scores are in the validation table."""
    runs = {run.key: run for run in project.runs.all()}
    numbers = sorted(
        {run.round for run in runs.values() if run.round is not None and run.stage in _ROUND_STAGES}
    )
    found = []
    for number in numbers:
        decided = runs.get(f"decide:r{number}")
        found.append(
            {
                "round": number,
                "synthesis": _synthesis(project, runs.get(f"synthesize:r{number}")),
                "training": _training(project, runs.get(f"finetune:r{number}")),
                "decision": dict(decided.summary) if decided and decided.summary else None,
            }
        )
    return found


_ROUND_STAGES = (Stage.SYNTHESIZE, Stage.FINETUNE, Stage.DECIDE)


def _synthesis(project: Project, run: RunRow | None) -> dict[str, Any] | None:
    if run is None:
        return None
    kept = RecordFilter(
        origins=frozenset({Origin.SYNTHETIC}),
        statuses=frozenset({RecordStatus.KEPT}),
        round=run.round,
    )
    rejected = project.records.reject_counts(run.round)
    return {
        "status": run.status.value,
        "kept": project.records.count(kept),
        "rejected": sum(rejected.values()),
        "rejected_by_reason": {reason.value: number for reason, number in rejected.items()},
        "seconds": round(run.elapsed_s, 1),
    }


def _training(project: Project, run: RunRow | None) -> dict[str, Any] | None:
    if run is None:
        return None
    curves = {name: project.training.series(run.id, name) for name in ("loss", "eval_loss")}
    names = ("method", "train_loss", "eval_loss", "steps", "epochs", "records_used", "device")
    return {
        "status": run.status.value,
        **{name: run.summary.get(name) for name in names},
        "seconds": round(run.elapsed_s, 1),
        "curves": {name: thin_out(points) for name, points in curves.items()},
    }


def thin_out(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_CURVE_POINTS` of a curve, evenly chosen, with the last one."""
    if len(points) <= MOST_CURVE_POINTS:
        return list(points)
    step = (len(points) - 1) / (MOST_CURVE_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_CURVE_POINTS)]


def _gguf(
    project: Project,
    row: ArtifactRow | None,
    verdict: Mapping[str, Any],
    certificate: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """The exported file; it is ready for use if it matches and is certified."""
    if row is None:
        return None
    run = project.runs.by_key(f"export:{row.meta.get('quant')}:r{row.round}")
    is_certified = certificate is not None and certificate["is_certified"]
    return {
        "path": row.path,
        "file": row.path.rpartition("/")[2],
        "round": row.round,
        "quant": row.meta.get("quant"),
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "merge": dict(run.summary.get("merge", {})) if run else {},
        "is_certified": is_certified if certificate is not None else None,
        "is_ready": is_certified and bool(verdict["is_matched"]),
    }


def _versions(project: Project) -> dict[str, str]:
    """Package versions of all successful runs; several versions of one are all named."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in project.runs.all():
        if run.status is RunStatus.SUCCEEDED or run.stage is Stage.REPORT:
            for name, version in run.versions.items():
                if version not in found[name]:
                    found[name].append(version)
    return {name: ", ".join(versions) for name, versions in found.items()}


def _curves(models: Sequence[JudgedModel], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Pooled coverage curves of service, base and the final model of each kind."""
    last: dict[ModelKind, JudgedModel] = {model.kind: model for model in models}
    found = []
    for model in last.values():
        for metric in Metric:
            curve = coverage_curve(
                model.scores.by_prompt(metric), CURVE_THRESHOLDS, resamples=resamples, seed=seed
            )
            identity = {"model": model.key, "kind": model.kind.value, "title": model.title}
            found.append({**identity, "metric": metric.value, **curve.to_dict()})
    return found
