"""Whatever a file holds, importing it ends in records or in one clear sentence: 10,000 tries.

With LLAMADUO_EXTENDED=1 there are 10,000 files of every kind, else 10,000 of all kinds together.

Every try is drawn from a seed: arbitrary bytes, or a good file with bytes changed, lost, doubled or
cut off. The draws are cheap, so that ten thousand of them take seconds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from pyarrow import parquet

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.data.conversion import ReadOptions, convert_row, make_options
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.rows import RowError

pytestmark = pytest.mark.slow

EXAMPLES = 10_000
# Each try is a file of every kind.
FILE_EXAMPLES = EXAMPLES if os.environ.get("LLAMADUO_EXTENDED") == "1" else EXAMPLES // 5
ROWS: list[dict[str, Any]] = [
    {"prompt": "caf\u00e9?", "response": "yes", "category": "a"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"request": {"messages": [{"role": "user", "content": "a"}]}, "response": {"choices": []}},
    {"input": "a", "output": [{"type": "message", "content": [{"type": "output_text"}]}]},
    {"generators": "m", "messages": [{"role": "user", "content": "a"}], "seed_prompts": ["x"]},
]
WORDS = [
    "prompt",
    "response",
    "messages",
    "instruction",
    "input",
    "output",
    "history",
    "conversations",
    "from",
    "value",
    "role",
    "content",
    "request",
    "choices",
    "message",
    "type",
    "text",
    "system",
    "category",
    "metadata",
    "finish_reason",
    "user",
    "assistant",
    "human",
    "gpt",
    "generators",
    "body",
    "instructions",
    "target_responses",
    "refusal",
]


def make_parquet(codec: str) -> bytes:
    sink = io.BytesIO()
    table = pyarrow.table(
        {
            "messages": [ROWS[1]["messages"]] * 3,
            "prompt": ["a", None, "c"],
            "response": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, sink, compression=codec)
    return sink.getvalue()


JSONL = "".join(json.dumps(row) + "\n" for row in ROWS[:4]).encode()
SAMPLES: dict[str, list[bytes]] = {
    "jsonl": [JSONL, JSONL.decode().encode("utf-16")],
    "json": [
        json.dumps(ROWS[3:], indent=1).encode(),
        json.dumps({"data": ROWS[:3], "version": [1, {"a": None}]}).encode(),
    ],
    "csv": [
        b'prompt,response,category\n"a\nb",c,d\n"e ""f""",g,\n',
        b"prompt\tresponse\r\na\tb\r\n",
        b"\xef\xbb\xbfquestion;answer\n1;2\n",
    ],
    "gzip": [gzip.compress(JSONL), gzip.compress(b"prompt,response\na,b\n")],
    "parquet": [make_parquet("none"), make_parquet("snappy")],
}
SIGNS = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\\",
    b"\0",
    b"\xff",
    b"\xe9",
    b"\t",
    b"9",
]


def make_bytes(draw: random.Random, samples: list[bytes]) -> bytes:
    """Arbitrary bytes, or a sample with up to six changes."""
    if draw.random() < 0.15:
        return draw.randbytes(draw.randrange(200))
    data = bytearray(draw.choice(samples))
    for _ in range(draw.randrange(7)):
        start = draw.randrange(len(data) + 1)
        end = min(len(data), start + draw.randrange(1, 12))
        change = draw.randrange(4)
        if change == 0:
            data[start:end] = draw.choice(SIGNS)
        elif change == 1:
            data[start:start] = draw.randbytes(draw.randrange(1, 5))
        elif change == 2:
            del data[start:end]
        else:
            data[start:start] = data[start:end] * draw.randrange(1, 4)
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.2 else data)


def make_value(draw: random.Random, depth: int = 0) -> Any:
    """Any JSON value, made of the words the formats look for."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind < 3:
        return draw.choice(WORDS)
    if kind < 6:
        return draw.choice((None, True, 3, -1.5, "", " ", "\ud800", "\udcff", "[1]", "{}"))
    size = draw.randrange(4)
    if kind == 6:
        return [make_value(draw, depth + 1) for _ in range(size)]
    return {draw.choice(WORDS): make_value(draw, depth + 1) for _ in range(size)}


def make_row(draw: random.Random) -> Any:
    """A good row with a part replaced, or any value."""
    if draw.random() < 0.3:
        return make_value(draw)
    row: Any = json.loads(json.dumps(draw.choice(ROWS)))
    place = row
    for _ in range(draw.randrange(4)):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw.choice(keys)
        if draw.random() < 0.4 or not isinstance(place[key], dict | list):
            place[key] = make_value(draw)
            break
        place = place[key]
    return row


def tries(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    chosen = settings(max_examples=examples, database=None, suppress_health_check=checks)
    return lambda test: chosen(given(st.integers(0, 2**64 - 1))(test))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "data"


def test_any_file_of_every_kind_is_read_or_refused_with_a_sentence(path: Path) -> None:
    outcomes: Counter[tuple[str, bool]] = Counter()

    @tries(FILE_EXAMPLES)
    def try_one(seed: int) -> None:
        draw = random.Random(seed)
        for kind, samples in SAMPLES.items():
            path.write_bytes(make_bytes(draw, samples))
            try:
                result = read_records(path)
            except DataError as error:
                outcomes[kind, False] += 1
                check_sentence(str(error))
            else:
                outcomes[kind, True] += 1
                assert len(result.records) + result.copies >= 1
                for problem in result.problems:
                    check_sentence(str(problem))

    try_one()
    for kind in SAMPLES:
        assert outcomes[kind, True] + outcomes[kind, False] >= FILE_EXAMPLES
        assert min(outcomes[kind, True], outcomes[kind, False]) > FILE_EXAMPLES / 50


def check_sentence(text: str) -> None:
    assert "\n" not in text
    assert text.encode("utf-8")
    assert "Traceback" not in text


def test_any_row_is_a_conversation_or_refused_with_a_phrase() -> None:
    mapped = make_options(mapping={"prompt": "prompt", "response": "input", "category": "type"})
    outcomes = {"read": 0, "refused": 0}

    @tries(EXAMPLES)
    def try_one(seed: int) -> None:
        row = make_row(random.Random(seed))
        for options in (ReadOptions(), mapped):
            try:
                messages = convert_row(row, options)[0].messages
            except RowError:
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1
                assert messages[-1].role == "assistant"
                assert any(message.role == "user" for message in messages)
                assert all(message.content.strip() for message in messages)
                assert all(message.content.encode() for message in messages)

    try_one()
    assert min(outcomes.values()) > EXAMPLES / 50
