"""The report: its numbers, its page, and that nothing in it can run or reach out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaduo_gui.core.config import DecisionConfig, JudgeConfig, PipelineConfig, ServiceConfig
from llamaduo_gui.core.events import Event
from llamaduo_gui.core.job import JobContext
from llamaduo_gui.core.types import Metric, RunStatus, Split, Stage, TokenCounts
from llamaduo_gui.evaluation.report import build_report, thin_out
from llamaduo_gui.evaluation.report_html import format_size, render_report
from llamaduo_gui.evaluation.results import (
    describe_counts,
    final_model,
    judged_models,
    result_table,
    score_rows,
)
from llamaduo_gui.evaluation.score_table import stats_from_csv
from llamaduo_gui.evaluation.stage_report import run_report
from llamaduo_gui.evaluation.statistics import p_match, summarize
from llamaduo_gui.pipeline.decide import decide
from llamaduo_gui.store.project import Project
from tests.unit.evaluation.judged_project import JUDGE, TEACHER, add_answers, add_judgements

LEVELS = {"service": 90, "base": 20, "tuned:r0": 55, "tuned:r1": 80, "gguf:Q8_0:r1": 78}


def score(model: str, number: int, sample: int) -> tuple[float, float]:
    wobble = (number * 7 + sample * 3) % 11 - 5
    return LEVELS[model] + wobble, LEVELS[model] - 2 + wobble


@pytest.fixture
def finished(project: Project) -> Project:
    """Two rounds on validation, and the end of the loop on test."""
    tails = [f"{model}:validation" for model in ("service", "base", "tuned:r0", "tuned:r1")]
    tails += [f"{model}:test" for model in ("service", "base", "tuned:r1", "gguf:Q8_0:r1")]
    for tail in tails:
        model = tail.rpartition(":")[0]
        add_judgements(project, add_answers(project, tail), lambda n, k, m=model: [score(m, n, k)])
    training = project.runs.find_or_create("finetune:r1", Stage.FINETUNE, round_number=1)
    for step in range(1, 500):
        project.training.add(training.id, step, "loss", 3 / step)
    project.training.add(training.id, 499, "eval_loss", 0.5)
    project.runs.finish(
        training.id, RunStatus.SUCCEEDED, summary={"train_loss": 0.1, "eval_loss": 0.5}
    )
    decision = decide([], DecisionConfig())
    decided = project.runs.find_or_create("decide:r1", Stage.DECIDE, round_number=1)
    project.runs.finish(decided.id, RunStatus.SUCCEEDED, summary=decision.to_dict())
    gguf = project.paths.artifacts / "model-Q8_0.gguf"
    gguf.write_bytes(b"GGUF")
    project.artifacts.add(decided.id, "gguf", gguf, round_number=1, meta={"quant": "Q8_0"})
    return project


class Page(HTMLParser):
    """Collects what a browser would act on, and checks that tags close in order."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action", "xlink:href"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_models_stand_in_order_with_their_names(finished: Project) -> None:
    models = judged_models(finished, Split.VALIDATION)
    assert [model.key for model in models] == ["service", "base", "tuned:r0", "tuned:r1"]
    assert models[0].title == "openai_compatible:big"
    gguf = judged_models(finished, Split.TEST)[-1]
    assert (gguf.title, gguf.name, gguf.quant) == ("GGUF Q8_0, round 1", "gguf Q8_0 r1", "Q8_0")
    assert final_model(judged_models(finished, Split.TEST)) == gguf


def test_the_table_holds_the_statistics_of_the_scores(finished: Project) -> None:
    models = {model.key: model for model in judged_models(finished, Split.TEST)}
    table = {row["key"]: row for row in result_table(list(models.values()), resamples=200, seed=7)}
    own = models["gguf:Q8_0:r1"].scores.by_prompt(Metric.PRECISION)
    service = models["service"].scores.by_prompt(Metric.PRECISION)
    cell = table["gguf:Q8_0:r1"]["scores"]["pooled"]["precision"]
    assert cell["mean"] == summarize(own, resamples=200, seed=7).mean.to_dict()
    assert cell["p_match"] == p_match([own], [service], resamples=200, seed=7).to_dict()
    assert table["service"]["scores"]["pooled"]["precision"]["p_match"] is None
    assert cell["n_responses"] == 16


