"""Text as sets and sequences of tokens: normalisation, tokens, hashed n-grams, exact keys."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

HashArray = npt.NDArray[np.uint64]

# Scripts written without spaces between words: every character is a token, since a whole
# sentence as one token could only ever match itself.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
# Punctuation of prose is no token ("top-up" equals "top up", "Hi!" equals "hi"); any other sign is
# one, since 2+3 is not 2*3. A minus counts where it can only be a sign, before a number.
_PROSE = r".,;:!?'\"`()\[\]{}\-\u2010-\u2015\u2018-\u201f\u2026\u3001\u3002\uff01\uff0c\uff1f"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|(?<![\w)])-(?=\d)|[^\w\s{_PROSE}]")
_SPACE = re.compile(r"\s+")

_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
# Odd, so that it has an inverse modulo 2**64.
HASH_BASE = 0xD6E8FEB86659FD93
_MAX_CACHED_TOKENS = 500_000


def normalise(text: str) -> str:
    """Fold away what does not make a text another one: compatibility forms, case and spacing."""
    return _SPACE.sub(" ", _fold(text)).strip()


def _fold(text: str) -> str:
    # For ASCII, lower() is the same as NFKC and casefold, and several times faster.
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def text_key(text: str) -> str:
    """Identity of a normalised text, 32 hexadecimal digits; equal keys are exact duplicates."""
    data = normalise(text).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:32]


def tokenise(text: str) -> list[str]:
    """Tokens of the normalised text: words, numbers, signs, single characters of CJK and Thai.

    A text of nothing but prose punctuation is one token, so that "?!" still differs from "...".
    """
    folded = _fold(text)
    if tokens := _TOKEN.findall(folded):
        return tokens
    return [rest] if (rest := normalise(text)) else []


def is_word(character: str) -> bool:
    """Whether a character is part of a word or number."""
    return _TOKEN.fullmatch(character * 2) is not None


def is_sign(character: str) -> bool:
    """Whether a character is a token by itself wherever it stands."""
    return not is_word(character) and _TOKEN.fullmatch(character) is not None


def hash_token(token: str) -> int:
    """64-bit hash of a token, the same in every process.

    A polynomial in its UTF-8 bytes, each plus one, modulo 2**64, then mixed. `token_batches`
    computes it for a whole corpus with one running sum, which is why it is a polynomial.
    """
    value, factor = 0, 1
    for byte in token.encode("utf-8", "surrogatepass"):
        value += (byte + 1) * factor
        factor = factor * HASH_BASE & _MASK
    return int(mix(np.array([value & _MASK], np.uint64))[0])


class _TokenHashes(dict[str, int]):
    """Hashes of tokens, remembered: a corpus repeats its words."""

    def __missing__(self, token: str) -> int:
        if len(self) >= _MAX_CACHED_TOKENS:
            self.clear()
        value = hash_token(token)
        self[token] = value
        return value


_token_hashes = _TokenHashes()


def hash_tokens(tokens: Sequence[str]) -> HashArray:
    """64-bit hash of each token, the same in every process."""
    return np.fromiter(map(_token_hashes.__getitem__, tokens), np.uint64, len(tokens))


def hash_ngrams(hashes: HashArray, size: int) -> HashArray:
    """Hash of every run of `size` tokens, in order; empty if there are fewer tokens.

    Args:
        hashes: token hashes, shape (tokens,).
        size: tokens a run, at least 1.

    Returns:
        Shape (max(0, tokens - size + 1),).
    """
    count = len(hashes) - size + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    total = np.zeros(count, np.uint64)
    factor = _ODD
    for offset in range(size):
        total += hashes[offset : offset + count] * np.uint64(factor)
        factor = factor * _ODD & _MASK
    return mix(total)


def mix(values: HashArray) -> HashArray:
    """Spread 64-bit values over the whole range (the finaliser of splitmix64, Steele 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: HashArray = mixed ^ (mixed >> np.uint64(31))
    return result
