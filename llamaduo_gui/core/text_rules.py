"""Prepares text for llama.cpp's tokeniser, so that it reads it as the trainer's tokeniser did."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Keys of the GGUF that the export writes for what llama.cpp has no setting for.
NORMALIZER_KEY = "llamaduo.normalizer"
SPACE_PREFIX_KEY = "llamaduo.space_prefix"
STRIP_AFTER_KEY = "llamaduo.strip_after"
# gguf token types whose text is found in a prompt before it is cut into words.
_WHOLE_TOKEN_TYPES = (2, 3, 4)
_BLANKS = (" ", "\u2581")
_BLANK_RUN = "  "
# Unicode's White_Space, as the tokenizers library has it; Python's \s also has \x1c to \x1f.
_WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


class TextRules:
    """What has to be done to a text before llama.cpp cuts it into tokens.

    llama.cpp never normalises text, keeps the blanks after special tokens (but for models whose
    `general.name` contains "phi-3"), and puts SentencePiece's blank in front of every piece of text
    between special tokens or of none. The file says what the tokeniser did instead:

    - `llamaduo.normalizer` = NFC: Qwen's normalisation, which leaves special tokens alone;
    - `llamaduo.strip_after`: tokens that swallow the white space after them;
    - `llamaduo.space_prefix` = first: a blank in front of the whole text, unless it begins with a
      blank or a special token (the file's own add_space_prefix is false);
      always: one in front of every piece that does not begin with one (add_space_prefix is true);
      a piece that is nothing but a blank is read as two.

    Where runs of blanks are tokens (Gemma), llama.cpp looks for them before blanks become U+2581:
    one that is in the text already has to be a blank by then.

    Args:
        metadata: of the GGUF.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._has_blank_runs = _BLANK_RUN in metadata.get("tokenizer.ggml.tokens", ())
        self._is_nfc = metadata.get(NORMALIZER_KEY) == "NFC"
        self._prefix = metadata.get(SPACE_PREFIX_KEY)
        self._strips = frozenset(metadata.get(STRIP_AFTER_KEY, ()))
        has_rules = self._is_nfc or self._prefix or self._strips
        self._whole_tokens = _whole_tokens(metadata) if has_rules else None

    def apply(self, text: str) -> str:
        """The text to hand to llama.cpp."""
        if self._has_blank_runs:
            text = text.replace(_BLANKS[1], _BLANKS[0])
        if self._whole_tokens is None or not text:
            return text
        parts = self._whole_tokens.split(text)
        # Special tokens stand at the odd places, what is between them at the even ones.
        for index in range(0, len(parts), 2):
            if index and parts[index - 1] in self._strips:
                parts[index] = re.sub(f"^[{_WHITE_SPACE}]+", "", parts[index])
            if self._is_nfc:
                parts[index] = unicodedata.normalize("NFC", parts[index])
            if self._prefix == "always" and parts[index].startswith(_BLANKS):
                parts[index] = parts[index][1:] or parts[index]
        if self._prefix == "first" and parts[0] and not parts[0].startswith(_BLANKS):
            parts[0] = " " + parts[0]
        return "".join(parts)


def _whole_tokens(metadata: Mapping[str, Any]) -> re.Pattern[str]:
    """Matches the tokens that are found before text is cut into words; never matches if none."""
    texts = [
        text
        for text, kind in zip(
            metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True
        )
        if kind in _WHOLE_TOKEN_TYPES
    ]
    texts.sort(key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else re.compile("(?!)")