def test_the_verdict_is_about_the_exported_file_on_test(finished: Project) -> None:
    verdict = build_report(finished)["verdict"]
    assert (verdict["split"], verdict["model"]) == ("test", "gguf:Q8_0:r1")
    assert verdict["is_matched"] is False
    assert verdict["claim"].startswith("The exported GGUF keeps 8")
    assert verdict["counts"].replace("\u00d7", "x") == (
        "8 test prompts x 2 responses x 1 judge x 1 repeat; 0 of 16 judgements unscored."
    )


def test_a_project_that_has_only_started_has_a_report_that_says_so(project: Project) -> None:
    report = build_report(project)
    assert report["verdict"]["word"] == "Undecided"
    assert report["verdict"]["ground"] == "Nothing has been judged."
    Page(render_report(report))


def test_answers_that_are_not_judged_yet_have_no_numbers_and_break_nothing(
    project: Project,
) -> None:
    add_answers(project, "tuned:r0:test")
    report = build_report(project)
    (row,) = report["splits"]["test"]["models"]
    assert row["n_answers"] == 16
    assert row["scores"]["pooled"]["precision"]["mean"]["reason"] == "no responses"
    assert describe_counts(judged_models(project, Split.TEST)[0]).startswith("8 test prompts")
    Page(render_report(report))


def test_rounds_tell_synthesis_training_and_decision(finished: Project) -> None:
    (second,) = build_report(finished)["rounds"]
    assert second["round"] == 1
    assert second["training"]["eval_loss"] == 0.5
    assert len(second["training"]["curves"]["loss"]) == 200
    assert second["training"]["curves"]["loss"][-1] == (499, 3 / 499)
    assert second["decision"]["is_matched"] is None


def test_thinning_a_curve_keeps_its_ends() -> None:
    points = [(i, float(i)) for i in range(1001)]
    thin = thin_out(points)
    assert (len(thin), thin[0], thin[-1]) == (200, points[0], points[-1])
    assert thin_out(points[:5]) == points[:5]


def test_every_answer_can_be_followed_to_each_reason(finished: Project) -> None:
    responses = build_report(finished)["responses"]
    assert len(responses) == 8
    answers = [answer for prompt in responses for answer in prompt["answers"]]
    assert len(answers) == 4 * 16
    (judgement,) = answers[0]["judgements"]
    assert judgement["precision_reason"] == "good <i>point</i>"
    weakest, best = responses[0], responses[-1]

    def mean(prompt: dict[str, Any]) -> float:
        own = [a for a in prompt["answers"] if a["model"] == "gguf:Q8_0:r1"]
        return float(np.mean([a["scores"]["pooled"]["precision"] for a in own]))

    assert mean(weakest) < mean(best)


def test_the_page_is_one_file_that_neither_runs_nor_loads_anything(finished: Project) -> None:
    text = render_report(build_report(finished))
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert page.handlers == []
    assert all(link.startswith("#") for link in page.links)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_text_from_data_models_and_judges_is_shown_as_text(finished: Project) -> None:
    text = render_report(build_report(finished))
    page = Page(text)
    for part in ("Question <b>8</b> & more?", "Answer <script>", "good <i>point</i>"):
        assert part in page.text
    assert "project <1>" in page.text
    assert not re.search(r"Question <b>|<script|<i>|<1>", text)


