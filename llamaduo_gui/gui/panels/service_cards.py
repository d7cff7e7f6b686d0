"""Everything about service LLMs on the Settings page, in a module that is slow to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llamaduo_gui.core.secrets import SecretStore
from llamaduo_gui.gui.background import Background
from llamaduo_gui.gui.models.services_view import ServicesView, read_services
from llamaduo_gui.gui.panels.keys_card import KeysCard, read_keys
from llamaduo_gui.gui.panels.own_values import limit_values, price_values
from llamaduo_gui.gui.panels.own_values_card import OwnValuesCard

if TYPE_CHECKING:
    from llamaduo_gui.store.project import Project


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

    @staticmethod
    def read(secrets: SecretStore, project: Project | None) -> None:
        """Read all that the cards show, so that reading it again is quick; takes time."""
        read_keys(secrets)
        read_services(project)

    def show_services(self, view: ServicesView) -> None:
        """Show limits and prices, and offer the addresses of the project's services."""
        self.limits.show_services(view)
        self.prices.show_services(view)
        self.keys.set_services([use.service for use in view.uses if use.is_in_project])
