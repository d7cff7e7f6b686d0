"""What a judge is asked, and what is made of its reply."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llamaduo_gui.core.config import JudgeConfig
from llamaduo_gui.core.loose_json import repair_json
from llamaduo_gui.core.types import Message, Metric, Record
from llamaduo_gui.core.wire import delimit, load_prompt
from llamaduo_gui.providers.base import ChatRequest, ReplySchema

# Replies are a few hundred characters; a model that repeats itself to its limit is not read.
LONGEST_REPLY = 50_000
# The repairing parser takes quadratic time on nonsense: 50,000 opening braces 8 s, 10,000 0.3 s.
_LONGEST_REPAIR = 10_000

_OBJECT_START = re.compile(r"""\{\s*["'](?:precision|similarity)["']""", re.IGNORECASE)
_FENCE = re.compile(r"```[a-z]*\s*\n?(.*?)```", re.IGNORECASE | re.DOTALL)
_WHOLE_NUMBER = re.compile(r"\s*\d{1,3}(?:\.0+)?\s*")
_ENDS_INSIDE_A_NUMBER = re.compile(r"\d[\d.eE+-]*\Z")


@dataclass(frozen=True, slots=True)
class ParsedJudgement:
    """The scores of one reply; a metric that could not be read is None.

    `problem` says what is wrong, and is empty when both scores are there.
    """

    scores: Mapping[Metric, int | None]
    reasons: Mapping[Metric, str]
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether both scores are there."""
        return not self.problem


def judge_request(
    judge: JudgeConfig, record: Record, candidate: str, repeat: int = 0
) -> ChatRequest:
    """The request for one judgement of `candidate`, an answer to the prompt of `record`.

    An empty candidate is judged as the text it is: no answer is a bad answer.
    """
    prompt = load_prompt("judge")
    values = {
        "instruction": delimit("instruction", record.instruction),
        "target_response": delimit("target_response", record.target),
        "candidate_response": delimit("candidate_response", candidate),
    }
    messages = (Message("system", prompt.system), Message("user", prompt.render(values)))
    schema = ReplySchema(prompt.schema_name, prompt.schema)
    return ChatRequest.for_service(judge, messages, "judge", reply_schema=schema, repeat=repeat)


def parse_judgement(text: str) -> ParsedJudgement:
    """Read the two scores and reasons from a judge's reply; never raises.

    Taken are JSON alone, in a code fence or amid prose, JSON that can be repaired, and a bare
    number in place of the inner object. A score is a whole number from 1 to 100, as 87, 87.0 or
    "87". Refused are fractions such as 87.5 (rounding would invent a score), 0, 101, true, and a
    number the reply may have been cut off in. Of several objects the last counts: judges draft.
    """
    if not text.strip():
        return _failure("the reply is empty")
    if len(text) > LONGEST_REPLY:
        return _failure(f"the reply is longer than {LONGEST_REPLY} characters")
    best = _failure("the reply has no JSON object with precision and similarity")
    for found in _objects(text.rpartition("</think>")[2]):
        parsed = _read(found)
        if parsed.is_complete:
            return parsed
        if _known(parsed) >= _known(best):
            best = parsed
    return best


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects the reply may mean, the most trustworthy reading first."""
    for part in (text, *reversed(_FENCE.findall(text))):
        found = _load(part)
        if isinstance(found, dict):
            yield found
    yield from reversed(list(_embedded(text)))
    if not _OBJECT_START.search(text) and "{" in text:
        yield from _repair(text[text.index("{") :])


def _embedded(text: str) -> Iterator[dict[str, Any]]:
    """Judgement objects amid prose, from left to right.

    One that does not decode is repaired, and the search ends there: what follows may be text
    quoted inside it, such as a candidate that holds a judgement of its own.
    """
    decoder = json.JSONDecoder()
    position = 0
    while match := _OBJECT_START.search(text, position):
        try:
            found, position = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            yield from _repair(text[match.start() :])
            return
        yield found


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    # ValueError also for an integer of more than 4300 digits
    except (ValueError, RecursionError):
        return None


def _repair(text: str) -> Iterator[dict[str, Any]]:
    """The object a forgiving parser sees, unless the text ends in what may be half a number."""
    if len(text) > _LONGEST_REPAIR or _ENDS_INSIDE_A_NUMBER.search(text.rstrip()):
        return
    found = repair_json(text)
    if isinstance(found, dict):
        yield found


def _whole_number(value: Any) -> Any:
    """A score as an int where it is one; anything else is left for pydantic to refuse."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("the score is not a whole number")
        return int(value)
    return value


class _MetricReply(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    score: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100)]
    reason: Annotated[str, BeforeValidator(lambda value: "" if value is None else value)] = ""


def _read(found: Mapping[str, Any]) -> ParsedJudgement:
    by_name = {str(key).strip().lower(): value for key, value in found.items()}
    scores: dict[Metric, int | None] = {}
    reasons: dict[Metric, str] = {}
    problems = []
    for metric in Metric:
        value = by_name.get(metric.value)
        scores[metric], reasons[metric] = None, ""
        if value is None:
            problems.append(f"{metric.value} is missing")
            continue
        try:
            reply = _MetricReply.model_validate(
                value if isinstance(value, dict) else {"score": value}
            )
        except ValidationError as error:
            problems.append(f"{metric.value}: {_describe(error)}")
            continue
        scores[metric] = reply.score
        # JSON can spell half a surrogate pair, which the database cannot hold.
        reasons[metric] = reply.reason.encode("utf-8", "replace").decode("utf-8")
    return ParsedJudgement(scores, reasons, "; ".join(problems))


def _describe(error: ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in item["loc"])
    shown = repr(item["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{place} {shown} is not valid ({item['msg']})"


def _known(parsed: ParsedJudgement) -> int:
    return sum(score is not None for score in parsed.scores.values())


def _failure(problem: str) -> ParsedJudgement:
    return ParsedJudgement(dict.fromkeys(Metric), dict.fromkeys(Metric, ""), problem)
