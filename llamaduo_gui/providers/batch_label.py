"""The name a batch is handed in under; it also tells when that was and how many requests it has."""

from __future__ import annotations

import re
import time
import uuid
from typing import NamedTuple

_LABEL = re.compile(r"llamaduo-(\d{1,12})-(\d{1,9})-[0-9a-f]{16}", re.ASCII)


class LabelFacts(NamedTuple):
    """What a label tells: seconds since the epoch by this computer's clock, and requests."""

    made_at: float
    total: int


def make_label(total: int) -> str:
    """A name no other batch has, for one of `total` requests that is handed in now.

    At most 64 characters. Where a service keeps no names, a batch whose id was lost can still be
    recognised by what the label tells.
    """
    return f"llamaduo-{time.time():.0f}-{total}-{uuid.uuid4().hex[:16]}"


def read_label(label: str) -> LabelFacts | None:
    """What a label tells, None if it was not made by `make_label`."""
    found = _LABEL.fullmatch(label)
    return LabelFacts(float(found[1]), int(found[2])) if found else None
