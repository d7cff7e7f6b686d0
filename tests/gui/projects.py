"""Real projects in a folder for window tests: records alone, or the whole judged loop."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from llamaduo_gui.core.config import (
    DecisionConfig,
    InferenceConfig,
    JudgeConfig,
    PipelineConfig,
    ServiceConfig,
    SplitConfig,
)
from llamaduo_gui.core.types import (
    Message,
    ModelKind,
    Record,
    RecordStatus,
    RejectReason,
    RunStatus,
    Split,
    Stage,
)
from llamaduo_gui.pipeline.feedback import decide_round
from llamaduo_gui.pipeline.plan import Step, answer_steps, baseline_steps, final_steps
from llamaduo_gui.store.project import Project
from llamaduo_gui.store.rows import NewCandidate, NewJudgement, NewSynthetic, RecordRow, RunRow

URL = "http://127.0.0.1:9"
QUANT = "Q4_K_M"
LAST_ROUND = 1
SYSTEM_TURN = "You are a careful Python tutor."
RAW_REPLY = "I would rather not put a number on this answer."

# (category, what is asked, name, body of the target)
_TASKS = (
    (
        "lists",
        "Merge two sorted lists into one sorted list in linear time",
        "merge",
        (
            "    out, i, j = [], 0, 0\n    while i < len(a) and j < len(b):\n"
            "        if a[i] <= b[j]:\n            out.append(a[i])\n            i += 1\n"
            "        else:\n            out.append(b[j])\n            j += 1\n"
            "    out.extend(a[i:])\n    out.extend(b[j:])\n    return out"
        ),
    ),
    (
        "dates",
        "Parse an ISO 8601 duration such as P3DT4H into seconds",
        "parse_duration",
        (
            "    match = PATTERN.fullmatch(a)\n    if match is None:\n"
            "        raise ValueError(a)\n    parts = match.groupdict(default='0')\n"
            "    return sum(int(parts[name]) * size for name, size in SIZES)"
        ),
    ),
    (
        "text",
        "Count how often each word occurs, ignoring case and punctuation",
        "count_words",
        "    words = re.findall(r'[a-z]+', a.lower())\n    return Counter(words)",
    ),
    (
        "text",
        "Find the longest common prefix of a list of strings",
        "common_prefix",
        (
            "    if not a:\n        return ''\n    low, high = min(a), max(a)\n"
            "    for i, letter in enumerate(low):\n        if letter != high[i]:\n"
            "            return low[:i]\n    return low"
        ),
    ),
    (
        "lists",
        "Remove duplicates from a list and keep the order of first appearance",
        "unique",
        "    return list(dict.fromkeys(a))",
    ),
)
_GOOD_REASONS = (
    "Correct on every input the instruction names, and as short as the target.",
    "Right result; the variable names differ from the target's.",
    "Handles the empty input as well, which the target does not spell out.",
)
_BAD_REASONS = (
    (
        "Drops the remaining items of the longer list, so the result is wrong whenever the lengths "
        "differ."
    ),
    "Same signature as the target; the lines after the loop are missing.",
    "Returns None for an empty input where the instruction asks for a value.",
)
# Mean score of each kind of model, round by round for the tuned one.
_LEVELS = {ModelKind.SERVICE: 86, ModelKind.BASE: 46, ModelKind.GGUF: 84}
_TUNED_LEVELS = (71, 84)


def make_config(*, is_tutor: bool = False, repeats: int = 2, samples: int = 2) -> PipelineConfig:
    """Settings with two judges; `is_tutor` takes the offline tutor as teacher and judge."""
    if is_tutor:
        teacher = ServiceConfig(provider="offline", model="tutor")
        judges = (JudgeConfig(provider="offline", model="tutor", repeats=repeats),)
    else:
        teacher = ServiceConfig(provider="openai_compatible", model="teacher-xl", base_url=URL)
        judges = tuple(
            JudgeConfig(provider="openai_compatible", model=name, base_url=URL, repeats=repeats)
            for name in ("judge-a", "judge-b")
        )
    return PipelineConfig(
        task="coding",
        teacher=teacher,
        judges=judges,
        splits=SplitConfig(seed=42),
        inference=InferenceConfig(samples=samples),
        decision=DecisionConfig(resamples=400, max_rounds=LAST_ROUND),
    )


def make_record(number: int) -> Record:
    """A coding prompt with its target; every seventh has a system turn and an earlier exchange."""
    category, request, name, body = _TASKS[number % len(_TASKS)]
    prompt = f"{request}. Call the function `{name}_{number}`."
    turns = [Message("user", prompt)]
    if number % 7 == 3:
        turns = [
            Message("system", SYSTEM_TURN),
            Message("user", "Which Python version may I use?"),
            Message("assistant", "3.11 or newer."),
            *turns,
        ]
    target = f"def {name}_{number}(a, b=None):\n{body}"
    prompt_id = hashlib.sha256(prompt.encode()).hexdigest()[:32]
    return Record((*turns, Message("assistant", target)), category, prompt_id)


def make_data_project(
    folder: Path, *, prompts: int = 12, train: int = 30, config: PipelineConfig | None = None
) -> Project:
    """A new project with `prompts` records for validation and test each, and `train` more."""
    project = Project.create(folder, config or make_config())
    items = []
    for number in range(2 * prompts + train):
        split = Split.TRAIN
        if number < 2 * prompts:
            split = Split.VALIDATION if number % 2 else Split.TEST
        items.append((make_record(number), split, f"coverage.jsonl:{number + 1}"))
    project.records.add_coverage(items)
    project.set_setting("coverage_files", ["coverage.jsonl"])
    return project


def add_synthetic(project: Project, round_number: int = 1, *, count: int = 20) -> None:
    """Synthetic pairs of a round, a quarter of them rejected, one for each reason in turn."""
    seeds = project.records.by_split(Split.TRAIN)
    held_out = project.records.by_split(Split.VALIDATION)
    reasons = list(RejectReason)
    found = []
    for number in range(count):
        seed = seeds[number % len(seeds)].record
        base = make_record(10_000 * round_number + number)
        record = Record(
            base.messages[-2:], base.category, base.prompt_id, "teacher-xl", seed.prompt_id
        )
        reason = reasons[number // 4 % len(reasons)] if number % 4 == 3 else None
        found.append(
            NewSynthetic(
                record,
                round_number,
                f"r{round_number}:{number // 8}:{number % 8}",
                RecordStatus.REJECTED if reason else RecordStatus.KEPT,
                reason,
                "Jaccard 0.91 with a training prompt" if reason else "",
                _partner(reason, seed, seeds, held_out),
            )
        )
    project.records.add_synthetic(found)


def _partner(
    reason: RejectReason | None,
    seed: Record,
    train: Sequence[RecordRow],
    held_out: Sequence[RecordRow],
) -> str:
    """Prompt id of the record a reject is too close to."""
    if reason is RejectReason.TOO_CLOSE_TO_SEED:
        return seed.prompt_id
    if reason is RejectReason.CONTAMINATED and held_out:
        return held_out[0].record.prompt_id
    if reason in (RejectReason.EXACT_DUPLICATE, RejectReason.NEAR_DUPLICATE):
        return next(row.record.prompt_id for row in train if row.record is not seed)
    return ""


def make_judged_project(
    folder: Path,
    *,
    prompts: int = 12,
    samples: int = 2,
    repeats: int = 2,
    is_tutor: bool = False,
    has_test: bool = True,
) -> Project:
    """A project whose loop is done: two rounds, every model judged on its splits, one GGUF.

    Service, base and the tuned model of both rounds answered validation; service, base, the last
    tuned model and the GGUF answered test (unless not `has_test`: then round 1 is decided and
    the export has not begun). One response of the last round's models has a judge's every
    repeat unscored, another a single one.
    """
    config = make_config(is_tutor=is_tutor, repeats=repeats, samples=samples)
    project = make_data_project(folder, prompts=prompts, config=config)
    add_synthetic(project)
    _finished(project, Step("pipeline", Stage.PIPELINE), {"is_complete": has_test})
    answer_and_judge(project, baseline_steps(Split.VALIDATION))
    for number in range(LAST_ROUND + 1):
        answer_and_judge(project, answer_steps(ModelKind.TUNED, Split.VALIDATION, number))
        decision = decide_round(project, config, number, LAST_ROUND)
        summary = {**decision.to_dict(), "last_round": LAST_ROUND}
        _finished(project, Step(f"decide:r{number}", Stage.DECIDE, number), summary)
    if has_test:
        steps = final_steps(LAST_ROUND, QUANT)
        _export(project, steps[0])
        answer_and_judge(project, steps[1:-1])
    return project


def answer_and_judge(
    project: Project, steps: Sequence[Step], *, judged: float = 1.0
) -> list[RunRow]:
    """Do pairs of infer and judge steps; `judged` below 1 leaves the last answers unjudged."""
    found = []
    for infer, judge in zip(steps[::2], steps[1::2], strict=True):
        answers = add_answers(project, infer)
        add_judgements(project, answers, judge, share=judged)
        found.append(answers)
    return found


def add_answers(project: Project, step: Step) -> RunRow:
    """Answers of one model to every record of a split."""
    run = _finished(project, step, {})
    rows = project.records.by_split(step.split or Split.VALIDATION)
    samples = project.config.inference.samples
    project.candidates.add(
        [
            NewCandidate(
                run.id,
                row.id,
                sample,
                _answer_text(row, score := _response_score(run, row, sample)),
                seed=sample,
                finish_reason="length" if score < 30 else "stop",
                completion_tokens=40,
            )
            for row in rows
            for sample in range(samples)
        ]
    )
    return run


def add_judgements(project: Project, answers: RunRow, step: Step, *, share: float = 1.0) -> RunRow:
    """Judge the first `share` of a run's answers by every configured judge."""
    is_whole, judges = share >= 1.0, project.config.judges
    run = _finished(project, step, {}) if is_whole else _started(project, step)
    rows = {row.id: row for row in project.records.by_split(answers.split or Split.VALIDATION)}
    candidates = project.candidates.of_run(answers.id)
    first, second = list(rows)[:2]
    found = []
    for item in candidates[: round(share * len(candidates))]:
        score = _response_score(answers, rows[item.record_id], item.sample)
        for place, judge in enumerate(judges):
            for repeat in range(judge.repeats):
                is_odd = answers.round == LAST_ROUND and place == len(judges) - 1
                is_lost = is_odd and (
                    (item.record_id == first and item.sample == 1)
                    or (item.record_id == second and item.sample == 0 and repeat == 0)
                )
                key = (run.id, item.id, judge.name, repeat)
                found.append(_judgement(key, None if is_lost else score, place))
    project.judgements.add(found)
    project.runs.set_progress(run.id, len(found), len(candidates) * len(found) or 1)
    return run


