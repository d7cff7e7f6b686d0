"""What the Train page shows, read from the project; no widgets here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import ConfigError, UserError
from llamaduo_gui.core.types import RunStatus, Stage
from llamaduo_gui.gui.widgets.chart_data import LossPoint
from llamaduo_gui.gui.widgets.wording import format_count, format_duration, format_size

if TYPE_CHECKING:
    from llamaduo_gui.core.config import PipelineConfig, StudentConfig
    from llamaduo_gui.pipeline.local_estimate import LocalEstimate
    from llamaduo_gui.store.project import Project
    from llamaduo_gui.store.rows import RunRow

# Fields of the form: key of the recipe, by the section it lies in.
FORM_KEYS = {
    "epochs": "training",
    "learning_rate": "training",
    "batch_size": "training",
    "max_length": "training",
    "r": "lora",
    "alpha": "lora",
}
PART_NAMES = {
    "weights": "Weights",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "Optimiser",
    "activations": "Activations",
    "logits": "Loss",
    "overhead": "Libraries",
}


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A recipe for a list, with the values of the form's fields."""

    name: str
    description: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Curves:
    """The numbers of one training."""

    run_id: int = 0
    round: int | None = None
    loss: tuple[LossPoint, ...] = ()
    evals: tuple[LossPoint, ...] = ()
    total_steps: int = 0
    learning_rate: float | None = None
    tokens_per_s: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class TrainView:
    """A snapshot for the page.

    Attributes:
        round: that the button trains; `train` is how many coverage records there are.
        config: None where `pipeline.yaml` is not valid; `problem` says why.
        status, error, offer: how the last training ended, and overrides that would fit.
        must_restart: its checkpoints are of other settings.
        rounds: a line on each finished round.
    """

    round: int = 0
    train: int = 0
    config: PipelineConfig | None = None
    recipes: tuple[RecipeText, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    status: RunStatus | None = None
    error: str = ""
    offer: Mapping[str, Any] = field(default_factory=dict)
    must_restart: bool = False
    curves: Curves = Curves()
    rounds: tuple[str, ...] = ()


def read_train(project: Project) -> TrainView:
    """Read everything but the estimate."""
    from llamaduo_gui.core.types import Origin, RecordStatus, Split
    from llamaduo_gui.pipeline.local_estimate import round_to_train

    try:
        config, problem = project.config, ""
    except ConfigError as error:
        config, problem = None, str(error)
    runs = [run for run in project.runs.all(Stage.FINETUNE) if run.attempts]
    last = runs[-1] if runs else None
    kept = (Origin.COVERAGE, Split.TRAIN, RecordStatus.KEPT)
    failure = (last.summary or {}).get("failure", {}) if last else {}
    return TrainView(
        round=round_to_train(project),
        train=project.records.counts().get(kept, 0),
        config=config,
        recipes=_recipes(config),
        models=_models(config),
        problem=problem,
        status=last.status if last else None,
        error=last.error if last else "",
        offer=failure.get("overrides", {}) if failure.get("kind") == "out_of_memory" else {},
        must_restart=failure.get("kind") == "plan_changed",
        curves=read_curves(project, last),
        rounds=tuple(describe_round(run) for run in runs if run.status is RunStatus.SUCCEEDED),
    )


def read_curves(project: Project, run: RunRow | None) -> Curves:
    """The curves of a training, and the last values of its gauges."""
    if run is None:
        return Curves()

    def series(name: str) -> tuple[LossPoint, ...]:
        return tuple(
            LossPoint(step, value) for step, value in project.training.series(run.id, name)
        )

    def last(name: str) -> float | None:
        found = project.training.series(run.id, name)
        return found[-1][1] if found else None

    return Curves(
        run_id=run.id,
        round=run.round,
        loss=series("loss"),
        evals=series("eval_loss"),
        total_steps=run.total or 0,
        learning_rate=last("learning_rate"),
        tokens_per_s=last("tokens_per_s"),
        memory_mb=last("memory_mb"),
    )


def describe_round(run: RunRow) -> str:
    """A finished round in a line: losses, steps, time, memory."""
    summary = run.summary or {}
    parts = []
    for name, key in (("validation loss", "eval_loss"), ("training loss", "train_loss")):
        if summary.get(key) is not None:
            parts.append(f"{name} {summary[key]:.3f}")
    if summary.get("steps"):
        parts.append(f"{format_count(int(summary['steps']))} steps")
    if summary.get("seconds"):
        parts.append(format_duration(float(summary["seconds"])))
    if summary.get("peak_memory_mb"):
        parts.append(f"{format_size(float(summary['peak_memory_mb']) * 2**20)} at the peak")
    return f"Round {run.round}: " + ", ".join(parts)


def read_estimate(
    project: Project, student: StudentConfig, round_number: int
) -> LocalEstimate | str:
    """The estimate for other settings of the student, or why there is none."""
    from llamaduo_gui.pipeline.local_estimate import estimate_local

    config = project.config.model_copy(update={"student": student})
    try:
        return estimate_local(project, config, round_number=round_number)
    except UserError as error:
        return str(error)


def with_offer(student: StudentConfig, offer: Mapping[str, Any]) -> StudentConfig:
    """The student's settings with overrides that need less memory."""
    return student.model_copy(update={"overrides": {**student.overrides, **offer}})


def _recipes(config: PipelineConfig | None) -> tuple[RecipeText, ...]:
    from llamaduo_gui.training.recipes import load_recipe, recipe_names

    names = recipe_names()
    if config is not None and config.student.recipe not in names:
        names.append(config.student.recipe)
    found = []
    for name in names:
        try:
            recipe = load_recipe(name)
        except ConfigError:
            continue
        values = {
            key: float(getattr(getattr(recipe, section), key)) for key, section in FORM_KEYS.items()
        }
        found.append(RecipeText(name, recipe.description, recipe.method, values))
    return tuple(found)


def _models(config: PipelineConfig | None) -> tuple[tuple[str, str], ...]:
    """Base models that are here, as title and reference; the chosen one in any case."""
    from llamaduo_gui.core.hub_models import cached_models
    from llamaduo_gui.core.paths import resources_dir

    folder = resources_dir() / "models"
    found = {
        f"builtin:{item.name}": f"{item.name} (shipped)"
        for item in sorted(folder.iterdir())
        if (item / "config.json").is_file()
    }
    for model in cached_models():
        if model.is_complete:
            found[model.id] = f"{model.id} ({format_size(model.size_bytes)})"
    if config is not None:
        found.setdefault(config.student.base_model, config.student.base_model)
    return tuple((title, reference) for reference, title in found.items())
