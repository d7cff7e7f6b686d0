"""Settings: defaults, round trips, and errors that name the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig, dump_config, load_config, parse_config
from llamaduo_gui.core.errors import ConfigError

DESIGN_EXAMPLE = """
task: coding
splits: {validation: 0.1, test: 0.1, seed: 42}
teacher: {provider: openai_compatible, model: NAME, base_url: URL, max_rpm: 600, max_tpm: null}
judges:
  - {provider: anthropic, model: NAME, repeats: 3}
student: {base_model: PATH_OR_HUB_ID, revision: main, recipe: qlora, overrides: {epochs: 3}}
inference: {samples: 4, temperature: 0.8, max_new_tokens: 512, backend: auto}
synthesis: {pairs_per_round: 2000, pairs_per_request: 8, strategy: failure_driven}
decision: {rule: non_inferiority, margin: 0.10, max_rounds: 5, plateau_rounds: 2}
budget: {usd: 25}
"""


def test_the_documented_example_is_valid() -> None:
    config = parse_config(DESIGN_EXAMPLE)
    assert config.judges[0].repeats == 3
    assert config.providers() == {"openai_compatible", "anthropic"}
    assert config.student.overrides == {"epochs": 3}


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse_config("") == PipelineConfig()


def test_written_settings_read_back_the_same() -> None:
    config = parse_config(DESIGN_EXAMPLE)
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("synthesis: {pairs_per_rund: 3}", "did you mean `pairs_per_round`?"),
        ("judges: [{provider: x, model: m, repeat: 3}]", "did you mean `repeats`?"),
        ("techer: {}", "did you mean `teacher`?"),
        ("student: {zzz: 1}", "valid keys are base_model"),
        ("teacher: {model: x}", "`teacher.provider` is missing"),
        ("a: [", "line 1"),
        ("- a\n- b", "expected `key: value` lines"),
        ("splits: {validation: 0.7, test: 0.5}", "less than a tenth for training"),
        ("decision: {margin: much}", "`decision.margin`"),
        ("decision: {rule: best}", "`decision.rule`"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.startswith("pipeline.yaml")


def test_a_missing_file_and_a_binary_file_are_one_sentence_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.yaml")
    binary = tmp_path / "pipeline.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(binary)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes("task: café".encode("utf-8-sig"))
    assert load_config(path).task == "café"


def test_a_run_without_teacher_or_judge_says_which_to_name() -> None:
    with pytest.raises(ConfigError, match="No teacher is set"):
        PipelineConfig().require_services()
    with pytest.raises(ConfigError, match="No judge is set"):
        parse_config("teacher: {provider: offline, model: tutor}").require_services()
