"""Token hashes of many texts at once, in numpy: the bulk form of `text.tokenise` + `hash_tokens`.

A corpus of a quarter of a million texts is tokenised in seconds this way, on as many threads as
there are cores (numpy lets go of the interpreter lock inside its loops). ASCII texts are cut and
hashed as bytes; any other text takes the way of the regular expression in `text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from llamaduo_gui.data.text import (
    HASH_BASE,
    HashArray,
    hash_tokens,
    is_sign,
    is_word,
    mix,
    tokenise,
)

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Characters worked on at a time: the arrays of a batch stay in a core's cache.
BATCH_CHARACTERS = 1 << 19
_SPACE, _WORD, _SIGN, _MINUS, _DIGIT = 0, 1, 2, 4, 8
_RIGHT_PARENTHESIS = ord(")")
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Token hashes of several texts, one after the other.

    Attributes:
        hashes: shape (tokens,).
        offsets: shape (texts + 1,); text i has `hashes[offsets[i]:offsets[i + 1]]`.
    """

    hashes: HashArray
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Offsets:
        """Tokens of each text, shape (texts,)."""
        return np.diff(self.offsets)

    def owners(self) -> npt.NDArray[np.int64]:
        """The text each token belongs to, shape (tokens,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def keep(self, is_kept: npt.NDArray[np.bool_]) -> TokenBatch:
        """The batch without some tokens; `is_kept` has shape (tokens,)."""
        before = np.concatenate((np.zeros(1, np.int64), np.cumsum(is_kept, dtype=np.int64)))
        return TokenBatch(self.hashes[is_kept], before[self.offsets])

    def has_run(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether the `size` tokens from each on are of one text; for `hash_ngrams` of `hashes`.

        Returns:
            Shape (max(0, tokens - size + 1),).
        """
        count = max(0, len(self.hashes) - size + 1)
        owners = self.owners()
        result: npt.NDArray[np.bool_] = owners[:count] == owners[size - 1 : size - 1 + count]
        return result


def cut_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about `BATCH_CHARACTERS`."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def tokenise_batch(texts: Sequence[str]) -> TokenBatch:
    """Token hashes of each text, equal to `hash_tokens(tokenise(text))`."""
    slow = {index: text for index, text in enumerate(texts) if not text.isascii()}
    batch = _tokenise_ascii(["" if index in slow else text for index, text in enumerate(texts)])
    # What has no token of the usual kind (punctuation alone) is one token, if it is not blank.
    for index in np.flatnonzero(batch.lengths == 0).tolist():
        if texts[index].strip():
            slow[index] = texts[index]
    return _with_texts(batch, slow) if slow else batch


def _with_texts(batch: TokenBatch, slow: dict[int, str]) -> TokenBatch:
    """Put the hashes of the texts left out, which have no tokens in the batch, in their place."""
    hashed = {index: hash_tokens(tokenise(slow[index])) for index in sorted(slow)}
    lengths = batch.lengths.copy()
    pieces: list[HashArray] = []
    start = 0
    for index, hashes in hashed.items():
        end = int(batch.offsets[index])
        pieces += [batch.hashes[start:end], hashes]
        lengths[index] = len(hashes)
        start = end
    pieces.append(batch.hashes[start:])
    return TokenBatch(np.concatenate(pieces), _offsets(lengths))


def _tokenise_ascii(texts: Sequence[str]) -> TokenBatch:
    # A blank between two texts ends the token before it.
    data = np.frombuffer(" ".join(texts).encode("ascii") + b" ", np.uint8)
    starts, ends = _token_bounds(data)
    sums = np.zeros(len(data) + 1, np.uint64)
    powers, inverses = _powers(len(data))
    np.cumsum(_lower_table()[data] * powers, out=sums[1:])
    hashes = mix((sums[ends] - sums[starts]) * inverses[starts])
    text_starts = _offsets(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))
    return TokenBatch(hashes, np.searchsorted(starts, text_starts).astype(np.int64))


def _token_bounds(data: Bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First byte of every token, and the one after its last, in order."""
    kind = _kind_table()[data]
    is_in_word = (kind & _WORD) != 0
    before = np.concatenate((np.zeros(1, np.bool_), is_in_word[:-1]))
    after = np.concatenate((is_in_word[1:], np.zeros(1, np.bool_)))
    is_alone = (kind & _SIGN) != 0
    minus = np.flatnonzero(kind & _MINUS)
    if len(minus):
        follows = before[minus] | (data[np.maximum(minus - 1, 0)] == _RIGHT_PARENTHESIS)
        # The last byte is a blank, so there is always a next one.
        is_alone[minus[~follows & ((kind[minus + 1] & _DIGIT) != 0)]] = True
    starts = np.flatnonzero((is_in_word & ~before) | is_alone)
    ends = np.flatnonzero((is_in_word & ~after) | is_alone) + 1
    return starts, ends


def _offsets(lengths: npt.NDArray[np.int64]) -> Offsets:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))


@lru_cache(maxsize=1)
def _kind_table() -> Bytes:
    """What each byte can be part of; the regular expression of `text` decides."""
    table = np.zeros(256, np.uint8)
    for code in range(128):
        character = chr(code)
        if is_word(character):
            table[code] = _WORD | (_DIGIT if character.isdigit() else 0)
        elif is_sign(character):
            table[code] = _SIGN
    table[ord("-")] = _MINUS
    return table


@lru_cache(maxsize=1)
def _lower_table() -> HashArray:
    """What a byte adds to its token's hash: see `text.hash_token`."""
    codes = [ord(chr(code).lower()) + 1 if code < 128 else 0 for code in range(256)]
    return np.array(codes, np.uint64)


@lru_cache(maxsize=4)
def _power_tables(size: int) -> tuple[HashArray, HashArray]:
    inverse = pow(HASH_BASE, -1, 1 << 64)
    tables = []
    for base in (HASH_BASE, inverse):
        factors = np.full(size, base & _MASK, np.uint64)
        factors[0] = 1
        tables.append(np.multiply.accumulate(factors))
    return tables[0], tables[1]


def _powers(count: int) -> tuple[HashArray, HashArray]:
    """HASH_BASE to the power of 0, 1, ... and the same of its inverse, modulo 2**64."""
    size = 2 * BATCH_CHARACTERS
    while size < count:
        size *= 2
    powers, inverses = _power_tables(size)
    return powers[:count], inverses[:count]
