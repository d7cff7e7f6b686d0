"""Describes a transformers tokeniser in llama.cpp's terms, or says why it cannot be."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf

from llamaduo_gui.core.chat_templates import set_chat_template, tokenizer_has_system_role
from llamaduo_gui.core.conversation import MERGING_PRELUDE
from llamaduo_gui.core.errors import UserError
from llamaduo_gui.core.ml_libraries import prepare_ml_libraries
from llamaduo_gui.core.model_family import detect_family, stop_token_ids
from llamaduo_gui.core.paths import resource
from llamaduo_gui.export.sentencepiece import (
    BLANK,
    SpacePrefix,
    detect_space_prefix,
    is_byte,
    is_sentencepiece,
    read_merges,
    token_scores,
)

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Special tokens after which llama.cpp keeps white space in a model whose name says Phi-3.
_PHI3_KEEPING = frozenset({"<s>", "<unk>", "<|endoftext|>"})


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """The `tokenizer.*` part of a GGUF.

    Attributes:
        model: llama.cpp's name of the kind: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
        pre: llama.cpp's name of the pre-tokeniser.
        tokens: text of every token, padded to the embedding's rows.
        token_types: gguf.TokenType of every token.
        merges: BPE merges, two symbols with a space between them, in order of rank; none for
            SentencePiece.
        scores: SentencePiece's score of every token; none for BPE.
        space_prefix: where SentencePiece puts a blank in front of text (see sentencepiece.py).
        strips_after: special tokens that swallow the white space after them.
        strips_as_phi3: whether these are the ones llama.cpp knows for Phi-3.
        special_ids: token ids by role (bos, eos, eot, eom, unk, pad).
        add_bos: whether encoding puts the bos token first.
        add_eos: whether encoding puts the eos token last.
        normalizer: `NFC` if text is normalised before encoding (llama.cpp itself never does).
        chat_template: Jinja text, empty if the tokeniser has none.
        stop_ids: every token that ends an answer.
        warnings: sentences about what llama.cpp will do differently.
    """

    pre: str
    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    merges: tuple[str, ...]
    special_ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    normalizer: str
    chat_template: str
    stop_ids: tuple[int, ...]
    warnings: tuple[str, ...]
    model: str = "gpt2"
    scores: tuple[float, ...] = ()
    space_prefix: SpacePrefix = "never"
    strips_after: tuple[str, ...] = ()
    strips_as_phi3: bool = False


def load_tokenizer(folder: Path, trained: Path | None = None) -> Any:
    """The tokeniser as training uses it; some classes rebuild what tokenizer.json says.

    Args:
        folder: of the base model.
        trained: folder of what was trained on it, for the chat template of a base without one.

    Raises:
        UserError: the folder holds no tokeniser that can be loaded without running its code.
    """
    prepare_ml_libraries()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
            # transformers takes it for a tiktoken file where protobuf is missing, and asks for
            # tiktoken.
            raise UserError(
                f"The tokeniser in {folder} is only there as tokenizer.model; get a version of the "
                "model that also has a tokenizer.json."
            ) from error
        raise UserError(f"The tokeniser in {folder} cannot be loaded ({error}).") from error
    if not tokenizer.is_fast:
        raise UserError(f"The tokeniser in {folder} has no tokenizer.json; export needs one.")
    set_chat_template(tokenizer, detect_family(folder), trained)
    return tokenizer


def describe_tokenizer(tokenizer: Any, folder: Path, embedding_rows: int) -> TokenizerSpec:
    """Describe a tokeniser for a model with that many embedding rows.

    Args:
        tokenizer: from `load_tokenizer`.
        folder: of the model, for its config.json and generation_config.json.
        embedding_rows: size the vocabulary is padded to.

    Raises:
        UserError: llama.cpp has no equal of this tokeniser, or it does not fit the embedding.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    is_pieces = is_sentencepiece(definition)
    if not is_pieces:
        _require_byte_level_bpe(definition)
    family = detect_family(folder)
    stop_ids = stop_token_ids(tokenizer, family, _declared_stop_ids(folder))
    tokens, types = _token_list(tokenizer, embedding_rows, is_pieces=is_pieces)
    add_bos, add_eos = _added_ends(tokenizer)
    space_prefix = detect_space_prefix(definition) if is_pieces else "never"
    strips_after = _stripping(tokenizer)
    is_phi3 = _strips_as_phi3(strips_after, tokens, types)
    pre = "default" if is_pieces else detect_pre_tokenizer(definition)
    return TokenizerSpec(
        model="llama" if is_pieces else "gpt2",
        pre=pre,
        tokens=tokens,
        token_types=types,
        merges=() if is_pieces else tuple(map(" ".join, read_merges(definition))),
        scores=token_scores(definition, tokens, types) if is_pieces else (),
        space_prefix=space_prefix,
        strips_after=strips_after,
        strips_as_phi3=is_phi3,
        special_ids=_special_ids(tokenizer, family.stop_tokens, stop_ids),
        add_bos=add_bos,
        add_eos=add_eos,
        normalizer="" if is_pieces else _normalizer(definition),
        chat_template=exported_template(tokenizer, family.template_arguments),
        stop_ids=stop_ids,
        warnings=_warnings(tokenizer, pre, space_prefix, () if is_phi3 else strips_after),
    )


