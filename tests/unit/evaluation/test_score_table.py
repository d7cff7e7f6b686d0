"""Statistics for scores from anywhere, and the errors of a file that is not such a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.evaluation.score_table import (
    ScoreRow,
    read_scores,
    stats_from_csv,
    write_scores,
)
from llamaduo_gui.evaluation.statistics import p_match, summarize

HEADER = "task,model,kind,judge,metric,prompt_id,sample,score\n"


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(model: str, kind: str, judge: str, scores: dict[str, np.ndarray]) -> list[ScoreRow]:
    return [
        ScoreRow("t", model, kind, judge, "precision", prompt, str(k), float(value))  # type: ignore[arg-type]
        for prompt, values in scores.items()
        for k, value in enumerate(values)
    ]


def draw(seed: int, level: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {f"p{i}": np.clip(generator.normal(level, 15, 3).round(), 1, 100) for i in range(12)}


def test_the_statistics_are_those_of_the_arrays_written(tmp_path: Path) -> None:
    service, weak, strong = draw(1, 85), draw(2, 40), draw(3, 75)
    path = tmp_path / "scores.csv"
    write_scores(
        path,
        [
            *rows_of("gpt", "service", "j", service),
            *rows_of("weak", "local", "j", weak),
            *rows_of("strong", "local", "j", strong),
        ],
    )
    document = stats_from_csv(path, resamples=500, seed=7)
    (entry,) = document["entries"]
    assert (entry["task"], entry["judge"], entry["metric"]) == ("t", "j", "precision")
    found = {item["model"]: item for item in entry["models"]}
    assert found["gpt"]["mean"] == summarize(service, resamples=500, seed=7).mean.to_dict()
    expected = p_match([weak, strong], [service], resamples=500, seed=7)
    assert entry["p_match"] == expected.to_dict()
    assert found["weak"]["p_match"] == p_match([weak], [service], resamples=500, seed=7).to_dict()
    assert found["gpt"]["p_match"] is None
    assert entry["best"]["local"]["mean"] == "strong"
    json.dumps(document, allow_nan=False)


def test_rows_that_differ_in_the_score_alone_are_repeats(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        HEADER + "t,m,local,j,precision,a,0,40\nt,m,local,j,precision,a,0,60\n"
        "t,m,local,j,precision,a,0,\nt,m,local,j,precision,b,0,90\n",
    )
    document = stats_from_csv(path)
    (model,) = document["entries"][0]["models"]
    assert (model["n_responses"], model["n_unscored"]) == (2, 0)
    assert model["mean"]["value"] == 70.0
    assert document["unscored"] == 1
    assert document["entries"][0]["p_match"] is None


def test_an_empty_score_is_unscored_and_never_zero(tmp_path: Path) -> None:
    path = table(tmp_path, HEADER + "t,m,local,j,precision,a,0,80\nt,m,local,j,precision,b,0,NaN\n")
    (model,) = stats_from_csv(path)["entries"][0]["models"]
    assert model["mean"]["value"] == 80.0
    assert model["n_unscored"] == 1


def test_several_judges_are_pooled_over_the_responses_that_all_of_them_scored(
    tmp_path: Path,
) -> None:
    body = (
        "t,m,local,j1,precision,a,0,80\nt,m,local,j2,precision,a,0,60\n"
        "t,m,local,j1,precision,b,0,90\nt,m,local,j2,precision,b,0,\n"
        "t,m,local,j1,precision,c,0,10\n"
    )
    entries = stats_from_csv(table(tmp_path, HEADER + body))["entries"]
    assert [entry["judge"] for entry in entries] == ["j1", "j2", "pooled"]
    (pooled,) = entries[-1]["models"]
    assert pooled["mean"]["value"] == 70.0
    assert (pooled["n_responses"], pooled["n_unscored"]) == (2, 1)


def test_tables_from_spreadsheets_are_read(tmp_path: Path) -> None:
    text = "\ufeff" + (HEADER + "t,m,Local,j,precision,a,0,80\n").replace(",", ";")
    (row,) = read_scores(table(tmp_path, text.replace("\n", "\r\n")))
    assert (row.kind, row.score) == ("local", 80.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "has a header and no rows"),
        ("task,model,kind\nt,m,local\n", "has no columns `judge`"),
        (HEADER.replace("prompt_id", "prompt") + "t,m,local,j,p,a,0,5\n", r"there is `prompt`"),
        (HEADER + "t,m,local,j,p,a,0,80\nt,m,remote,j,p,a,1,80\n", "line 3: kind `remote`"),
        (HEADER + "t,m,local,j,p,a,0,0\n", r"line 2: score 0 is outside 1\.\.100"),
        (HEADER + "t,m,local,j,p,a,0,inf\n", "line 2: score inf is outside"),
        (HEADER + "t,m,local,j,p,a,0,good\n", "line 2: score `good` is not a number"),
        (HEADER + "t,,local,j,p,a,0,80\n", "line 2: `model` is empty"),
        (HEADER + "t,m,local\n", "line 2: `judge` is empty"),
        (HEADER + "t,m,local,j,p,a,0,80\nt,m,service,j,p,a,1,80\n", "give every model one kind"),
        (HEADER + "t,m,local,j,p,a,0,x\n" * 9, "and 4 more"),
        (HEADER + '"' + "t" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_a_bad_table_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stats_from_csv(table(tmp_path, text))


def test_a_missing_file_and_one_that_is_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        stats_from_csv(tmp_path / "none.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        stats_from_csv(path)
