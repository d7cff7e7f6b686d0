"""Everything about service LLMs on the Settings page, in a module that is slow to load."""

from __future__ import annotations

from collections.abc import Callable

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.models.services_view import ServicesView, read_services
from llamaduo_gui.gui.panels.keys_card import KeysCard
from llamaduo_gui.gui.panels.own_values import limit_values, price_values
from llamaduo_gui.gui.panels.own_values_card import OwnValuesCard


class ServiceCards:
    """The cards of keys, limits and prices.

    Attributes:
        read_services: reads what `show_services` shows; takes time.
    """

    read_services = staticmethod(read_services)

    def __init__(
        self, secrets: SecretStore, background: Background, show_error: Callable[[str], None]
    ) -> None:
        self.keys = KeysCard(secrets, background, show_error)
        self.limits = OwnValuesCard(limit_values())
        self.prices = OwnValuesCard(price_values())

    def show_services(self, view: ServicesView) -> None:
        """Show limits and prices, and offer the addresses of the project's services."""
        self.limits.show_services(view)
        self.prices.show_services(view)
        self.keys.set_services([use.service for use in view.uses if use.is_in_project])
