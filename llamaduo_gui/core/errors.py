"""The exceptions of the application: user errors apart from bugs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class LlamaDuoError(Exception):
    """Root of every exception this application raises on purpose."""


class UserError(LlamaDuoError):
    """Something the user can put right; the text is one sentence that says what to do next.

    Attributes:
        detail: the same for a program, JSON-able, with a `kind`; empty for most.
    """

    detail: Mapping[str, Any] = MappingProxyType({})


class ConfigError(UserError):
    """A configuration file or value is not valid."""


class DataError(UserError):
    """A dataset could not be read or is not fit for use."""


class BudgetReachedError(UserError):
    """The next call would cross the budget; nothing was sent, and raising it lets the job go on."""


class ProviderError(LlamaDuoError):
    """A service LLM could not be used; the text names provider, model and next step.

    Attributes:
        retry_after_s: seconds the service asked to wait, or None.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class FatalProviderError(ProviderError, UserError):
    """No request to this endpoint can succeed (wrong key, unknown model, unreachable)."""


class RequestRejectedError(ProviderError):
    """This one request cannot succeed (bad request, refused by a filter); others may."""


class TransientProviderError(ProviderError):
    """The request may succeed when it is sent again (rate limit, overload, lost connection).

    Attributes:
        may_be_paid: it was sent, and its reply never came or is spoilt; the service may charge.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, may_be_paid: bool = False
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.may_be_paid = may_be_paid


class JobCancelledError(LlamaDuoError):
    """The user asked the job to stop; finished work is kept."""
