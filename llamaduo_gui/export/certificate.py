"""What certification found about a GGUF, check by check, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llamaduo_gui.core.quants import Quant
from llamaduo_gui.export.compare import Difference

CheckState = Literal["passed", "failed", "skipped"]
# The trained model computes in bf16 on a GPU: its own rounding is this far from the file's.
_BF16_REFERENCE_KL = 5e-3
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared.

    Attributes:
        name: identifier, such as `tokens`.
        title: what was compared, in a few words.
        text: what was found, a sentence; of a failed check the cause.
    """

    name: str
    title: str
    state: CheckState
    text: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far the file's next-token distributions are from the trained model's.

    Attributes:
        mean_kl: KL(trained || file), nats a token, mean over the positions.
        max_kl: largest of them.
        agreement: share of positions at which both would write the same token.
        close_agreement: share at which the file would write a token that the trained model gives
            at least half the probability of its own choice: a tie that rounding decides counts as
            agreement, a change of mind does not.
        positions: how many were compared, on how many `prompts`.
        reference_dtype: number format the trained model computed in.
    """

    mean_kl: float
    max_kl: float
    agreement: float
    close_agreement: float
    positions: int
    prompts: int
    reference_dtype: str


@dataclass(frozen=True, slots=True)
class Performance:
    """Speed and memory of the file in llama.cpp on this machine.

    `memory_mb` is what loading it and answering added to the process.
    """

    prompt_tokens_per_second: float
    generation_tokens_per_second: float
    memory_mb: float
    threads: int


@dataclass(frozen=True, slots=True)
class TokenComparison:
    """Prompts of the test split through llama.cpp's tokeniser and the trainer's.

    `difference` describes the first prompt that is read differently, empty if there is none.
    """

    prompts: int
    differing: int
    difference: str = ""


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """Judged answers of the file over those of the trained model, by metric; 1.0 when equal."""

    metric: str
    file_mean: float
    student_mean: float
    ratio: float
    low: float | None
    high: float | None
    responses: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """Everything known about one file. `causes` is empty exactly if it is certified."""

    checks: tuple[Check, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_certified(self) -> bool:
        """Whether nothing diverged."""
        return not self.causes

    @property
    def causes(self) -> list[str]:
        """Why it is not certified; the root cause comes first."""
        return [check.text for check in self.checks if check.state == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "is_certified": self.is_certified,
            "verdict": "Certified" if self.is_certified else "Not certified",
            "causes": self.causes,
            "checks": [asdict(check) for check in self.checks],
            **self.details,
        }


def differences_check(name: str, title: str, found: Sequence[Difference], passed: str) -> Check:
    """A check that passes if there is no difference; the first few are named."""
    if not found:
        return Check(name, title, "passed", passed)
    text = " ".join(item.sentence for item in found[:_MOST_NAMED])
    if len(found) > _MOST_NAMED:
        text += f" {len(found) - _MOST_NAMED:,} more differ."
    return Check(name, title, "failed", text)


def tokens_check(found: TokenComparison) -> Check:
    """Whether llama.cpp reads every prompt as the trainer does."""
    title = "Token ids"
    if found.differing:
        text = (
            f"llama.cpp reads {found.differing:,} of {found.prompts:,} test prompts differently "
            f"from the tokeniser: {found.difference}"
        )
        return Check("tokens", title, "failed", text)
    text = f"All {found.prompts:,} test prompts have the token ids of the tokeniser."
    return Check("tokens", title, "passed", text)


def divergence_check(found: Divergence, quant: Quant) -> Check:
    """Whether the distributions are as close as the type of the weights allows."""
    title = "Next-token distributions"
    is_coarse = found.reference_dtype != "float32"
    limit = max(quant.max_kl, _BF16_REFERENCE_KL if is_coarse else 0.0)
    least = min(quant.min_agreement, 0.95) if is_coarse else quant.min_agreement
    numbers = (
        f"KL divergence {found.mean_kl:.2g} nats a token (at most {limit:g} for {quant.name}), "
        f"the same likeliest token, near-ties aside, at {100 * found.close_agreement:.1f} % of "
        f"{found.positions:,} positions (at least {100 * least:g} %; "
        f"{100 * found.agreement:.1f} % with them)"
    )
    if found.mean_kl <= limit and found.close_agreement >= least:
        return Check("divergence", title, "passed", numbers + ".")
    text = f"The file computes something else than the trained model: {numbers}."
    return Check("divergence", title, "failed", text)


def scores_check(found: Sequence[ScoreComparison], margin: float, why_not: str) -> Check:
    """Whether the judge scores the file's answers like the student's.

    It fails when the file is worse by more than `margin` and the 95 % interval excludes equality:
    a few prompts' chance alone must not block a file whose numbers are right.
    """
    title = "Judged answers"
    if not found:
        return Check("scores", title, "skipped", why_not)
    parts = "; ".join(
        f"{item.metric} {item.file_mean:.1f} against {item.student_mean:.1f}"
        f" ({100 * item.ratio:.1f} %{_range(item)})"
        for item in found
    )
    worse = [
        item
        for item in found
        if item.ratio < 1 - margin and item.high is not None and item.high < 1
    ]
    if worse:
        text = f"The judges score the file's answers below the trained model's: {parts}."
        return Check("scores", title, "failed", text)
    text = f"The judges score the file's answers like the trained model's: {parts}."
    return Check("scores", title, "passed", text)


def _range(item: ScoreComparison) -> str:
    if item.low is None or item.high is None:
        return ""
    return f", {100 * item.low:.1f}\u2013{100 * item.high:.1f}"