def _judgement(key: tuple[int, int, str, int], score: float | None, place: int) -> NewJudgement:
    run_id, candidate_id, judge, repeat = key
    if score is None:
        return NewJudgement(
            run_id,
            candidate_id,
            judge,
            repeat,
            None,
            None,
            unscored_reason="no JSON object in the reply",
            raw=RAW_REPLY,
        )
    noise = random.Random(f"{candidate_id}:{judge}:{repeat}")
    precision = _clamp(score + noise.gauss(0, 3) - 2 * place)
    similarity = _clamp(score + noise.gauss(-4, 4) - 2 * place)
    reasons = _BAD_REASONS if score < 60 else _GOOD_REASONS
    return NewJudgement(
        run_id,
        candidate_id,
        judge,
        repeat,
        float(precision),
        float(similarity),
        precision_reason=noise.choice(reasons),
        similarity_reason=noise.choice(reasons),
        raw="{}",
    )


def _response_score(run: RunRow, row: RecordRow, sample: int) -> float:
    """How good this model's answer is: its level, the prompt's difficulty, and luck."""
    kind = ModelKind(run.label)
    level = _TUNED_LEVELS[run.round or 0] if kind is ModelKind.TUNED else _LEVELS[kind]
    difficulty = random.Random(row.record.prompt_id).gauss(0, 6)
    draw = random.Random(f"{run.key}:{row.id}:{sample}")
    luck = draw.gauss(0, 14 if level < 60 else 7)
    if draw.random() < 0.02:
        luck -= 38
    return float(_clamp(level + difficulty + luck))


