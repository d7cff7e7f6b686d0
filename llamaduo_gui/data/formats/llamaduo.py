"""What the published LlamaDuo code writes: synthetic pairs, and the answers of a local model.

Columns as in github.com/deep-diver/llamaduo: `generators` and `seed_prompts` beside `messages`
(src/pipeline/synth_data_gen.py), whose `prompt_id` is the same for every row; and `instructions`,
`target_responses`, `candidate_responses` (src/pipeline/batch_inference.py). Its seed prompts are
whole request texts, not identifiers of records, so they are not taken over.
"""

from __future__ import annotations

from llamaduo_gui.data.formats.base import (
    ColumnMap,
    Conversation,
    Row,
    ShapeInfo,
    first_column,
    pair,
)
from llamaduo_gui.data.rows import check_turns, parse_label, text_of

_PROMPTS = ("instructions", "prompts")
_TARGETS = ("target_responses", "responses")
_GENERATORS = ("generators", "generator")
_CATEGORIES = ("category", "categories")
_SAME_FOR_ALL = "gemini-generated"


def _claims(row: Row) -> bool:
    if row.get("messages") is not None:
        return "generators" in row or "seed_prompts" in row or row.get("prompt_id") == _SAME_FOR_ALL
    return all(first_column(row, names) is not None for names in (_PROMPTS, _TARGETS))


def _convert(row: Row) -> Conversation:
    if row.get("messages") is not None:
        messages = check_turns(row["messages"], "messages")
    else:
        columns = _columns(row)
        prompt = text_of(row[str(columns.prompt)], f"`{columns.prompt}`")
        messages = pair(prompt, text_of(row[str(columns.response)], f"`{columns.response}`"))
    category, generator = first_column(row, _CATEGORIES), first_column(row, _GENERATORS)
    return Conversation(
        messages,
        category=parse_label(row, category) if category else None,
        generator=parse_label(row, generator) if generator else None,
    )


def _columns(row: Row) -> ColumnMap:
    category = first_column(row, _CATEGORIES)
    if row.get("messages") is not None:
        return ColumnMap("messages", "messages", "messages", category)
    return ColumnMap(first_column(row, _PROMPTS), first_column(row, _TARGETS), None, category)


INFO = ShapeInfo(
    "llamaduo",
    "LlamaDuo synthetic data",
    20,
    "`generators` and `messages`, or `instructions` and `target_responses`",
    _claims,
    _convert,
    _columns,
)
