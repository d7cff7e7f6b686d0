"""Tests that the table of quantisations agrees with what is accepted and with llama.cpp."""

from __future__ import annotations

import itertools
from typing import get_args

import llama_cpp

from llamaduo_gui.core.config import QuantName
from llamaduo_gui.core.gguf_file import FILE_TYPES
from llamaduo_gui.core.quants import load_quants


def test_the_settings_accept_exactly_the_types_of_the_table() -> None:
    assert get_args(QuantName) == tuple(load_quants())


def test_the_numbers_are_llama_cpps() -> None:
    for quant in load_quants().values():
        prefix = "LLAMA_FTYPE_ALL_" if quant.name == "F32" else "LLAMA_FTYPE_MOSTLY_"
        assert getattr(llama_cpp, prefix + quant.name) == quant.code
        assert FILE_TYPES[quant.code] == quant.name


def test_smaller_types_may_lose_more() -> None:
    quants = list(load_quants().values())
    for larger, smaller in itertools.pairwise(quants):
        assert larger.bits >= smaller.bits
        assert larger.max_kl <= smaller.max_kl
        assert larger.min_agreement >= smaller.min_agreement


def test_the_expected_size_follows_from_the_bits() -> None:
    assert load_quants()["F16"].expected_bytes(1_000_000) == 2_000_000
