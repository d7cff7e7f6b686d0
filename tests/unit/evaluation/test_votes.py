"""Blind votes: kept, counted by pair whatever the side, and put in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaduo_gui.core.config import PipelineConfig
from llamaduo_gui.evaluation.report import build_report
from llamaduo_gui.evaluation.report_html import render_report
from llamaduo_gui.evaluation.votes import vote_summary, votes_section, wilson
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.votes import Choice, VoteSide

GGUF = VoteSide("gguf", "demo Q8_0", "aa" * 6, "one")
OTHER = VoteSide("gguf", "demo Q8_0", "bb" * 6, "one")
SERVICE = VoteSide("service", "openai:<gpt>", "cc" * 6, "two")


def vote(project: Project, left: VoteSide, right: VoteSide, choice: Choice) -> None:
    project.votes.add(system="", prompt="Which?", left=left, right=right, choice=choice)


def test_a_vote_counts_for_the_weights_whatever_side_they_stood_on(tmp_path: Path) -> None:
    with Project.create(tmp_path / "p", PipelineConfig()) as project:
        vote(project, GGUF, SERVICE, "left")
        vote(project, SERVICE, GGUF, "right")
        vote(project, SERVICE, GGUF, "left")
        vote(project, SERVICE, GGUF, "same")
        vote(project, OTHER, SERVICE, "right")
        rows = project.votes.all()
    assert rows[0].left == GGUF
    assert rows[2].choice == "left"
    first, second = vote_summary(rows)
    assert (first["first"]["kind"], first["second"]["kind"]) == ("gguf", "service")
    assert (first["first_preferred"], first["same"], first["second_preferred"]) == (2, 1, 1)
    assert first["win_rate"]["value"] == pytest.approx(2 / 3)
    assert first["win_rate"]["n"] == 3
    assert second["n"] == 1
    assert second["first"]["sha256"] == OTHER.sha256


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_that_of_the_literature(
    successes: int, n: int, low: float, high: float
) -> None:
    found = wilson(successes, n)
    assert found is not None
    assert found["low"] == pytest.approx(low, abs=5e-5)
    assert found["high"] == pytest.approx(high, abs=5e-5)
    assert wilson(0, 0) is None


def test_the_report_shows_the_votes_and_escapes_names(tmp_path: Path) -> None:
    with Project.create(tmp_path / "p", PipelineConfig()) as project:
        vote(project, GGUF, SERVICE, "same")
        html = votes_section(vote_summary(project.votes.all()))
        report = build_report(project)
    assert html in render_report(report)
    assert report["votes"][0]["same"] == 1
    assert "GGUF demo Q8_0 (aaaaaaaa)" in html
    assert "openai:&lt;gpt&gt;" in html
    assert votes_section([]) == ""
