"""What the loop does next, as a function of what is finished."""

from __future__ import annotations

from llamaduo_gui.core.config import DecisionConfig, PipelineConfig
from llamaduo_gui.core.types import Stage
from llamaduo_gui.pipeline.plan import DecidedRound, first_repeat, next_step, plan

CONFIG = PipelineConfig()


def decided(*, matched: bool = False, goes_on: bool = True, best: int = 0) -> DecidedRound:
    return DecidedRound(matched, goes_on, best, last_round=CONFIG.decision.max_rounds)


def test_the_loop_starts_with_the_baselines() -> None:
    step = next_step(CONFIG, set(), {}, 5)
    assert step is not None
    assert step.key == "infer:service:validation"


def test_round_zero_trains_without_synthesis() -> None:
    keys = [step.key for step in plan(CONFIG, {}, 5)]
    assert keys[4:] == [
        "finetune:r0",
        "infer:tuned:r0:validation",
        "judge:tuned:r0:validation",
        "decide:r0",
    ]


def test_a_round_that_falls_short_is_followed_by_synthesis() -> None:
    steps = plan(CONFIG, {0: decided()}, 5)
    assert [s.stage for s in steps if s.round == 1][:2] == [Stage.SYNTHESIZE, Stage.FINETUNE]


def test_a_match_is_exported_and_only_then_is_the_test_split_touched() -> None:
    steps = plan(CONFIG, {0: decided(), 1: decided(matched=True, goes_on=False, best=1)}, 5)
    keys = [step.key for step in steps]
    export = keys.index("export:Q4_K_M:r1")
    assert not any("test" in key for key in keys[:export])
    assert keys[-2:] == ["judge:gguf:Q4_K_M:r1:test", "certify:Q4_K_M:r1"]


def test_the_best_round_is_exported_when_the_rounds_are_used_up() -> None:
    decisions = {0: decided(), 1: decided(goes_on=False, best=0)}
    assert "export:Q4_K_M:r0" in [step.key for step in plan(CONFIG, decisions, 1)]


def test_more_rounds_take_a_finished_loop_up_again() -> None:
    decisions = {0: DecidedRound(False, False, 0, last_round=0)}
    assert plan(CONFIG, decisions, 0)[-1].stage is Stage.CERTIFY
    assert plan(CONFIG, decisions, 1)[-1].key == "decide:r1"


def test_a_matched_round_ends_the_loop_whatever_is_allowed() -> None:
    decisions = {0: DecidedRound(True, False, 0, last_round=0)}
    assert "synthesize:r1" not in [step.key for step in plan(CONFIG, decisions, 9)]


def test_nothing_is_left_when_all_is_finished() -> None:
    decisions = {0: decided(matched=True, goes_on=False)}
    done = {step.key for step in plan(CONFIG, decisions, 5)}
    assert next_step(CONFIG, done, decisions, 5) is None


def test_the_noise_ceiling_is_the_teacher_answering_once_more_on_both_splits() -> None:
    config = PipelineConfig(decision=DecisionConfig(noise_ceiling=True))
    plain = plan(PipelineConfig(), {0: DecidedRound(True, False, 0, 5)}, 5)
    steps = plan(config, {0: DecidedRound(True, False, 0, 5)}, 5)
    extra = [step for step in steps if step not in plain]
    assert [step.key for step in extra] == [
        "infer:ceiling:validation",
        "judge:ceiling:validation",
        "infer:ceiling:test",
        "judge:ceiling:test",
    ]
    assert [step for step in steps if step not in extra] == plain
    assert first_repeat(config, extra[0]) == config.inference.samples
    assert first_repeat(config, plain[0]) == 0
