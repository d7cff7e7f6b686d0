"""Scores as a CSV file: written beside a report, and the statistics of one from anywhere."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.evaluation.statistics import (
    CONFIDENCE,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    STATISTICS,
    PromptScores,
    Summary,
    p_match,
    summarize,
)

Kind = Literal["service", "local"]

COLUMNS = ("task", "model", "kind", "judge", "metric", "prompt_id", "sample", "score")
POOLED = "pooled"
UNSCORED_WORDS = frozenset({"", "nan", "none", "null", "na", "n/a", "unscored"})

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score of one response; `score` is None when it is unscored."""

    task: str
    model: str
    kind: Kind
    judge: str
    metric: str
    prompt_id: str
    sample: str
    score: float | None


# Scores of one model on one task, judge and metric: prompt -> sample -> its repeats.
_Cell = dict[str, dict[str, list[float]]]
_Cells = dict[tuple[str, str, str], dict[str, _Cell]]


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write rows in the format that `stats_from_csv` reads; an unscored one has an empty score."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            score = "" if row.score is None else repr(row.score)
            start = (row.task, row.model, row.kind, row.judge, row.metric)
            writer.writerow([*start, row.prompt_id, row.sample, score])


def read_scores(path: Path) -> list[ScoreRow]:
    """Read a score table; commas, semicolons or tabs, columns in any order, more are ignored.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a bad row (with its line).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}).") from error
    if not text.strip():
        raise DataError(f"{path.name} is empty; its first line has to be {','.join(COLUMNS)}.")
    rows, problems = _parse_table(text, path.name)
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        tail = f"; and {more} more" if more > 0 else ""
        shown = "; ".join(problems[:_SHOWN_PROBLEMS])
        raise DataError(f"{path.name}: {shown}{tail}. Nothing was computed; correct the file.")
    if not rows:
        raise DataError(f"{path.name} has a header and no rows.")
    _check_kinds(rows, path.name)
    return rows


def stats_from_csv(
    path: Path, *, resamples: int = DEFAULT_RESAMPLES, seed: int = DEFAULT_SEED
) -> dict[str, Any]:
    """The report's statistics for a score table: see `stats_from_rows`.

    Raises:
        DataError: see `read_scores`.
    """
    return stats_from_rows(read_scores(path), resamples=resamples, seed=seed)


def stats_from_rows(
    rows: Sequence[ScoreRow], *, resamples: int = DEFAULT_RESAMPLES, seed: int = DEFAULT_SEED
) -> dict[str, Any]:
    """Means, coverages and P-Match of every task x judge x metric, as one JSON-able document.

    Rows that agree in all but the score are repeats and are averaged first. With several judges
    an entry "pooled" is the mean over the judges of the responses that all of them scored.
    """
    kinds = {(row.task, row.model): row.kind for row in rows}
    entries = []
    for (task, judge, metric), cells in _with_pooled(_collect(rows)).items():
        scores = {model: _averaged(cell) for model, cell in cells.items()}
        sides = {model: kinds[task, model] for model in scores}
        entry = {"task": task, "judge": judge, "metric": metric}
        entries.append({**entry, **_entry(scores, sides, resamples, seed)})
    return {
        "rows": len(rows),
        "unscored": sum(row.score is None for row in rows),
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "seed": seed,
        "entries": entries,
    }


def _entry(
    scores: Mapping[str, PromptScores], sides: Mapping[str, Kind], resamples: int, seed: int
) -> dict[str, Any]:
    """Models, P-Match of the bests and of each local model for one task, judge and metric."""
    service = [scores[model] for model in scores if sides[model] == "service"]
    local = {model: scores[model] for model in scores if sides[model] == "local"}
    summaries = {
        model: summarize(values, resamples=resamples, seed=seed) for model, values in scores.items()
    }
    models = []
    for model, summary in summaries.items():
        own = None
        if service and model in local:
            own = p_match([local[model]], service, resamples=resamples, seed=seed).to_dict()
        models.append({"model": model, "kind": sides[model], **summary.to_dict(), "p_match": own})
    matched = None
    if service and local:
        matched = p_match(list(local.values()), service, resamples=resamples, seed=seed).to_dict()
    best = {
        kind: _best_models({m: s for m, s in summaries.items() if sides[m] == kind})
        for kind in ("service", "local")
    }
    return {"models": models, "p_match": matched, "best": best}


def _best_models(summaries: Mapping[str, Summary]) -> dict[str, str | None]:
    """The model with the highest value of each statistic; None if none has one."""
    found: dict[str, str | None] = {}
    for statistic in STATISTICS:
        values = {model: getattr(item, statistic).value for model, item in summaries.items()}
        known = {model: value for model, value in values.items() if value is not None}
        found[statistic] = max(known, key=lambda model: known[model]) if known else None
    return found


def _collect(rows: Sequence[ScoreRow]) -> _Cells:
    cells: _Cells = {}
    for row in rows:
        models = cells.setdefault((row.task, row.judge, row.metric), {})
        samples = models.setdefault(row.model, {}).setdefault(row.prompt_id, {})
        repeats = samples.setdefault(row.sample, [])
        if row.score is not None:
            repeats.append(row.score)
    return cells


def _with_pooled(cells: _Cells) -> _Cells:
    """Add the pool over judges to every task and metric that has several of them."""
    judges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for task, judge, metric in cells:
        judges[task, metric].append(judge)
    pooled: _Cells = {}
    for (task, metric), names in judges.items():
        if len(names) > 1 and POOLED not in names:
            parts = [cells[task, name, metric] for name in names]
            shared = [model for model in parts[0] if all(model in part for part in parts)]
            pooled[task, POOLED, metric] = {
                model: _pool([part[model] for part in parts]) for model in shared
            }
    return {**cells, **pooled}


def _pool(parts: Sequence[_Cell]) -> _Cell:
    """Mean over the judges of each response all of them judged; unscored if one has no score."""
    pooled: _Cell = {}
    for prompt, samples in parts[0].items():
        for sample in samples:
            answers = [part.get(prompt, {}).get(sample) for part in parts]
            known = [values for values in answers if values is not None]
            if len(known) == len(parts):
                means = [fmean(values) for values in known if values]
                score = [fmean(means)] if len(means) == len(parts) else []
                pooled.setdefault(prompt, {})[sample] = score
    return pooled


def _averaged(cell: _Cell) -> dict[str, list[float]]:
    return {
        prompt: [fmean(values) if values else math.nan for values in samples.values()]
        for prompt, samples in cell.items()
    }


def _parse_table(text: str, name: str) -> tuple[list[ScoreRow], list[str]]:
    """Good rows, and a phrase with its line for every bad one."""
    delimiter = max(",;\t", key=text.lstrip().splitlines()[0].count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    rows, problems = [], []
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        _check_header(reader.fieldnames, name)
        for item in reader:
            try:
                rows.append(_parse_row(item))
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        raise DataError(f"{name} line {reader.line_num + 1}: {error}; correct the file.") from error
    return rows, problems


def _check_header(found: Sequence[str], name: str) -> None:
    missing = [column for column in COLUMNS if column not in found]
    if not missing:
        return
    hints = []
    for column in missing:
        near = difflib.get_close_matches(column, found, n=1, cutoff=0.6)
        hints.append(f"`{column}`" + (f" (there is `{near[0]}`)" if near else ""))
    plural = "s" if len(missing) > 1 else ""
    raise DataError(
        f"{name} has no column{plural} {', '.join(hints)}; needed are {', '.join(COLUMNS)}."
    )


def _parse_row(item: Mapping[str, str | None]) -> ScoreRow:
    texts = {column: (item.get(column) or "").strip() for column in COLUMNS}
    for column in COLUMNS[:-1]:
        if not texts[column]:
            raise ValueError(f"`{column}` is empty")
    kind = texts["kind"].lower()
    if kind not in ("service", "local"):
        raise ValueError(f"kind `{texts['kind']}` is neither service nor local")
    texts["kind"] = kind
    score = _parse_score(texts.pop("score"))
    return ScoreRow(**cast("dict[str, Any]", texts), score=score)


def _parse_score(text: str) -> float | None:
    if text.lower() in UNSCORED_WORDS:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"score `{text}` is not a number; leave it empty if unscored") from None
    if not 1 <= value <= 100:
        raise ValueError(f"score {text} is outside 1..100; leave it empty if unscored")
    return value


def _check_kinds(rows: Sequence[ScoreRow], name: str) -> None:
    kinds: dict[tuple[str, str], Kind] = {}
    for row in rows:
        if kinds.setdefault((row.task, row.model), row.kind) != row.kind:
            raise DataError(
                f"{name}: {row.model} is service in some rows of {row.task} and local in others; "
                "give every model one kind."
            )
