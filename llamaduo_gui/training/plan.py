"""What trained weights depend on: compared before a training goes on, hashed when it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.types import Message
from llamaduo_gui.training.recipes import Recipe

_SHOWN_CHANGES = 6
_WITHOUT_EFFECT: dict[str, Any] = {"description": True, "training": {"tensorboard"}}
_NAMES = {
    "base_model": "the base model",
    "revision": "the base model's revision",
    "seed": "the seed",
    "records": "the training records",
    "processes": "the number of training processes",
}


class PlanChangedError(UserError):
    """A training was interrupted under other settings; `detail` names those that changed."""

    def __init__(self, step: int, changes: Mapping[str, tuple[Any, Any]]) -> None:
        names = [_describe(key, *values) for key, values in changes.items()]
        shown = ", ".join(names[:_SHOWN_CHANGES])
        more = f" and {len(names) - _SHOWN_CHANGES} more" if len(names) > _SHOWN_CHANGES else ""
        super().__init__(
            f"The fine-tuning that stopped at step {step} cannot go on, because {shown}{more} "
            "changed since; change it back, or start it again from the base model (`llamaduo-gui "
            "finetune DIR --restart`)."
        )
        self.detail = {"kind": "plan_changed", "step": step, "changed": sorted(changes)}


def make_plan(
    recipe: Recipe,
    *,
    base_model: str,
    revision: str,
    seed: int,
    conversations: Iterable[Iterable[Message]],
    processes: int = 1,
) -> dict[str, Any]:
    """Everything the trained weights depend on, JSON-able."""
    digest = hashlib.sha256()
    for messages in conversations:
        turns = [message.to_dict() for message in messages]
        digest.update(json.dumps(turns, sort_keys=True, ensure_ascii=False).encode())
    return {
        "recipe": recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "base_model": base_model,
        "revision": revision,
        "seed": seed,
        "records": digest.hexdigest(),
        "processes": processes,
    }


def fingerprint(plan: Mapping[str, Any]) -> str:
    """A hash of a plan; the number of processes does not count once the training is done."""
    parts = {key: value for key, value in plan.items() if key != "processes"}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two plans (recipe keys by `section.name`) that differ, with both values."""
    before, after = _flat(old), _flat(new)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in plan.items():
        if isinstance(value, Mapping):
            found |= {
                name if key == "recipe" else f"{key}.{name}": inner
                for name, inner in _flat(value).items()
            }
        else:
            found[key] = value
    return found


def _describe(key: str, before: Any, after: Any) -> str:
    if key == "records":
        return _NAMES[key]
    return f"{_NAMES.get(key, key)} ({before} then, {after} now)"
