"""Tests of the formats: each is known by its content and read to the same conversations."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.data.conversion import ReadOptions, convert_row, make_options
from llamaduo_gui.data.formats.registry import containers, find_format, remotes, shapes
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.rows import RowError
from llamaduo_gui.data.sources import open_source

PAIRS = [(f"What is {n}?", f"It is \u00e9 {n}.") for n in range(12)]
TURNS = [[{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in PAIRS]
WANTED = [(Message("user", p), Message("assistant", r)) for p, r in PAIRS]


def conversations(path: Path | str, **options: Any) -> list[tuple[Message, ...]]:
    chosen = make_options(**options, on_error="refuse")
    return [record.messages for record in read_records(path, options=chosen).records]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[list[str]], delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def as_parquet(path: Path) -> None:
    columns = {"messages": TURNS, "embedding": [[0.5, 0.25]] * len(TURNS)}
    parquet.write_table(pyarrow.table(columns), path)


PAIR_ROWS = [{"question": p, "answer": r} for p, r in PAIRS]
FILES: dict[str, str | Callable[[Path], None]] = {
    "messages jsonl": lines([{"messages": turns} for turns in TURNS]),
    "pairs jsonl": lines([{"prompt": p, "completion": r} for p, r in PAIRS]),
    "json array": json.dumps(PAIR_ROWS),
    "indented json array": json.dumps(PAIR_ROWS, indent=2, ensure_ascii=False),
    "unindented json array": json.dumps(PAIR_ROWS, indent=0),
    "array in an object": json.dumps({"version": 1, "data": PAIR_ROWS, "more": {"a": [1]}}),
    "objects one after the other": "\n".join(json.dumps(row, indent=1) for row in PAIR_ROWS),
    "llamaduo's reply file": json.dumps(
        {"contents": [{"instruction": p, "response": r} for p, r in PAIRS], "seed_prompt": "..."}
    ),
    "csv": table([["prompt", "response"], *map(list, PAIRS)]),
    "csv with semicolons": table(
        [["input", "output", "note"], *([p, r, ""] for p, r in PAIRS)], ";"
    ),
    "tsv": table([["query", "reply"], *map(list, PAIRS)], "\t", "\n"),
    "csv of messages": table([["messages"], *([json.dumps(turns)] for turns in TURNS)], ",", "\n")
    .replace("messages\n", "messages,id\n")
    .replace('}]"\n', '}]",1\n'),
    "parquet": as_parquet,
}


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", list(FILES))
def test_every_kind_of_file_is_known_by_its_content(
    tmp_path: Path, name: str, is_packed: bool
) -> None:
    path, made = tmp_path / "some-data", FILES[name]
    if isinstance(made, str):
        path.write_text(made, encoding="utf-8", newline="")
    else:
        made(path)
    if is_packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert conversations(path) == WANTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["pairs jsonl", "indented json array", "csv with semicolons"])
def test_every_encoding_is_found_out(tmp_path: Path, name: str, encoding: str) -> None:
    text = FILES[name]
    assert isinstance(text, str)
    path = tmp_path / "data.txt"
    path.write_bytes(text.encode(encoding))
    result = read_records(path, on_error="refuse")
    assert [record.messages for record in result.records] == WANTED
    is_guess = encoding == "cp1252"
    assert bool(result.notes) is is_guess
    assert ("Windows-1252, a guess" in " ".join(result.notes)) is is_guess


def test_one_line_of_another_encoding_does_not_spoil_a_utf8_file(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    broken = '{"prompt": "caf\u00e9", "response": "b"}\n'.encode("cp1252")
    path.write_bytes(lines(PAIR_ROWS).encode() + broken)
    result = read_records(path)
    assert [record.messages for record in result.records] == WANTED
    assert result.problems[0].reason == "is not UTF-8 (byte 0xE9 at position 16)"


def test_a_byte_that_is_no_text_costs_one_row_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    text = table([["prompt", "response"], *map(list, PAIRS)]).encode()
    path.write_bytes(text + b"bad \xff,row\r\nlast,row\r\n")
    result = read_records(path)
    assert len(result.records) == len(PAIRS) + 1
    assert result.problems[0].reason == "has a byte (0xFF) that is no text"


SHAPES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("messages", {"messages": TURNS[0]}, ["user", "assistant"]),
    (
        "messages",
        {
            "messages": [
                {"role": "developer", "content": "D"},
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": "b"},
            ]
        },
        ["system", "user", "assistant"],
    ),
    ("pairs", {"input": "a", "output": "b", "system_prompt": "s"}, ["system", "user", "assistant"]),
    ("alpaca", {"instruction": "a", "input": "", "output": "b"}, ["user", "assistant"]),
    (
        "alpaca",
        {"instruction": "c", "input": "d", "output": "e", "history": [["a", "b"]]},
        ["user", "assistant", "user", "assistant"],
    ),
    (
        "sharegpt",
        {
            "system": "s",
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "gpt", "value": "b"},
                {"from": "human", "value": "c"},
                {"from": "gpt", "value": "d"},
            ],
        },
        ["system", "user", "assistant", "user", "assistant"],
    ),
    (
        "openai_chat",
        {
            "messages": [{"role": "user", "content": "a"}],
            "choices": [{"finish_reason": "stop", "message": {"content": "b"}}],
        },
        ["user", "assistant"],
    ),
    (
        "openai_chat",
        {
            "input": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
            "output": [{"role": "assistant", "content": "b"}],
        },
        ["system", "user", "assistant"],
    ),
    (
        "openai_chat",
        {
            "request": json.dumps({"messages": [{"role": "user", "content": "a"}]}),
            "response": {"status_code": 200, "body": {"choices": [{"message": {"content": "b"}}]}},
        },
        ["user", "assistant"],
    ),
    (
        "openai_responses",
        {
            "request": {"input": "a", "instructions": "s"},
            "response": {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "b"}]},
                ]
            },
        },
        ["system", "user", "assistant"],
    ),
    (
        "openai_responses",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "message", "role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "d"}]}],
        },
        ["user", "assistant", "user", "assistant"],
    ),
    (
        "llamaduo",
        {
            "generators": "m",
            "prompt_id": "gemini-generated",
            "seed_prompts": ["whole prompts"],
            "messages": TURNS[0],
            "category": "coding",
        },
        ["user", "assistant"],
    ),
    (
        "llamaduo",
        {"instructions": "a", "target_responses": "b", "candidate_responses": "c"},
        ["user", "assistant"],
    ),
]


@pytest.mark.parametrize(("shape", "row", "roles"), SHAPES)
def test_every_layout_is_known_and_keeps_its_turns(
    shape: str, row: dict[str, Any], roles: list[str]
) -> None:
    found, title = convert_row(row, ReadOptions())
    assert title == find_format(shape).title
    assert [message.role for message in found.messages] == roles
    texts = [message.content for message in found.messages if message.role != "system"]
    # The texts of these rows are letters in the order of the alphabet.
    assert texts == list(PAIRS[0]) or "abcde".startswith("".join(texts).replace("\n", ""))
    assert convert_row(row, make_options([shape]))[0] == found


def test_alpaca_joins_instruction_and_input() -> None:
    row = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert convert_row(row, ReadOptions())[0].messages[0].content == "Translate.\n\nHaus"


def test_what_a_log_says_about_the_model_and_the_category_is_kept() -> None:
    row = {
        "request": {"model": "a", "messages": TURNS[0][:1], "metadata": {"category": "geo"}},
        "response": {"model": "a-2026", "choices": [{"message": {"content": "b"}}]},
    }
    found = convert_row(row, ReadOptions())[0]
    assert (found.generator, found.category) == ("a-2026", "geo")


def test_llamaduo_rows_of_one_identifier_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"prompt_id": "gemini-generated", "generators": "m", "messages": t} for t in TURNS]
    path.write_text(lines(rows), encoding="utf-8")
    records = read_records(path, on_error="refuse").records
    assert len({record.prompt_id for record in records}) == len(TURNS)
    assert {record.generator for record in records} == {"m"}


CHAT = {"messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {**CHAT, "choices": [{"finish_reason": "length", "message": {"content": "b"}}]},
            "cut off",
        ),
        ({**CHAT, "choices": [{"finish_reason": "content_filter", "message": {}}]}, "filter"),
        ({**CHAT, "choices": [{"message": {"refusal": "no"}}]}, "the model refused"),
        ({**CHAT, "choices": [{"message": {"tool_calls": [{}]}}]}, "tool call"),
        ({**CHAT, "choices": []}, "no choice"),
        ({"request": {}, "response": {"choices": [{"message": {}}]}}, "no `messages`"),
        ({"input": "a", "output": [{"type": "function_call"}]}, "'function_call'"),
        (
            {
                "input": "a",
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "b"}]}],
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "cut off",
        ),
        ({"conversations": [{"from": "tool", "value": "a"}]}, "from 'tool'; wanted human or gpt"),
        ({"conversations": "hello"}, "`conversations` is text, not a list of turns"),
        ({"instruction": "a", "input": 3, "output": "b"}, "content of `input` is a number"),
        ({"instruction": "a", "input": "", "output": "b", "history": [["q"]]}, "exchange 1"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        convert_row(row, ReadOptions())


def test_columns_are_mapped_as_the_user_says(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = [["text", "gold", "role_text", "topic"], ["p", "r", "s", "t"], ["p2", "7", "", ""]]
    path.write_text(table(rows), encoding="utf-8")
    mapping = {"prompt": "text", "response": "gold", "system": "role_text", "category": "topic"}
    records = read_records(path, options=make_options(mapping=mapping)).records
    assert [message.role for message in records[0].messages] == ["system", "user", "assistant"]
    assert records[0].category == "t"
    assert records[1].messages == (Message("user", "p2"), Message("assistant", "7"))
    assert records[1].category == "uncategorised"


def test_a_category_alone_can_be_mapped() -> None:
    options = make_options(mapping={"category": "topic"})
    row = {"messages": TURNS[0], "topic": "geo", "category": "other"}
    assert convert_row(row, options)[0].category == "geo"
    with pytest.raises(RowError, match="no column `topic`"):
        convert_row({"messages": TURNS[0]}, options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"formats": ["alpacca"]}, "did you mean `alpaca`"),
        ({"mapping": {"prompt": "a"}}, "both prompt and response"),
        ({"mapping": {"promt": "a"}}, "`promt` is no part"),
    ],
)
def test_wrong_choices_are_one_clear_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make_options(**arguments)


def test_a_named_layout_refuses_rows_of_another(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(lines(PAIR_ROWS), encoding="utf-8")
    with pytest.raises(DataError, match="wanted `conversations`"):
        read_records(path, options=make_options(["sharegpt"]))


def test_broken_rows_of_a_table_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    text = 'prompt,response\n"a\nb",c\nonly\nd,"e"x\nf,g\nh,"never closed\n'
    path.write_text(text, encoding="utf-8")
    result = read_records(path)
    assert [record.instruction for record in result.records] == ["a\nb", "f"]
    assert [(p.line_number, p.unit) for p in result.problems] == [
        (4, "line"),
        (5, "line"),
        (7, "line"),
    ]
    assert result.problems[0].reason == "has 1 field, the header has 2"
    assert "not valid CSV" in result.problems[2].reason


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (', {"prompt": "cut o', "unterminated string"),
        (" {}]", "expected a comma or ] after an element"),
        (', {"a": ' + "[" * 100_000, "nested too deeply"),
        ("", "the file ends"),
    ],
)
def test_a_document_that_breaks_off_keeps_what_came_before(
    tmp_path: Path, end: str, words: str
) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(PAIR_ROWS)[:-1] + end, encoding="utf-8")
    result = read_records(path)
    assert [record.messages for record in result.records] == WANTED
    (problem,) = result.problems
    assert problem.unit == "row"
    assert words in problem.reason


def test_values_longer_than_a_chunk_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    rows = [{"prompt": f"p{n}", "response": "\\u00e9\u00e9" * 60_000 + str(n)} for n in range(4)]
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    found = conversations(path)
    assert [turns[1].content for turns in found] == [row["response"] for row in rows]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_large_file_is_read_a_piece_at_a_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    rows = [{"prompt": f"{n} {'ab ' * 300}", "response": "word " * 200} for n in range(10_000)]
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, use_dictionary=False)
    elif kind == "csv":
        path.write_text(table([list(rows[0]), *(list(row.values()) for row in rows)]))
    else:
        path.write_text(json.dumps(rows) if kind == "json" else lines(rows))
    del rows
    opened = open_source(path)
    tracemalloc.start()
    before = pyarrow.total_allocated_bytes()
    most = 0
    for count, _ in enumerate(opened.rows(), start=1):
        if count % 500 == 0:
            most = max(most, pyarrow.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1] + most
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 7_000_000, "the file is 19 MB"


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    draw = [{"prompt": f"p{n}", "response": str(n * 7919 % 104_729)} for n in range(20_000)]
    path.write_bytes(gzip.compress(lines(draw).encode())[:-2000])
    with pytest.raises(DataError, match="does not unpack as gzip"):
        read_records(path)


def test_parquet_columns_of_numbers_and_nothing_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    rows = [{"prompt": "a", "response": "b", "score": 1.5, "none": None, "blob": b"\0"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert conversations(path) == [(Message("user", "a"), Message("assistant", "b"))]


def test_the_formats_are_found_and_have_names_of_their_own() -> None:
    names = [info.name for info in (*shapes(), *containers())]
    assert len(set(names)) == len(names) == 11
    assert [info.prefix for info in remotes()] == ["hub:"]


def test_records_are_equal_whatever_file_they_come_from(tmp_path: Path) -> None:
    found: list[list[Record]] = []
    for name in ("messages jsonl", "csv", "parquet"):
        path = tmp_path / "data"
        made = FILES[name]
        if isinstance(made, str):
            path.write_text(made, encoding="utf-8", newline="")
        else:
            made(path)
        found.append(read_records(path).records)
    assert found[0] == found[1] == found[2]


def test_reading_a_table_leaves_the_process_its_own_field_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = tmp_path / "long.csv"
    path.write_text(f"prompt,response\n{'long ' * 60_000},short\nb,c\n", encoding="utf-8")
    assert len(read_records(path).records) == 2
    assert csv.field_size_limit() == before
