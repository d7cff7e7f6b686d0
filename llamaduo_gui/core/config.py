"""The settings of a project (`pipeline.yaml`): models, defaults, and errors that help."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llamaduo_gui.core.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(_Section):
    """Shares of the coverage records kept for validation and test, and the seed of the draw."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: int = 42

    @model_validator(mode="after")
    def _leaves_training_data(self) -> SplitConfig:
        if self.validation + self.test > 0.9:
            raise ValueError("validation and test together leave less than a tenth for training")
        return self


class PriceConfig(_Section):
    """US dollars a million tokens, for a model the price list does not know or knows wrongly.

    `cached_input` is the price of prompt tokens from the service's cache; None is that of `input`.
    """

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached_input: Annotated[float | None, Field(ge=0)] = None


class ServiceConfig(_Section):
    """One service LLM and how hard it may be used.

    `max_rpm` and `max_tpm` are requests and tokens a minute; None means no limit of our own.
    `mode: batch` hands requests in at half the price and waits up to a day for the answers.
    """

    provider: str
    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = None
    max_rpm: Annotated[int | None, Field(gt=0)] = None
    max_tpm: Annotated[int | None, Field(gt=0)] = None
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    mode: Literal["live", "batch"] = "live"
    price: PriceConfig | None = None

    @property
    def name(self) -> str:
        """`provider:model`, the name shown in tables and stored with judgements."""
        return f"{self.provider}:{self.model}"


class JudgeConfig(ServiceConfig):
    """A service LLM (or the offline reference metrics) that scores, `repeats` times each."""

    repeats: Annotated[int, Field(ge=1, le=50)] = 1


class StudentConfig(_Section):
    """The local model: a folder, a Hub id or `builtin:tiny`, and the recipe that trains it."""

    base_model: Annotated[str, Field(min_length=1)] = "builtin:tiny"
    revision: str = "main"
    recipe: Annotated[str, Field(min_length=1)] = "lora"
    overrides: dict[str, Any] = Field(default_factory=dict)


class InferenceConfig(_Section):
    """How the student's answers are sampled (K samples a prompt), and what computes them.

    `backend`: auto chooses by hardware; llama_cpp writes a temporary GGUF of type `quant`;
    endpoint asks an OpenAI-compatible server at `base_url` (vLLM), where the student of round N
    is called `model` with N in place of `{round}`, and the untuned base `base_name`. `dtype` is
    the number format of the transformers backend.
    """

    samples: Annotated[int, Field(ge=1, le=64)] = 4
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 512
    backend: Literal["auto", "transformers", "llama_cpp", "endpoint"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quant: Literal["F16", "Q8_0"] = "F16"
    base_url: str | None = None
    model: str | None = None
    base_name: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=512)] = 32

    @model_validator(mode="after")
    def _names_its_endpoint(self) -> InferenceConfig:
        if self.backend != "endpoint":
            return self
        if not self.base_url or not self.model:
            raise ValueError("backend endpoint needs `base_url` and `model`")
        if "{round}" not in self.model:
            raise ValueError(
                "`model` needs {round} in it, such as student-r{round}: without it the answers "
                "of one round would be taken for those of another"
            )
        return self


class SynthesisConfig(_Section):
    """How much the teacher is asked for in each round, and what is thrown away.

    `strategy` chooses the seeds: all training records alike, those of the categories that score
    worst on validation, or those far from what exists. `category_quotas` is how many pairs each
    named category gets in a round: with so many it is asked for no more, though the last reply
    may bring a few beyond.
    """

    pairs_per_round: Annotated[int, Field(ge=1)] = 2000
    pairs_per_request: Annotated[int, Field(ge=1, le=64)] = 8
    strategy: Literal["uniform", "failure_driven", "breadth"] = "failure_driven"
    category_quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    near_duplicate_jaccard: Annotated[float, Field(gt=0, le=1)] = 0.8
    seed_rouge_l: Annotated[float, Field(gt=0, le=1)] = 0.7
    contamination_ngram: Annotated[int, Field(ge=5)] = 13


class DecisionConfig(_Section):
    """When the student counts as matched, and when to give up (DESIGN section 3).

    `max_rounds` is the number of the last round: rounds 0..max_rounds can happen.
    `plateau_rounds` rounds without a better validation mean end the loop. `noise_ceiling` has the
    service LLM answer a second time, judged like a student: what a perfect student could reach.
    """

    rule: Literal["non_inferiority", "absolute", "p_match"] = "non_inferiority"
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.10
    absolute_precision: Annotated[float, Field(ge=1, le=100)] = 90.0
    absolute_similarity: Annotated[float, Field(ge=1, le=100)] = 90.0
    p_match_target: Annotated[float, Field(gt=0, le=200)] = 90.0
    split: Literal["validation", "test"] = "validation"
    max_rounds: Annotated[int, Field(ge=0, le=100)] = 5
    plateau_rounds: Annotated[int, Field(ge=1)] = 2
    resamples: Annotated[int, Field(ge=200, le=100_000)] = 2000
    noise_ceiling: bool = False


