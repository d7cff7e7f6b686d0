"""Trains tiny tokenisers of every kind the model families have, in the layout of the Hub."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny_models import CORPUS
from tests.varied_texts import varied_texts

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLANK = "\u2581"
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def write_bpe(
    folder: Path,
    *,
    cuts: Sequence[dict[str, Any]],
    cuts_as_gpt2: bool = False,
    special: Sequence[str],
    bos: str | None,
    eos: str,
    pad: str | None,
    adds_bos: bool = False,
    ignore_merges: bool = False,
    strips: Sequence[str] = (),
    tokenizer_class: str = "PreTrainedTokenizerFast",
    vocab: int = 700,
) -> None:
    """Write a byte-level BPE.

    Args:
        folder: where tokenizer.json and tokenizer_config.json go.
        cuts: steps of the pre-tokeniser before bytes become characters.
        cuts_as_gpt2: whether that last step cuts text too, by GPT-2's pattern.
        special: texts of the special tokens; they follow the learnt ones, as on the Hub.
        bos: text of the token at the beginning, None for none.
        eos: text of the token at the end.
        pad: text of the token that fills batches up, None for none.
        adds_bos: whether encoding puts the bos token first.
        ignore_merges: whether a word that is a token is taken without merging.
        strips: those special tokens that swallow the white space after them.
        tokenizer_class: name in tokenizer_config.json.
        vocab: tokens without the special ones.
    """
    definition = json.loads(
        _trained_bpe(json.dumps([*cuts, {**_BYTES, "use_regex": cuts_as_gpt2}]), vocab)
    )
    definition["model"]["ignore_merges"] = ignore_merges
    first = len(definition["model"]["vocab"])
    added = [_added(first + i, text, text in strips) for i, text in enumerate(special)]
    definition["added_tokens"] = added
    if adds_bos and bos is not None:
        ids = {token["content"]: token["id"] for token in added}
        definition["post_processor"] = _bos_first(bos, ids[bos])
    _write(folder, definition, tokenizer_class, bos_token=bos, eos_token=eos, pad_token=pad)


def write_sentencepiece(
    folder: Path,
    *,
    control: Sequence[str] = (),
    special: Sequence[str] = (),
    strips: Sequence[str] = (),
    defined: Sequence[str] = (),
    eos: str = "</s>",
    pad: str | None = None,
    prefix: str = "first",
    tokenizer_class: str = "LlamaTokenizer",
    vocab: int = 900,
    **settings: Any,
) -> None:
    """Write a SentencePiece BPE: tokenizer.model, and the tokenizer.json converted from it.

    Args:
        folder: where the files go.
        control: control tokens of the SentencePiece model itself, after `<unk>`, `<s>`, `</s>`.
        special: special tokens added after its tokens.
        strips: those special tokens that swallow the white space after them.
        defined: user-defined symbols of the model itself: never split, not special.
        eos: text of the token at the end.
        pad: text of the token that fills batches up, None for none.
        prefix: `first` or `never` (transformers' Metaspace), or `each`: the Prepend normaliser of
            files converted with `legacy`.
        tokenizer_class: name in tokenizer_config.json.
        vocab: tokens of the SentencePiece model.
        settings: further entries of tokenizer_config.json.
    """
    import sentencepiece

    model = _trained_pieces(tuple(control), tuple(defined), vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {pieces.IdToPiece(index): index for index in range(pieces.vocab_size())}
    own = ("<unk>", "<s>", "</s>", *control)
    added = [_added(ids[text], text, text in strips) for text in own]
    added += [_added(ids[text], text, is_special=False) for text in defined]
    added += [_added(len(ids) + i, text, text in strips) for i, text in enumerate(special)]
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        **_space_steps(prefix),
        "post_processor": _bos_first("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": int(prefix != "never"), "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": _merges_of(pieces, ids, skipped={*own, *defined}),
        },
    }
    names = {"bos_token": "<s>", "eos_token": eos, "unk_token": "<unk>", "pad_token": pad}
    _write(folder, definition, tokenizer_class, **names, **settings)


def split(pattern: str) -> dict[str, Any]:
    """A step that cuts at every match of a pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _added(
    index: int, text: str, strips: bool = False, *, is_special: bool = True
) -> dict[str, Any]:
    return {
        "id": index,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": strips,
        "normalized": False,
        "special": is_special,
    }


def _bos_first(text: str, index: int) -> dict[str, Any]:
    """A post-processor that puts the bos token first."""
    bos = {"SpecialToken": {"id": text, "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, sequence],
        "pair": [bos, sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {text: {"id": text, "ids": [index], "tokens": [text]}},
    }


def _space_steps(prefix: str) -> dict[str, Any]:
    if prefix == "each":
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
        steps = [{"type": "Prepend", "prepend": BLANK}, replace]
        return {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    cut = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": prefix, "split": False}
    return {"normalizer": None, "pre_tokenizer": cut}


def _write(folder: Path, definition: dict[str, Any], kind: str, **config: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(definition, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in definition["added_tokens"]
    }
    settings = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": kind,
        **{key: value for key, value in config.items() if value is not None},
    }
    text = json.dumps(settings, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


@cache
def _trained_bpe(steps: str, vocab: int) -> str:
    from tokenizers import Tokenizer, decoders, models, trainers

    tokenizer = Tokenizer(models.BPE())
    definition = json.loads(tokenizer.to_str())
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": json.loads(steps)}
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=_alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS * 3, *varied_texts()], trainer)
    return str(tokenizer.to_str())


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


@cache
def _trained_pieces(control: tuple[str, ...], defined: tuple[str, ...], vocab: int) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    texts = [text for text in (*CORPUS * 3, *varied_texts()) if "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab,
        byte_fallback=True,
        # Leaves some characters to the byte tokens.
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        control_symbols=list(control),
        user_defined_symbols=list(defined),
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def _merges_of(pieces: Any, ids: dict[str, int], skipped: set[str]) -> list[list[str]]:
    """Every way to make a piece of two others, best pieces first, as conversion does."""
    usable = {
        text: index
        for text, index in ids.items()
        if text not in skipped and not pieces.IsByte(index) and not pieces.IsUnknown(index)
    }
    found = []
    for text, index in usable.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in usable and right in usable:
                found.append((-pieces.GetScore(index), ids[left], ids[right], left, right))
    return [[left, right] for *_, left, right in sorted(found)]