def test_the_cost_is_told_by_service_round_and_run_with_retries_and_failures(
    project: Project,
) -> None:
    run = project.runs.find_or_create("judge:r1", Stage.JUDGE, round_number=1)
    for number, (key, cost) in enumerate([("a", 0.5), ("a again", 0.25), ("c", None)]):
        request = {"messages": [], "attempt": int(key.endswith("again"))}
        project.replies.begin(
            key,
            run_id=run.id if number < 2 else None,
            provider="openai",
            model="<m>",
            purpose="judge" if number < 2 else "chat",
            request=request,
        )
        if cost is None:
            project.replies.fail(key, error="no", attempts=3)
            continue
        project.replies.complete(
            key,
            text="x",
            finish_reason="stop",
            tokens=TokenCounts(prompt=1000, completion=100),
            cost_usd=cost,
            latency_s=0.1,
            attempts=1,
        )
    report = build_report(project)
    usage = report["usage"]
    assert (usage["requests"], usage["asked_again"], usage["failed"]) == (3, 1, 1)
    assert (usage["cost_usd"], usage["spent_usd"]) == (0.75, 0.75)
    assert usage["stages"]["judge"]["cost_usd"] == 0.75
    assert {item["round"]: item["spent_usd"] for item in usage["rounds"]} == {None: 0, 1: 0.75}
    assert {item["run"]: item["requests"] for item in usage["runs"]} == {"": 1, "judge:r1": 2}
    by_service = {(item["service"], item["purpose"]): item for item in usage["services"]}
    assert by_service["openai:<m>", "judge"]["cost_usd"] == 0.75
    assert by_service["openai:<m>", "chat"]["failed"] == 1
    json.dumps(report, allow_nan=False)
    page = Page(render_report(report))
    assert "What it cost" in page.text
    assert "openai:<m>, judging" in page.text
    assert "$0.75" in page.text
    assert "Round 1" in page.text
    assert f"{TEACHER.name} is free of charge" in page.text


def test_an_unscored_judgement_shows_its_reason_and_the_reply(project: Project) -> None:
    answers = add_answers(project, "tuned:r0:test")
    add_judgements(project, answers, lambda n, k: [(None, None)])
    report = build_report(project)
    assert report["usage"]["unscored"] == 16
    page = Page(render_report(report))
    assert "the reply is empty" in page.text
    assert "<img src=x>" in page.text


def test_services_that_are_no_llm_are_called_so(project: Project) -> None:
    tutor = ServiceConfig(provider="offline", model="tutor")
    judge = JudgeConfig(provider="offline", model="tutor")
    config = PipelineConfig(teacher=tutor, judges=(judge,), task="demo")
    project.save_config(config)
    add_judgements(
        project,
        add_answers(project, "service:test"),
        lambda n, k: [(90, 80)],
        judge=judge.name,
    )
    report = build_report(project)
    (row,) = report["splits"]["test"]["models"]
    assert (row["title"], row["is_llm"]) == ("offline:tutor (not an LLM)", False)
    assert [service["note"] for service in report["services"]] == ["not an LLM"] * 2
    assert "offline:tutor (not an LLM)" in Page(render_report(report)).text


def test_several_judges_are_shown_pooled_and_one_by_one(project: Project) -> None:
    second = JudgeConfig(provider="openai_compatible", model="second")
    project.save_config(
        PipelineConfig(teacher=TEACHER, judges=(JUDGE, second), decision={"resamples": 200})
    )
    answers = add_answers(project, "tuned:r0:test")
    add_judgements(project, answers, lambda n, k: [(60, 60)])
    add_judgements(project, answers, lambda n, k: [(80, 80)], judge=second.name)
    report = build_report(project)
    (row,) = report["splits"]["test"]["models"]
    means = {judge: row["scores"][judge]["precision"]["mean"]["value"] for judge in row["scores"]}
    assert means == {JUDGE.name: 60.0, second.name: 80.0, "pooled": 70.0}
    assert "judge openai_compatible:second" in Page(render_report(report)).text


