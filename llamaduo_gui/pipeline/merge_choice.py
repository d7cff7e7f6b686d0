"""What a QLoRA adapter is merged onto: the 16-bit base, or the 4-bit weights it was trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.core.four_bit import quantized_dtype
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.seeds import derive_seed
from llamaduo_gui.core.types import Record, Split
from llamaduo_gui.pipeline.certify import Student
from llamaduo_gui.store.project import Project

if TYPE_CHECKING:
    from llamaduo_gui.inference.transformers_backend import TransformersBackend

MergeTarget = Literal["base", "dequantized"]
MOST_RECORDS = 64
_WORDS = {"base": "the 16-bit base", "dequantized": "the dequantised 4-bit weights"}


@dataclass(frozen=True, slots=True)
class MergeChoice:
    """What the adapter is merged onto, and why.

    Attributes:
        onto: the weights it is added to.
        quantized_from: number format the 4-bit weights were made from; None for the 16-bit base.
        losses: mean loss of the validation answers, nats a token, by target; empty if not measured.
        reason: one sentence; empty where there is no choice.
    """

    onto: MergeTarget
    quantized_from: str | None = None
    losses: dict[str, float] | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for summaries and the report."""
        return {
            "onto": self.onto,
            "quantized_from": self.quantized_from,
            "losses": dict(self.losses or {}),
            "reason": self.reason,
        }


def choose_merge(
    project: Project, config: PipelineConfig, student: Student, context: JobContext
) -> MergeChoice:
    """Choose by `export.merge`; `auto` takes the lower loss on the validation answers.

    Only a QLoRA adapter leaves a choice: it was trained on top of rounded weights, and either
    keeps making up for their rounding or is put on better ones.

    Raises:
        UserError: the student cannot be loaded.
        JobCancelledError: the user asked to stop.
    """
    dtype = quantized_dtype(student.trained) if student.adapter is not None else None
    if dtype is None:
        return MergeChoice("base")
    if config.export.merge != "auto":
        onto: MergeTarget = config.export.merge
        reason = f"The QLoRA adapter is merged onto {_WORDS[onto]}, as export.merge asks."
        return MergeChoice(onto, dtype if onto == "dequantized" else None, None, reason)
    records = [row.record for row in project.records.by_split(Split.VALIDATION)]
    random.Random(derive_seed(config.seed, "merge")).shuffle(records)
    losses = measure_losses(student, dtype, records[:MOST_RECORDS], context)
    if not losses:
        reason = "There is no validation answer to choose by: the QLoRA adapter is merged onto "
        return MergeChoice("dequantized", dtype, None, f"{reason}{_WORDS['dequantized']}.")
    # What was trained wins a tie.
    onto = "base" if losses["base"] < losses["dequantized"] else "dequantized"
    other = "dequantized" if onto == "base" else "base"
    reason = (
        f"The QLoRA adapter is merged onto {_WORDS[onto]}: validation loss {losses[onto]:.4f}, "
        f"against {losses[other]:.4f} on {_WORDS[other]}."
    )
    return MergeChoice(onto, dtype if onto == "dequantized" else None, losses, reason)


def measure_losses(
    student: Student, dtype: str, records: Sequence[Record], context: JobContext
) -> dict[str, float]:
    """Mean loss of answers, nats a token, of the adapter on both bases; empty without answers.

    Args:
        student: with an adapter.
        dtype: number format the 4-bit weights were made from.
        records: whose target answers are scored.
        context: cancels.
    """
    from llamaduo_gui.inference.transformers_backend import TransformersBackend

    trained = TransformersBackend.load(student.base, student.adapter)
    try:
        on_base = _mean_loss(trained, records, context)
        if on_base is None:
            return {}
        trained.round_base_to_4_bits(dtype)
        on_rounded = _mean_loss(trained, records, context)
    finally:
        trained.close()
    return {} if on_rounded is None else {"base": on_base, "dequantized": on_rounded}


def _mean_loss(
    trained: TransformersBackend, records: Sequence[Record], context: JobContext
) -> float | None:
    losses: list[float] = []
    for record in records:
        context.check_cancelled()
        prompt = trained.encode_prompt(record.prompt_messages)
        answer = trained.encode_text(record.target)
        ids = prompt + answer
        if not answer or len(ids) > trained.context_length:
            continue
        logits = trained.next_token_logits(ids[:-1], len(answer)).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(answer)), answer]
        losses += (np.log(np.exp(logits).sum(axis=1)) - chosen).tolist()
    return float(np.mean(losses)) if losses else None
