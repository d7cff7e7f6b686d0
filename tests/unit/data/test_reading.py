"""Tests of reading: every row is used or named, and bad files are one sentence."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaduo_gui.core.errors import DataError
from llamaduo_gui.core.types import Message, Record
from llamaduo_gui.data.conversion import ReadOptions, convert_row
from llamaduo_gui.data.reading import read_records
from llamaduo_gui.data.rows import RowError
from llamaduo_gui.data.writing import write_jsonl

PAIR = {"prompt": "What is it?", "response": "A pen."}
COVERAGE = {
    "prompt": "Sum?",
    "prompt_id": "id-1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Sum?"},
        {"role": "assistant", "content": "4"},
    ],
    "category": "math",
}


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def problem(tmp_path: Path, row: Any) -> str:
    result = read_records(write(tmp_path / "data.jsonl", PAIR, row))
    assert len(result.records) == 1
    (found,) = result.problems
    assert found.line_number == 2
    return found.reason


def test_the_coverage_format_is_read(tmp_path: Path) -> None:
    result = read_records(write(tmp_path / "a.jsonl", COVERAGE))
    (record,) = result.records
    assert record.prompt_id == "id-1"
    assert record.category == "math"
    assert [message.role for message in record.messages] == ["system", "user", "assistant"]
    assert record.target == "4"
    assert result.sources == ["a.jsonl:1"]
    assert result.made_ids == 0


@pytest.mark.parametrize("column", ["prompt", "instruction"])
def test_bare_pairs_are_read(tmp_path: Path, column: str) -> None:
    result = read_records(write(tmp_path / "a.jsonl", {column: "Hi?", "response": "Ho."}))
    (record,) = result.records
    assert record.messages == (Message("user", "Hi?"), Message("assistant", "Ho."))
    assert record.category == "uncategorised"
    assert len(record.prompt_id) == 32
    assert result.made_ids == 1


def test_a_byte_order_mark_blank_lines_crlf_and_line_separators_are_no_problem(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"prompt": "one\u2028two", "response": "x"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{json.dumps(PAIR)}".encode())
    result = read_records(path)
    assert [record.instruction for record in result.records] == ["one\u2028two", "What is it?"]
    assert result.lines_read == 2
    assert result.sources == ["a.jsonl:1", "a.jsonl:3"]


def test_broken_lines_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", PAIR, '{"prompt": "cut o', COVERAGE, "[1, 2]")
    result = read_records(path)
    assert [record.prompt_id for record in result.records][1] == "id-1"
    assert [found.line_number for found in result.problems] == [2, 4]
    assert "not valid JSON" in result.problems[0].reason
    assert "a list" in result.problems[1].reason
    assert result.lines_read == 4


def test_broken_lines_refuse_the_file_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", PAIR, *["{"] * 5)
    with pytest.raises(DataError, match=r"has 5 broken lines: line 2: .*line 4: .*and 2 more"):
        read_records(path, on_error="refuse")
    assert len(read_records(write(path, PAIR), on_error="refuse").records) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n\n", "is empty"),
        ("{}".encode("utf-16"), "line 1: has no columns; wanted `messages`"),
        (b"PAR1\x15\x04", "is not readable Parquet"),
        (b"[]", "has no row"),
        (b'{"text": "a", "label": "b"}\n', "`text`, `label`; wanted `messages`"),
        (b"hello\n", "line 1: is not valid JSON"),
        (b"PK\x03\x04 and so on", "save the sheet as CSV"),
        (b"\x1f\x8b\x08 not a packed file", "is cut off or damaged"),
        (b"\x00\x01\x02\x03", "is not text"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_sentence(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_records(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_records(tmp_path)
    with pytest.raises(DataError, match="No data file"):
        read_records([])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "has no columns; wanted"),
        ({"prompt": "a"}, "has `prompt`; wanted"),
        ({"prompt": 3, "response": "a"}, "content of `prompt` is a number, not text"),
        ({"prompt": "a", "response": None}, "content of `response` is missing"),
        ({"prompt": "a", "response": " \n"}, "content of `response` is empty"),
        ({"messages": "hello"}, "`messages` is text, not a list"),
        ({"messages": []}, "no user message"),
        ({"messages": ["a"]}, "message 1 is text, not an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "has the role 'tool'"),
        ({"messages": [{"role": "user", "content": "x"}]}, "ends with a user message"),
        (
            {
                "messages": [
                    {"role": "user", "content": ["x"]},
                    {"role": "assistant", "content": "y"},
                ]
            },
            "content of message 1 is a list",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]},
            "the target (last message) is empty",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant"}]},
            "the target (last message) is missing",
        ),
        ('{"prompt": "\\ud800", "response": "a"}', "surrogate"),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"prompt": {"9" * 5000}, "response": "a"}}', "number too long"),
        ({**PAIR, "category": ["x"]}, "`category` is a list, not text"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(tmp_path: Path, row: Any, words: str) -> None:
    assert words in problem(tmp_path, row)


def test_a_number_as_identifier_is_taken_as_text(tmp_path: Path) -> None:
    result = read_records(write(tmp_path / "a.jsonl", {**PAIR, "prompt_id": 7, "category": " "}))
    assert result.records[0].prompt_id == "7"
    assert result.records[0].category == "uncategorised"


def test_a_made_identifier_depends_on_the_prompt_alone(tmp_path: Path) -> None:
    one = read_records(write(tmp_path / "a.jsonl", PAIR)).records[0]
    two = read_records(write(tmp_path / "b.jsonl", COVERAGE, {**PAIR, "response": "B"})).records[1]
    assert one.prompt_id == two.prompt_id


def test_an_identifier_in_use_gets_a_suffix_and_copies_are_read_once(tmp_path: Path) -> None:
    other = {**PAIR, "response": "A pencil."}
    first = read_records(write(tmp_path / "a.jsonl", PAIR, other, PAIR, other))
    assert len(first.records) == 2
    assert first.copies == 2
    assert first.renamed_ids == 1
    base, variant = (record.prompt_id for record in first.records)
    assert variant.startswith(f"{base}-")
    assert len({record.prompt_id for record in first.records}) == 2


def test_several_files_are_one_dataset_with_distinct_sources(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    files = [
        write(tmp_path / "a.jsonl", PAIR),
        write(tmp_path / "sub" / "a.jsonl", COVERAGE, "{"),
    ]
    result = read_records(files)
    assert result.sources == ["a.jsonl:1", "a.jsonl#2:1"]
    assert [(found.file, found.line_number) for found in result.problems] == [("a.jsonl#2", 2)]
    assert result.categories() == {"uncategorised": 1, "math": 1}


def test_progress_counts_bytes_up_to_the_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"prompt": f"p{n}", "response": "r"} for n in range(2500)))
    calls: list[tuple[int, int]] = []
    read_records([path, path], on_progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert [total for _, total in calls] == [2 * size] * 5
    assert calls == sorted(calls)
    assert calls[-1][0] == 2 * size


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    turns = (
        Message("system", "S\u2028\n"),
        Message("user", "\u00fcber <b>"),
        Message("assistant", "a"),
        Message("user", "more"),
        Message("assistant", "\U0001f600"),
    )
    records = [
        Record(turns, "cat", "one"),
        Record(turns[1:3], "cat", "two", generator="m", seed_prompt="one"),
    ]
    path = tmp_path / "folder" / "out.jsonl"
    assert write_jsonl(records, path) == 2
    assert read_records(path, on_error="refuse").records == records
    assert [item.name for item in path.parent.iterdir()] == ["out.jsonl"]


def test_a_file_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        write_jsonl([], tmp_path / "file" / "out.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["prompt", "response", "messages", "role", "content", "category"])
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=1000)
@given(json_values)
def test_any_json_value_is_a_conversation_or_refused_with_a_phrase(value: Any) -> None:
    with contextlib.suppress(RowError):
        messages = convert_row(value, ReadOptions())[0].messages
        assert messages[-1].role == "assistant"
        assert messages[-1].content.strip()


@settings(max_examples=300)
@given(lines=st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_read_or_refused_without_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join([*lines, json.dumps(PAIR).encode()]))
    with contextlib.suppress(DataError):
        result = read_records(path)
        assert len(result.records) >= 1


@pytest.mark.shared_data
def test_the_shared_datasets_are_read_whole(shared_data: Path) -> None:
    sizes = {"summarization": 195, "classification": 350, "coding": 350, "closed_qa": 200}
    for name, size in sizes.items():
        path = shared_data / "coverage" / f"{name}.jsonl"
        result = read_records(path, on_error="refuse")
        assert len(result.records) == size
        assert result.made_ids == result.renamed_ids == 0
    pool = read_records(shared_data / "teacher_pool" / "coding.jsonl", on_error="refuse")
    assert len(pool.records) + pool.copies == 624