def test_the_stage_writes_three_files_and_the_csv_gives_the_same_numbers(
    finished: Project,
) -> None:
    events: list[Event] = []
    run = finished.runs.find_or_create("report", Stage.REPORT)
    for _ in range(2):
        summary = run_report(finished, run, JobContext(emit=events.append))
    files = {name: Path(path) for name, path in summary["files"].items()}
    assert set(files) == {"html", "json", "csv", "gguf"}
    assert all(path.is_file() for path in files.values())
    assert [row.kind for row in finished.artifacts.all() if row.kind != "gguf"] == [
        "report",
        "report_json",
        "scores",
    ]
    json.dumps(summary, allow_nan=False)
    document = json.loads(files["json"].read_text(encoding="utf-8"))
    assert document["format"] == 1
    table = stats_from_csv(files["csv"], resamples=200, seed=7)
    entry = next(item for item in table["entries"] if item["metric"] == "precision")
    assert entry["task"] == "sorting"
    expected = {
        row["name"]: row["scores"][JUDGE.name]["precision"]
        for row in document["splits"]["test"]["models"]
    }
    for model in entry["models"]:
        for name, value in expected[model["model"]].items():
            assert model[name] == value
    assert entry["p_match"] == document["splits"]["test"]["p_match"][JUDGE.name]["precision"]


def test_what_the_window_imports_leads_to_no_provider() -> None:
    names = ("statistics", "scores", "results", "verdict", "report", "report_html", "score_table")
    lines = [f"import llamaduo_gui.evaluation.{name}" for name in (*names, "stage_report")]
    code = "; ".join(
        [
            *lines,
            "import sys",
            "print([m for m in sys.modules if m.startswith('llamaduo_gui.pro')])",
        ]
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_sizes_are_readable() -> None:
    assert format_size(1_940_000_000).replace("\u00a0", " ") == "1.9 GB"
    assert format_size(12).replace("\u00a0", " ") == "12 bytes"


def test_the_noise_ceiling_is_a_row_of_its_own_and_never_the_best(finished: Project) -> None:
    tail = "ceiling:test"
    add_judgements(finished, add_answers(finished, tail), lambda n, k: [(86, 99)])
    report = build_report(finished)
    rows = {row["key"]: row for row in report["splits"]["test"]["models"]}
    assert list(rows)[:2] == ["service", "ceiling"]
    assert rows["ceiling"]["title"].endswith(", asked again")
    matched = rows["ceiling"]["scores"][JUDGE.name]["precision"]["p_match"]["mean"]["value"]
    assert 80 < matched < 100
    without = rows["tuned:r1"]["scores"][JUDGE.name]["precision"]["p_match"]["mean"]
    best = report["splits"]["test"]["p_match"][JUDGE.name]["precision"]["mean"]
    assert best["value"] == without["value"]
    assert report["verdict"]["model"] == "gguf:Q8_0:r1"
    text = report["verdict"]["ceiling"]
    assert text.startswith("Noise ceiling: asked again, the service LLM itself reaches 9")
    page = render_report(report)
    assert "Noise ceiling: asked again" in page
    assert '<svg class="mark ceiling"' in page
    assert not any(
        row.model.endswith("again") for row in score_rows(judged_models(finished, Split.TEST), "t")
    )


def test_the_report_says_what_computed_the_answers(finished: Project) -> None:
    run = finished.runs.by_key("infer:tuned:r1:test")
    assert run is not None
    note = "llama.cpp on the CPU, F16, 8 side by side, from a temporary GGUF"
    finished.runs.finish(run.id, RunStatus.SUCCEEDED, summary={"backend_note": note})
    report = build_report(finished)
    rows = {row["key"]: row["answered_by"] for row in report["splits"]["test"]["models"]}
    assert (rows["tuned:r1"], rows["base"]) == (note, "")
    assert f"judgements; {note}</span>" in render_report(report)


def test_without_a_noise_ceiling_nothing_is_said_of_it(finished: Project) -> None:
    report = build_report(finished)
    assert report["verdict"]["ceiling"] == ""
    assert "asked again" not in render_report(report)