def _answer_text(row: RecordRow, score: float) -> str:
    lines = row.record.target.split("\n")
    if score >= 80:
        return row.record.target
    if score >= 60:
        return "\n".join(line.replace("out", "result") for line in lines)
    kept = max(1, round(len(lines) * score / 100))
    return "\n".join([*lines[:kept], "    return None"])


def _export(project: Project, step: Step) -> None:
    run = _finished(project, step, {"quant": QUANT, "size_bytes": 4})
    path = project.paths.round_dir(LAST_ROUND) / f"model-{QUANT}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    project.artifacts.add(run.id, "gguf", path, round_number=LAST_ROUND, meta={"quant": QUANT})


def _started(project: Project, step: Step) -> RunRow:
    config = project.config
    run = project.runs.find_or_create(
        step.key,
        step.stage,
        round_number=step.round,
        label=step.label,
        split=step.split,
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    project.runs.start(run.id, {"llamaduo-gui": "0"})
    return project.runs.get(run.id)


def _finished(project: Project, step: Step, summary: dict[str, object]) -> RunRow:
    run = _started(project, step)
    project.runs.finish(run.id, RunStatus.SUCCEEDED, summary=summary)
    return project.runs.get(run.id)


def _clamp(score: float) -> int:
    return round(min(100.0, max(1.0, score)))
