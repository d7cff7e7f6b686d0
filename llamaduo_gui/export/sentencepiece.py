"""Describes SentencePiece's BPE, as Mistral 7B, Phi-3 and Gemma have it, in llama.cpp's terms."""

from __future__ import annotations

import re
from typing import Any, Literal

import gguf

from llamaduo_gui.core.errors import UserError

SpacePrefix = Literal["never", "first", "each", "always"]
"""Where a blank is put in front of text: nowhere; before the whole text, unless it begins with a
blank or a special token; before every piece between special tokens; before every such piece that
does not begin with one."""

BLANK = "\u2581"
"""What stands for a space in SentencePiece's tokens."""

# What llama.cpp's converter gives to tokens that are never merged and to rows without a token.
_ADDED_SCORE = -1000.0
_UNUSED_SCORE = -10000.0


def is_sentencepiece(definition: dict[str, Any]) -> bool:
    """Whether a tokenizer.json holds a SentencePiece BPE: one that falls back to byte tokens."""
    model = definition["model"]
    decoder = (definition.get("decoder") or {}).get("type")
    return model.get("type") == "BPE" and bool(model.get("byte_fallback")) and decoder == "Sequence"


def is_byte(text: str) -> bool:
    """Whether a token stands for one byte, as in `<0x0A>`."""
    return re.fullmatch("<0x[0-9A-Fa-f]{2}>", text) is not None


def read_merges(definition: dict[str, Any]) -> list[tuple[str, str]]:
    """BPE merges in order of rank, from either spelling of tokenizer.json."""
    merges = definition["model"]["merges"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges)
    return [(left, right) for left, right in pairs]


def detect_space_prefix(definition: dict[str, Any]) -> SpacePrefix:
    """Where the tokeniser puts a blank in front of text.

    transformers 5 rebuilds a LlamaTokenizer by its `legacy` and `add_prefix_space`, whatever
    tokenizer.json says, but reads the same file as it is for Mistral and Phi-3: the definition
    must come from the loaded tokeniser. llama.cpp's converter copies `add_prefix_space` where
    tokenizer_config.json has it: with Mistral's `first` every instruction then begins with two
    blanks.

    Raises:
        UserError: text is changed or cut in another way, which llama.cpp cannot do.
    """
    steps = _flat(definition.get("normalizer"), "normalizers")
    cuts = _flat(definition.get("pre_tokenizer"), "pretokenizers")
    kinds = [step.get("type") for step in steps]
    if kinds in (["Prepend", "Replace"], ["Replace"]) and _replaces_spaces(steps[-1]):
        if not _cuts_at(cuts):
            return "each" if kinds[0] == "Prepend" else "never"
    elif not steps and [step.get("type") for step in cuts] == ["Metaspace"]:
        (cut,) = cuts
        scheme = cut.get("prepend_scheme", "always")
        if cut.get("replacement") == BLANK and not cut.get("split", True):
            prefixes: dict[str, SpacePrefix] = {
                "first": "first",
                "never": "never",
                "always": "always",
            }
            return prefixes[scheme]
    names = ", ".join(str(step.get("type")) for step in (*steps, *cuts)) or "nothing"
    raise UserError(
        f"The tokeniser prepares text by {names}, which llama.cpp cannot do; choose another base "
        "model."
    )


def token_scores(
    definition: dict[str, Any], tokens: tuple[str, ...], types: tuple[int, ...]
) -> tuple[float, ...]:
    """SentencePiece's scores, which decide what llama.cpp merges first, from the merges' ranks.

    llama.cpp merges any two neighbours whose text is a token, the highest score first; a
    tokenizer.json only those it lists, the lowest rank first. Both are the same when every way
    to split a token is listed, as it is in files converted from SentencePiece. Those have scores
    0, -1, -2... in order of rank, and so have these. (llama.cpp's converter reads the scores from
    tokenizer.model; without that file it gives -1000 to all, and the order of merges is lost.)

    Raises:
        UserError: tokens can be split in ways that are not merges.
    """
    merges = read_merges(definition)
    _require_all_splits(definition["model"]["vocab"], merges, definition["added_tokens"])
    ranks: dict[str, int] = {}
    # Gemma's runs of blanks are made by merges too; llama.cpp finds them before it merges.
    added = {token["content"] for token in definition["added_tokens"]}
    for left, right in merges:
        if left + right not in added:
            ranks.setdefault(left + right, len(ranks))
    scores = []
    for text, kind in zip(tokens, types, strict=True):
        if kind == gguf.TokenType.UNUSED:
            scores.append(_UNUSED_SCORE)
        elif kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED):
            scores.append(_ADDED_SCORE)
        elif kind == gguf.TokenType.BYTE:
            scores.append(0.0)
        else:
            # Single characters come last: no merge makes them.
            scores.append(-float(ranks.setdefault(text, len(ranks))))
    return tuple(scores)


def _require_all_splits(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], added: list[dict[str, Any]]
) -> None:
    skipped = {token["content"] for token in added}
    usable = {text for text in vocabulary if text not in skipped and not is_byte(text)}
    listed = set(merges)
    for text in usable:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in usable and right in usable and (left, right) not in listed:
                raise UserError(
                    f"The tokeniser has the tokens {left!r}, {right!r} and {text!r} but does not "
                    "merge the first two, as llama.cpp would; choose another base model."
                )


def _flat(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if not node:
        return []
    return list(node[key]) if node.get("type") == "Sequence" else [node]


def _replaces_spaces(step: dict[str, Any]) -> bool:
    return (step.get("pattern") or {}).get("String") == " " and step.get("content") == BLANK


def _cuts_at(cuts: list[dict[str, Any]]) -> bool:
    """Whether text is cut before BPE; a cut at spaces is none, there are none left by then."""
    return any(
        cut.get("type") != "Split" or (cut.get("pattern") or {}).get("String") != " "
        for cut in cuts
    )
