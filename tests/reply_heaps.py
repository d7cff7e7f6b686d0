"""Replies of all kinds for property tests: pieces of a good one, any characters, in any order."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

# What parsers stumble over: controls, marks, digits of other scripts, half a surrogate pair, and
# every kind of space and quote.
_CHARACTERS = (
    *("".join(map(chr, range(9, 127)))),
    *("\x00\x1b\x7f\x85\xa0\xad\xe9\u0301\u0661\u200b\u2028\u202e\u3000\ufeff\uff1a\uff5b"),
    *("\u201c\u201d\u2018\u00ab\u4e2d\u0e01\U0001f600\ud800\udfff\ufffd\uffff"),
)


def reply_heaps(pieces: Sequence[str], good: str) -> st.SearchStrategy[str]:
    """Heaps of pieces and characters, alone or put into a good reply, whole or cut off there.

    One draw of bytes makes an example: ten thousand take seconds, and they still shrink.
    """
    table = [*pieces, *_CHARACTERS]
    # Every piece twice as likely as a character.
    table = [*pieces, *table][:256]

    def build(data: bytes) -> str:
        if not data:
            return good
        kind, heap = data[0], "".join(table[byte % len(table)] for byte in data[2:])
        place = data[1] * len(good) // 255 if len(data) > 1 else 0
        if kind < 96:
            return heap
        return good[:place] + heap + (good[place:] if kind < 192 else "")

    return st.binary(max_size=24).map(build)
