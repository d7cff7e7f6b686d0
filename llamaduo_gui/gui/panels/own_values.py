"""What the cards of limits and of prices on the Settings page show, ask and keep."""

from __future__ import annotations

from collections.abc import Sequence

from llamaduo_gui.core.config import PriceConfig
from llamaduo_gui.core.service_settings import set_own_limits, set_own_price
from llamaduo_gui.gui.dialogs.own_values import LimitFields, PriceFields
from llamaduo_gui.gui.models.services_view import (
    PROJECT_FILE,
    ServiceUse,
    limit_row,
    price_row,
    project_limits,
)
from llamaduo_gui.gui.panels.own_values_card import OwnValues
from llamaduo_gui.gui.widgets.text_table import TextColumn

_NO_SERVICES = (
    "No project with a service LLM is open, and you have set none. "
    "Add a service to set your own for every project."
)


def limit_values() -> OwnValues:
    """Requests and tokens a minute, and requests at once."""
    return OwnValues(
        title="Limits",
        subtitle="how hard a service may be used, in every project",
        noun="limits",
        columns=(
            TextColumn("Service"),
            TextColumn("Requests a minute", is_number=True),
            TextColumn("Tokens a minute", is_number=True),
            TextColumn("At once", is_number=True),
            TextColumn("Set in"),
        ),
        is_shown=lambda use: use.is_in_project or use.own_limits is not None,
        row=limit_row,
        has_own=lambda use: use.own_limits is not None,
        fields=lambda use: LimitFields(use.own_limits if use else None),
        dialog_notes=_limit_notes,
        note=_limit_note,
        store=set_own_limits,
    )


def price_values() -> OwnValues:
    """Dollars a million tokens."""
    return OwnValues(
        title="Prices",
        subtitle="US dollars a million tokens",
        noun="price",
        columns=(
            TextColumn("Service"),
            TextColumn("Input", is_number=True),
            TextColumn("Cached input", is_number=True),
            TextColumn("Output", is_number=True),
            TextColumn("Source"),
        ),
        is_shown=lambda use: use.is_in_project or use.own_price is not None,
        row=price_row,
        has_own=lambda use: use.own_price is not None,
        fields=lambda use: PriceFields(_shown_price(use)),
        dialog_notes=_price_notes,
        note=_price_note,
        store=set_own_price,
    )


def _limit_notes(use: ServiceUse | None) -> Sequence[str]:
    notes = ["Kept for you on this computer; they count in every project, from its next step on."]
    if use is not None and (words := project_limits(use)):
        notes.append(
            f"The open project's {PROJECT_FILE} sets {words}, which comes before your own; change "
            "that in the project's settings."
        )
    return notes


def _limit_note(uses: Sequence[ServiceUse]) -> tuple[str, bool]:
    if not uses:
        return _NO_SERVICES, False
    text = (
        f"What a project's {PROJECT_FILE} sets comes before your own limits. Without a limit the "
        "pace follows what the service itself allows."
    )
    return text, False


def _price_notes(use: ServiceUse | None) -> Sequence[str]:
    notes = ["Kept for you on this computer; it counts in every project, before the price list."]
    if use is not None and use.service.price is not None:
        notes.append(
            f"The open project's {PROJECT_FILE} sets a price itself, which comes before your own."
        )
    return notes


def _price_note(uses: Sequence[ServiceUse]) -> tuple[str, bool]:
    if not uses:
        return _NO_SERVICES, False
    unknown = [use.name for use in uses if use.price is None]
    if unknown:
        text = (
            f"No price is known for {' and '.join(unknown)}: select it and press Edit to enter "
            "one. Until then its calls are counted without their cost, and no run with a budget "
            "starts."
        )
        return text, True
    parts = [f"A price in a project's {PROJECT_FILE} comes first, then your own, then the list."]
    prices = [use.price for use in uses if use.price is not None]
    if any(price.as_of for price in prices):
        parts.append("The date is that of the newest price change in the list.")
    if any(price.is_tiered for price in prices):
        parts.append("+ means that long prompts cost more.")
    return " ".join(parts), False


def _shown_price(use: ServiceUse | None) -> PriceConfig | None:
    """The own price, or the price in force to start from."""
    if use is None or use.own_price is not None or use.price is None:
        return use.own_price if use else None
    price = use.price
    return PriceConfig(input=price.input, output=price.output, cached_input=price.cached_input)
