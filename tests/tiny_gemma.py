"""Writes a tiny tokeniser of Gemma's kind: SentencePiece with runs of blanks and line breaks."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny_models import CORPUS
from tests.tiny_tokenizers import BLANK, _added, _bos_first, _merges_of, _write
from tests.varied_texts import varied_texts

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")
SPECIAL = ("<start_of_turn>", "<end_of_turn>")
UNUSED = ("<mask>", "[@BOS@]", "<unused0>", "<unused1>", "<unused2>")
RUNS = tuple(mark * count for mark in ("\n", BLANK) for count in range(2, 9))
TAGS = ("<table>", "</table>")
DEFINED = (*UNUSED, *SPECIAL, *RUNS, *TAGS)
GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def write_gemma_tokenizer(folder: Path, *, beyond: tuple[str, ...] = ()) -> None:
    """Write tokenizer.model, and the tokenizer.json converted from it.

    Args:
        folder: where the files go.
        beyond: special tokens after those of tokenizer.model (Gemma 3: its image token).
    """
    import sentencepiece

    model = _trained()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {pieces.IdToPiece(index): index for index in range(pieces.vocab_size())}
    added = [_added(ids[text], text) for text in (*CONTROL, *SPECIAL)]
    added += [_added(ids[text], text, is_special=False) for text in DEFINED if text not in SPECIAL]
    added += [_added(len(ids) + index, text) for index, text in enumerate(beyond)]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    definition: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "normalizer": replace,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": _bos_first("<bos>", ids["<bos>"]),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
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
            # Runs of blanks are made by merges: as added tokens they never match, since blanks are
            # replaced after added tokens are looked for.
            "merges": _merges_of(pieces, ids, skipped={*CONTROL, *SPECIAL, *UNUSED, *TAGS}),
        },
    }
    names = {name: f"<{name[:3]}>" for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    _write(folder, definition, "GemmaTokenizer", **names)


@cache
def _trained() -> bytes:
    import sentencepiece

    model = io.BytesIO()
    texts = [text for text in (*CORPUS * 3, *varied_texts()) if "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=1000,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=list(DEFINED),
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()
