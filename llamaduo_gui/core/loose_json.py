"""Reads JSON that a model wrote almost right."""

from __future__ import annotations

from typing import Any

# What json-repair raises on texts that are hardly JSON: besides ValueError and RecursionError an
# AssertionError (0.64, a fence in the place of a key); the rest are what such slips look like.
_FAILURES = (ValueError, RecursionError, AssertionError, LookupError, TypeError, AttributeError)


def repair_json(text: str, *, is_broken: bool = False) -> Any:
    """The value a forgiving parser sees in `text`, or None where even that sees none.

    Args:
        text: it takes quadratic time on nonsense (10,000 opening braces 0.3 s), so the caller
            limits its length.
        is_broken: a strict parser has failed on it already.
    """
    import json_repair

    try:
        return json_repair.loads(text, skip_json_loads=is_broken)
    except _FAILURES:
        return None