QuantName = Literal[
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q4_K_M",
    "Q4_K_S",
    "Q3_K_L",
    "Q3_K_M",
    "Q2_K",
]
"""Types of an exported GGUF; `resources/gguf/quants.toml` describes them."""


class ExportConfig(_Section):
    """The GGUF written at the end.

    `merge` says what a QLoRA adapter is merged onto: the 16-bit base, the dequantised 4-bit weights
    it was trained on, or (auto) whichever answers the validation split with the lower loss.
    """

    quant: QuantName = "Q4_K_M"
    merge: Literal["auto", "base", "dequantized"] = "auto"


class BudgetConfig(_Section):
    """Money that may be spent on service LLMs; None means no limit."""

    usd: Annotated[float | None, Field(gt=0)] = None


class PipelineConfig(_Section):
    """Everything in `pipeline.yaml`. A run needs a teacher and at least one judge."""

    task: str = "untitled"
    splits: SplitConfig = SplitConfig()
    teacher: ServiceConfig | None = None
    judges: tuple[JudgeConfig, ...] = ()
    student: StudentConfig = StudentConfig()
    inference: InferenceConfig = InferenceConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    decision: DecisionConfig = DecisionConfig()
    export: ExportConfig = ExportConfig()
    budget: BudgetConfig = BudgetConfig()

    @property
    def seed(self) -> int:
        """The project's seed, from which every other seed is derived."""
        return self.splits.seed

    def require_services(self) -> tuple[ServiceConfig, tuple[JudgeConfig, ...]]:
        """Teacher and judges.

        Raises:
            ConfigError: one of them is not named yet.
        """
        if self.teacher is None:
            raise ConfigError(
                "No teacher is set: name one in pipeline.yaml, for example "
                "`teacher: {provider: openai_compatible, model: NAME, base_url: URL}`."
            )
        if not self.judges:
            raise ConfigError(
                "No judge is set: name one in pipeline.yaml, for example "
                "`judges: [{provider: openai_compatible, model: NAME, base_url: URL}]`."
            )
        return self.teacher, self.judges

    def providers(self) -> set[str]:
        """Names of all providers in use."""
        services = [*([self.teacher] if self.teacher else []), *self.judges]
        own = {"openai_compatible"} if self.inference.backend == "endpoint" else set()
        return {service.provider for service in services} | own


def load_config(path: Path) -> PipelineConfig:
    """Read and check a `pipeline.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, or a key or value is wrong; the
            text names the file, the place and the nearest valid key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text ({error}).") from error
    return parse_config(text, name=path.name)


def parse_config(text: str, *, name: str = "pipeline.yaml") -> PipelineConfig:
    """Check YAML text; see `load_config`."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{name}{where}: {problem}; correct the YAML there.") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected `key: value` lines, found {type(data).__name__}.")
    return validate_config(data, name=name)


def validate_config(data: dict[str, Any], *, name: str = "pipeline.yaml") -> PipelineConfig:
    """Check settings given as a dictionary; see `load_config`."""
    try:
        return PipelineConfig.model_validate(data)
    except ValidationError as error:
        problems = [describe_problem(PipelineConfig, item) for item in error.errors()]
        text = f"{name}: " + "; ".join(problems)
        raise ConfigError(text if text.endswith("?") else text + ".") from error


def dump_config(config: PipelineConfig) -> str:
    """YAML text of the settings, in the order of the sections."""
    data = config.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def describe_problem(model: type[BaseModel], item: Any) -> str:
    """One pydantic error as a phrase; unknown keys name the nearest valid one.

    Args:
        model: the model that was validated.
        item: one entry of `ValidationError.errors()`.
    """
    location: tuple[int | str, ...] = item["loc"]
    place = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        key = str(location[-1])
        parent = ".".join(str(part) for part in location[:-1])
        valid = sorted(_model_at(model, location[:-1]).model_fields)
        near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid keys are {', '.join(valid)}"
        return f"unknown key `{key}`" + (f" in `{parent}`" if parent else "") + f"; {hint}"
    if item["type"] == "missing":
        return f"`{place}` is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    shown = repr(item.get("input"))
    value = f" (found {shown})" if len(shown) <= 60 and "value_error" not in item["type"] else ""
    return f"`{place}`: {message[:1].lower()}{message[1:]}{value}"


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    current = model
    for part in location:
        if isinstance(part, str) and part in current.model_fields:
            found = _find_model(current.model_fields[part].annotation)
            current = found or current
    return current


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin in (tuple, list, dict, typing.Union, types.UnionType, Annotated):
        for argument in typing.get_args(annotation):
            if found := _find_model(argument):
                return found
    return None
