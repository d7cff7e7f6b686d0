"""A plan tells what changed, and ignores what the weights do not depend on."""

from __future__ import annotations

from typing import Any

from llamaduo_gui.core.types import Message
from llamaduo_gui.training.plan import PlanChangedError, changed_keys, fingerprint, make_plan
from llamaduo_gui.training.recipes import load_recipe


def plan(text: str = "yes", processes: int = 1, **overrides: Any) -> dict[str, Any]:
    return make_plan(
        load_recipe("lora", overrides),
        base_model="m",
        revision="main",
        seed=1,
        conversations=[(Message("user", "q"), Message("assistant", text))],
        processes=processes,
    )


def test_recipe_keys_that_changed_are_named() -> None:
    changes = changed_keys(plan(), plan(batch_size=3, r=4))
    assert changes == {"lora.r": (16, 4), "training.batch_size": (8, 3)}
    text = str(PlanChangedError(40, changes))
    assert "lora.r (16 then, 4 now)" in text
    assert "step 40" in text


def test_other_records_are_noticed() -> None:
    assert list(changed_keys(plan(), plan("no"))) == ["records"]


def test_what_does_not_shape_the_weights_changes_nothing() -> None:
    assert changed_keys(plan(), plan(tensorboard=True)) == {}


def test_a_finished_training_is_the_same_whatever_processes_made_it() -> None:
    assert fingerprint(plan()) == fingerprint(plan(processes=2))
    assert fingerprint(plan()) != fingerprint(plan(epochs=4))
