"""How one fine-tuning is started, beyond what the project's configuration says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of a single call.

    Attributes:
        should_restart: begin at the base model again, whatever checkpoints there are.
        accelerate_config: file of `accelerate config` for several GPUs or machines; empty to
            use every GPU that is visible.
    """

    should_restart: bool = False
    accelerate_config: str = ""