def detect_pre_tokenizer(definition: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokeniser of a tokenizer.json.

    The wrong name leaves the logits right and the tokens wrong (blank lines, digits), so an
    unknown one is refused. The name also fixes whether a word that is a token is taken without
    merging; where merging makes every token from its own text anyway, either will do.

    Raises:
        UserError: no name fits.
    """
    steps = _steps(definition.get("pre_tokenizer") or {})
    ignore_merges = bool(definition["model"].get("ignore_merges", False))
    fitting = [entry for entry in _known_pre_tokenizers() if tuple(entry["steps"]) == steps]
    for entry in fitting:
        if entry["ignore_merges"] == ignore_merges:
            return str(entry["name"])
    if fitting and _merges_make_all_tokens(definition):
        return str(fitting[0]["name"])
    known = ", ".join(entry["name"] for entry in _known_pre_tokenizers())
    raise UserError(
        "The tokeniser cuts text in a way that has no known equal in llama.cpp, so the GGUF would "
        f"read text differently; use a base model with one of these: {known}."
    )


def _merges_make_all_tokens(definition: dict[str, Any]) -> bool:
    vocabulary = definition["model"].get("vocab")
    if not vocabulary:
        return False
    from tokenizers import Tokenizer

    bare = {**definition, "pre_tokenizer": None, "normalizer": None, "post_processor": None}
    bare["model"] = {**definition["model"], "ignore_merges": False}
    merged = Tokenizer.from_str(json.dumps(bare)).encode_batch(list(vocabulary))
    return all(len(encoding.ids) == 1 for encoding in merged)


@cache
def _known_pre_tokenizers() -> tuple[dict[str, Any], ...]:
    text = resource("gguf", "pre_tokenizers.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["pre_tokenizer"])


def _steps(node: dict[str, Any]) -> tuple[str, ...]:
    """The pre-tokeniser in the short form of pre_tokenizers.toml; "?" for what is unknown."""
    kind = node.get("type")
    if kind == "Sequence":
        steps = tuple(step for child in node["pretokenizers"] for step in _steps(child))
        if steps[-2:] == (f"split {GPT2_PATTERN}", "bytes"):
            return (*steps[:-2], "gpt2")
        return steps
    if kind == "ByteLevel" and not node.get("add_prefix_space"):
        return ("gpt2",) if node.get("use_regex", True) else ("bytes",)
    if kind == "Digits" and node.get("individual_digits"):
        return ("digits",)
    # Keeping the matches apart, or removing everything between them, is the same when the
    # pattern matches any character, as all of the known ones do.
    if kind == "Split" and (node.get("behavior"), bool(node.get("invert"))) in (
        ("Isolated", False),
        ("Removed", True),
    ):
        pattern = node["pattern"].get("Regex")
        if pattern is not None:
            return ("split " + pattern.replace("\r", r"\r").replace("\n", r"\n"),)
    return (f"? {kind}",)


def _require_byte_level_bpe(definition: dict[str, Any]) -> None:
    model = definition["model"]
    decoder = (definition.get("decoder") or {}).get("type")
    if model.get("type") == "BPE" and not model.get("byte_fallback") and decoder == "ByteLevel":
        affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if not affixes:
            return
    raise UserError(
        "The base model's tokeniser is neither a byte-level BPE (as in Llama 3, Qwen and SmolLM) "
        "nor SentencePiece's BPE (as in Mistral 7B and Gemma); others cannot be exported."
    )


def _normalizer(definition: dict[str, Any]) -> str:
    normalizer = definition.get("normalizer")
    if not normalizer:
        return ""
    if normalizer.get("type") == "NFC":
        return "NFC"
    raise UserError(
        f"The tokeniser changes text by {normalizer.get('type')} first, which llama.cpp cannot do; "
        "choose another base model."
    )


def _token_list(
    tokenizer: Any, rows: int, *, is_pieces: bool
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    vocabulary = {index: text for text, index in tokenizer.get_vocab().items()}
    # Gemma 3's text models have no row for the picture token at the end of the tokeniser.
    vocabulary = {
        index: text
        for index, text in vocabulary.items()
        if index < rows or index not in tokenizer.added_tokens_decoder
    }
    if max(vocabulary) >= rows:
        raise UserError(
            f"The tokeniser has {max(vocabulary) + 1} tokens and the model embeddings for {rows}; "
            "they do not belong together."
        )
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_tokens)
    tokens, types = [], []
    for index in range(rows):
        text = vocabulary.get(index)
        if text is None:
            # llama.cpp wants as many tokens as rows; the name is the one its converter gives.
            tokens.append(f"[PAD{index}]")
            types.append(gguf.TokenType.UNUSED)
            continue
        tokens.append(text)
        if index not in added:
            types.append(_piece_type(text) if is_pieces else gguf.TokenType.NORMAL)
        elif added[index].special or text in special or _looks_special(text):
            types.append(gguf.TokenType.CONTROL)
        else:
            # llama.cpp looks for these in the text as it is, before blanks become SentencePiece's.
            tokens[-1] = text.replace(BLANK, " ") if is_pieces else text
            types.append(gguf.TokenType.USER_DEFINED)
    if len(set(tokens)) != len(tokens):
        # llama.cpp ends the whole process on a repeated token.
        raise UserError("The tokeniser has two tokens with the same text; it cannot be exported.")
    return tuple(tokens), tuple(int(item) for item in types)


def _piece_type(text: str) -> gguf.TokenType:
    return gguf.TokenType.BYTE if is_byte(text) else gguf.TokenType.NORMAL


def _looks_special(text: str) -> bool:
    """Turn markers some tokenisers forget to call special; llama.cpp's converter does the same."""
    return (
        (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<unused") and text.endswith(">"))
        or text in ("<mask>", "<2mass>", "[@BOS@]")
    )


def _declared_stop_ids(folder: Path) -> list[int] | int | None:
    path = folder / "generation_config.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError):
        return None


def _special_ids(
    tokenizer: Any, stop_tokens: tuple[str, ...], stop_ids: tuple[int, ...]
) -> dict[str, int]:
    """Ids by role. llama.cpp stops at eos, eot and eom; other stop tokens it knows by name.

    It also guesses eot by name, and which of two it finds is chance, so it is always told.
    """
    if not stop_ids:
        raise UserError("The tokeniser has no token that ends an answer; set its eos_token.")
    by_text = [
        tokenizer.convert_tokens_to_ids(text)
        for text in stop_tokens
        if text in tokenizer.get_added_vocab()
    ]
    eos = tokenizer.eos_token_id
    eos = stop_ids[0] if eos is None else eos
    eot = next(iter(by_text), eos)
    roles = {
        "bos": tokenizer.bos_token_id,
        "eos": eos,
        "eot": eot,
        "eom": next((item for item in stop_ids if item not in (eos, eot)), None),
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    return {role: int(index) for role, index in roles.items() if index is not None}


def _added_ends(tokenizer: Any) -> tuple[bool, bool]:
    """Whether encoding a text adds bos before and eos after it; asked of the tokeniser itself."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for add_bos in (False, True):
        for add_eos in (False, True):
            expected = [tokenizer.bos_token_id] * add_bos + plain
            expected += [tokenizer.eos_token_id] * add_eos
            if full == expected:
                return add_bos, add_eos
    raise UserError(
        "The tokeniser adds tokens around every text that are neither bos nor eos; "
        "llama.cpp cannot do that."
    )


def exported_template(tokenizer: Any, arguments: dict[str, Any]) -> str:
    """The template, with the family's arguments as its defaults and a place for a system turn.

    Training and generation pass these arguments; programs that run the GGUF do not, and would
    ask the model differently from how it was trained. Jinja drops the line break after a block
    here, so the rest renders as it did. A template without a system role gets the turns as
    `fit_turns` makes them, whoever renders it.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default", "")
    if not template:
        return ""
    defaults = "".join(
        f"{{% set {name} = {_jinja(value)} if {name} is not defined else {name} %}}\n"
        for name, value in arguments.items()
        if name in template
    )
    prelude = "" if tokenizer_has_system_role(tokenizer, arguments) else MERGING_PRELUDE
    return defaults + prelude + template


def _jinja(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)


def _stripping(tokenizer: Any) -> tuple[str, ...]:
    """Special tokens that swallow the white space after them, in order of their ids."""
    found = sorted(tokenizer.added_tokens_decoder.items())
    return tuple(token.content for _, token in found if token.rstrip)


def _strips_as_phi3(
    stripping: tuple[str, ...], tokens: tuple[str, ...], types: tuple[int, ...]
) -> bool:
    """Whether the stripping tokens are those of llama.cpp's rule for models named Phi-3.

    That is every special token but `<s>`, `<unk>` and `<|endoftext|>` (llama-vocab.cpp). A model
    with such a name that lacks one of these or `</s>` does not load at all.
    """
    if not {*_PHI3_KEEPING, "</s>"} <= set(tokens):
        return False
    whole = (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
    special = {text for text, kind in zip(tokens, types, strict=True) if kind in whole}
    return bool(stripping) and set(stripping) == special - _PHI3_KEEPING


def _warnings(
    tokenizer: Any, pre: str, space_prefix: SpacePrefix, stripping: tuple[str, ...]
) -> tuple[str, ...]:
    found = [
        f"llama.cpp cuts {entry['differs']}, in other places than the tokeniser."
        for entry in _known_pre_tokenizers()
        if entry["name"] == pre and "differs" in entry
    ]
    left = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.lstrip or token.single_word
    ]
    if left or stripping:
        names = ", ".join([*left, *stripping][:3])
        found.append(f"llama.cpp keeps the spaces around {names}, which the tokeniser drops.")
    if space_prefix == "always":
        found.append(
            "Other programs than this one read a blank after a special token as two blanks."
        )
    return tuple(found)
