"""What the loop does next, as a pure function of what is finished (DESIGN section 1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.types import ModelKind, Split, Stage

UNTIL_STAGES = (
    Stage.SYNTHESIZE,
    Stage.FINETUNE,
    Stage.INFER,
    Stage.JUDGE,
    Stage.DECIDE,
    Stage.EXPORT,
    Stage.CERTIFY,
    Stage.REPORT,
)


@dataclass(frozen=True, slots=True)
class DecidedRound:
    """What the plan needs to know of a decided round.

    Attributes:
        is_matched: None when it could not be told.
        should_continue: whether another round was worth its price.
        best_round: the round to export if the loop ends here.
        last_round: number of the last round that was allowed when this was decided.
    """

    is_matched: bool | None
    should_continue: bool
    best_round: int
    last_round: int


@dataclass(frozen=True, slots=True)
class Step:
    """One run the loop makes. `key` finds its row again; `kind` says whose answers are meant."""

    key: str
    stage: Stage
    round: int | None = None
    kind: ModelKind | None = None
    split: Split | None = None

    @property
    def label(self) -> str:
        """Whose answers, or which quantisation, for tables and logs."""
        return self.kind.value if self.kind else ""


def answer_steps(
    kind: ModelKind, split: Split, round_number: int | None, tag: str = ""
) -> list[Step]:
    """Sampling the answers of one model on one split, and judging them."""
    tail = ":".join(
        part
        for part in (
            kind.value,
            tag,
            f"r{round_number}" if round_number is not None else "",
            split.value,
        )
        if part
    )
    return [
        Step(f"infer:{tail}", Stage.INFER, round_number, kind, split),
        Step(f"judge:{tail}", Stage.JUDGE, round_number, kind, split),
    ]


def baseline_steps(split: Split, *, with_ceiling: bool = False) -> list[Step]:
    """The service LLM (for the noise ceiling twice) and the untuned base, answering and judged."""
    return [
        *answer_steps(ModelKind.SERVICE, split, None),
        *(answer_steps(ModelKind.CEILING, split, None) if with_ceiling else ()),
        *answer_steps(ModelKind.BASE, split, None),
    ]


def first_repeat(config: PipelineConfig, step: Step) -> int:
    """The number of the first request a service gets for a prompt in this step.

    Requests of one number are asked once; for the noise ceiling the service answers anew.
    """
    return config.inference.samples if step.kind is ModelKind.CEILING else 0


def round_steps(number: int, split: Split) -> list[Step]:
    """One pass of the loop; round 0 trains on coverage data alone."""
    steps = [Step(f"synthesize:r{number}", Stage.SYNTHESIZE, number)] if number > 0 else []
    steps.append(Step(f"finetune:r{number}", Stage.FINETUNE, number))
    steps += answer_steps(ModelKind.TUNED, split, number)
    steps.append(Step(f"decide:r{number}", Stage.DECIDE, number))
    return steps


def next_synthesis_round(trained: Collection[int]) -> int:
    """The round that new pairs are for, given the rounds with a finished student."""
    return max(trained, default=0) + 1


def certify_step(number: int, quant: str) -> Step:
    """Whether an exported file is and answers as the student of its round."""
    return Step(f"certify:{quant}:r{number}", Stage.CERTIFY, number, ModelKind.GGUF)


def final_steps(number: int, quant: str, *, with_ceiling: bool = False) -> list[Step]:
    """Export of the chosen round, its answers on the test split beside the baselines', verdict."""
    test = Split.TEST
    return [
        Step(f"export:{quant}:r{number}", Stage.EXPORT, number, ModelKind.GGUF),
        *baseline_steps(test, with_ceiling=with_ceiling),
        *answer_steps(ModelKind.TUNED, test, number),
        *answer_steps(ModelKind.GGUF, test, number, quant),
        certify_step(number, quant),
    ]


def next_step(
    config: PipelineConfig,
    finished: Collection[str],
    decisions: Mapping[int, DecidedRound],
    last_round: int,
) -> Step | None:
    """The first step that is not finished, or None when all is done.

    Args:
        config: the project's settings.
        finished: keys of the runs that succeeded.
        decisions: decision of each decided round.
        last_round: number of the last round that may happen.
    """
    return next(
        (step for step in plan(config, decisions, last_round) if step.key not in finished), None
    )


def plan(
    config: PipelineConfig, decisions: Mapping[int, DecidedRound], last_round: int
) -> list[Step]:
    """All steps known so far, in order: up to the first undecided round, or to the end."""
    split = Split(config.decision.split)
    ceiling = config.decision.noise_ceiling
    steps = baseline_steps(split, with_ceiling=ceiling)
    for number in range(last_round + 1):
        steps += round_steps(number, split)
        decision = decisions.get(number)
        if decision is None:
            return steps
        if should_stop(decision, number, last_round):
            best, quant = decision.best_round, config.export.quant
            return steps + final_steps(best, quant, with_ceiling=ceiling)
    return steps


def should_stop(decision: DecidedRound, number: int, last_round: int) -> bool:
    """Whether the loop ends after this round.

    A round that ended the loop only because no further one was allowed is taken up again
    when more rounds are allowed than at the time of its decision.
    """
    if decision.is_matched or number >= last_round:
        return True
    return not decision.should_continue and last_round <= decision.last_round
