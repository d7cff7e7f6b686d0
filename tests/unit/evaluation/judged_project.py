"""A small project with records, answers and judgements, built for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llamaduo_gui.core.config import JudgeConfig, ServiceConfig
from llamaduo_gui.core.types import Message, Record, Split, Stage
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, NewJudgement, RunRow

TEACHER = ServiceConfig(provider="openai_compatible", model="big", base_url="http://127.0.0.1:9")
JUDGE = JudgeConfig(provider="openai_compatible", model="judge", base_url="http://127.0.0.1:9")

# judge -> (precision, similarity) of one repeat; None is unscored
Scores = tuple[float | None, float | None]
Answer = Callable[[int, int], Sequence[Scores]]


def make_record(number: int, category: str = "sorting") -> Record:
    turns = (
        Message("user", f"Question <b>{number}</b> & more?"),
        Message("assistant", f"Target {number}"),
    )
    return Record(turns, category=category, prompt_id=f"p{number:02d}")


def add_answers(
    project: Project, tail: str, *, samples: int = 2, text: str = "Answer <script>"
) -> RunRow:
    """An inference run `infer:TAIL` with `samples` answers to every record of its split."""
    parts = tail.split(":")
    split = Split(parts[-1])
    numbers = [int(part[1:]) for part in parts if part[0] == "r" and part[1:].isdigit()]
    run = project.runs.find_or_create(
        f"infer:{tail}",
        Stage.INFER,
        round_number=numbers[0] if numbers else None,
        label=parts[0],
        split=split,
    )
    rows = project.records.by_split(split)
    project.candidates.add(
        [
            NewCandidate(run.id, row.id, sample, f"{text} {row.id}.{sample}", seed=sample)
            for row in rows
            for sample in range(samples)
        ]
    )
    return run


def add_judgements(
    project: Project, answers: RunRow, score: Answer, *, judge: str = JUDGE.name
) -> RunRow:
    """Judge every answer; `score(prompt number, sample)` gives the scores of each repeat."""
    run = project.runs.find_or_create(
        answers.key.replace("infer:", "judge:", 1),
        Stage.JUDGE,
        round_number=answers.round,
        label=answers.label,
        split=answers.split,
    )
    numbers = {
        row.id: int(row.record.prompt_id[1:])
        for row in project.records.by_split(answers.split or Split.TEST)
    }
    found = []
    for candidate in project.candidates.of_run(answers.id):
        scores = score(numbers[candidate.record_id], candidate.sample)
        for repeat, (precision, similarity) in enumerate(scores):
            is_scored = precision is not None and similarity is not None
            found.append(
                NewJudgement(
                    run.id,
                    candidate.id,
                    judge,
                    repeat,
                    precision,
                    similarity,
                    precision_reason="good <i>point</i>" if is_scored else "",
                    similarity_reason="close" if is_scored else "",
                    unscored_reason="" if is_scored else "the reply is empty",
                    raw="{}" if is_scored else "<img src=x>",
                )
            )
    project.judgements.add(found)
    return run
