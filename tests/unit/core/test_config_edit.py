"""Setting the budget leaves everything else a person wrote into the file as it is."""

from __future__ import annotations

import pytest

from llamaduo_gui.core.config import StudentConfig, parse_config
from llamaduo_gui.core.config_edit import with_budget, with_student
from llamaduo_gui.core.errors import ConfigError

TEXTS = {
    "flow": "task: a  # mine\nbudget: {usd: 25}  # the boss said so\nsplits: {seed: 3}\n",
    "block": "# top\ntask: a\nbudget:\n  # limit\n  usd: 25.50   # dollars\nsplits: {seed: 3}\n",
    "absent": "# top\ntask: a\nsplits: {seed: 3}\n",
    "no line break": "task: a\nsplits: {seed: 3}",
    "null": "task: a\nbudget: {usd: null}\nsplits: {seed: 3}\n",
    "empty usd": "task: a\nbudget: {usd: }\nsplits: {seed: 3}\n",
    "empty section": "task: a\nbudget: {}\nsplits: {seed: 3}\n",
    "flow root": "{task: a, splits: {seed: 3}}\n",
    "umlauts before": "task: übung 🙂\nbudget: {usd: 2}\nsplits: {seed: 3}\n",
}


@pytest.mark.parametrize("usd", [40.0, 0.05, None])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_budget_is_set_and_the_other_settings_stay(text: str, usd: float | None) -> None:
    before, after = parse_config(text), parse_config(with_budget(text, usd))
    assert after.budget.usd == usd
    assert after.model_dump(exclude={"budget"}) == before.model_dump(exclude={"budget"})


def test_comments_and_order_stay() -> None:
    assert with_budget(TEXTS["flow"], 40) == TEXTS["flow"].replace("25", "40")
    assert with_budget(TEXTS["block"], 40) == TEXTS["block"].replace("25.50", "40")
    assert with_budget(TEXTS["absent"], 5) == TEXTS["absent"] + "budget: {usd: 5}\n"


def test_a_file_that_is_not_valid_is_not_touched() -> None:
    with pytest.raises(ConfigError):
        with_budget("taks: a\n", 5)


STUDENTS = {
    "block": "# top\nstudent:\n  # which\n  base_model: builtin:tiny  # small\n"
    "  overrides:\n    epochs: 2  # few\n# after\nsplits: {seed: 3}\n",
    "flow": "student: {recipe: lora, overrides: {r: 4}}  # mine\nsplits: {seed: 3}\n",
    "absent": "# top\ntask: a\n",
    "empty": "student: {}\n",
}


@pytest.mark.parametrize("text", STUDENTS.values(), ids=STUDENTS)
def test_the_student_is_set_and_the_other_settings_stay(text: str) -> None:
    wanted = StudentConfig(
        base_model="a/b", revision="abc", recipe="quick", overrides={"r": 8, "learning_rate": 2e-4}
    )

    after = parse_config(with_student(text, wanted))

    assert after.student == wanted
    assert after.model_dump(exclude={"student"}) == parse_config(text).model_dump(
        exclude={"student"}
    )


def test_comments_around_the_student_stay() -> None:
    student = parse_config(STUDENTS["block"]).student

    edited = with_student(STUDENTS["block"], student.model_copy(update={"overrides": {"r": 8}}))

    for comment in ("# top", "# which", "# small", "# after"):
        assert comment in edited
    assert "base_model: builtin:tiny  # small" in edited
    assert (
        with_student(STUDENTS["flow"], parse_config(STUDENTS["flow"]).student) == (STUDENTS["flow"])
    )
