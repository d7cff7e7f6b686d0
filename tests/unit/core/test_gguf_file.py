"""Tests of reading a GGUF header, and of the sentence for every file that is not a whole GGUF."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.gguf_file import FILE_TYPES, TENSOR_TYPES, check_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small valid file with every kind of metadata."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(77)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_bool("a.bool", True)
    writer.add_float32("a.float", 0.5)
    writer.add_string("a.text", "Gr\u00fc\u00dfe")
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.texts", ["x", "", "\u4f60"])
    writer.add_tensor("plain", np.arange(12, dtype=np.float32).reshape(3, 4))
    blocks = gguf.quants.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("quantised", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_header_says_what_was_written(whole: Path) -> None:
    found = check_gguf(whole)
    assert (found.version, found.architecture, found.quant) == (3, "llama", "Q8_0")
    assert found.context_length == 77
    assert found.metadata["a.bool"] is True
    assert found.metadata["a.float"] == 0.5
    assert found.metadata["a.text"] == "Gr\u00fc\u00dfe"
    assert found.metadata["a.numbers"] == [1, 2, 3]
    assert found.metadata["a.texts"] == ["x", "", "\u4f60"]
    assert [(item.name, item.shape, item.type) for item in found.tensors] == [
        ("plain", (3, 4), "F32"),
        ("quantised", (2, 64), "Q8_0"),
    ]
    assert found.tensor_types == {"F32": 1, "Q8_0": 1}
    assert found.parameters == 12 + 128
    plain = found.tensors[0]
    data = whole.read_bytes()[plain.offset : plain.offset + plain.size_bytes]
    np.testing.assert_array_equal(np.frombuffer(data, np.float32), np.arange(12))


def test_the_tables_of_types_agree_with_the_gguf_package() -> None:
    for number, (name, block, size) in TENSOR_TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (block, size))
    for number, name in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name.endswith("_" + name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file", "is not a GGUF file; choose"),
        (b"GGUF", "is damaged or incomplete"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "has GGUF version 1"),
        (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "has GGUF version 99"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "is damaged or incomplete"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "is damaged or incomplete"),
    ],
)
def test_a_file_that_is_not_a_gguf_gets_one_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        check_gguf(path)
    assert "model.gguf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.gguf does not exist"):
        check_gguf(tmp_path / "none.gguf")
    with pytest.raises(UserError, match="is a folder"):
        check_gguf(tmp_path)


def test_missing_tensor_data_is_noticed_to_the_byte(whole: Path, tmp_path: Path) -> None:
    header = check_gguf(whole)
    end = max(item.offset + item.size_bytes for item in header.tensors)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:end])
    assert check_gguf(cut).tensors
    cut.write_bytes(whole.read_bytes()[: end - 1])
    with pytest.raises(UserError, match=r"cut\.gguf is cut off"):
        check_gguf(cut)


@given(st.data())
def test_no_damage_escapes_as_anything_but_a_sentence(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    content = bytearray(whole.read_bytes()[: data.draw(st.integers(0, whole.stat().st_size))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert check_gguf(path).size_bytes == len(content)
