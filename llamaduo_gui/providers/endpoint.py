"""The sentences for everything that can go wrong with a service, the same for every provider."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES
from llamaduo_gui.providers.base import RateLimitedError, RateLimits, UnreachableError
from llamaduo_gui.providers.retry_after import retry_after_s

LONGEST_DETAIL = 200
# By name: SDKs are moving from httpx to httpx2, and either may be there.
NO_CONNECTION = {"ConnectError", "ConnectTimeout"}

_NO_MODEL = {"model_not_found", "model_not_available", "DeploymentNotFound"}
_NO_MODEL_TEXT = re.compile(r"\bmodels?\b.{0,100}\b(not|doesn't) (exist|found)\b|unknown model")
_ABOUT_MODEL = re.compile(r"\bmodels?\b")
_LEFT_SERVICE = {"model_decommissioned", "model_deprecated", "model_retired"}
_LEFT_SERVICE_TEXT = re.compile(
    r"model\b(?:(?!parameter|field|argument).){0,120}\b"
    r"(deprecated|decommissioned|retired|shut ?down|sunset|discontinued|"
    r"no longer (available|supported|offered|exists)|end[- ]of[- ]life)"
)
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NO_CREDIT_TEXT = re.compile(r"credit balance is too low|insufficient (credits?|balance|funds)")
_BAD_KEY = {"invalid_api_key", "API_KEY_INVALID"}
_BAD_KEY_TEXT = re.compile(r"(invalid|incorrect|not valid).{0,20}api key|api key.{0,10}not valid")
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|too many tokens|prompt is too long|"
    r"input token count.{0,40}exceeds"
)
_FILTERED = re.compile(
    r"content[ _](filter|policy|management)|moderation|safety system|invalid_prompt|usage polic"
)
_PASSING = {408, 409, 425}


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error body says: message, machine-readable code and the parameter it blames."""

    message: str = ""
    code: str = ""
    parameter: str = ""

    @property
    def text(self) -> str:
        """Everything in lower case, for looking words up in."""
        return f"{self.code} {self.parameter} {self.message}".lower()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is spoken to, for the wording of errors.

    `key` is None where none is set; it is held to be struck out of what servers echo.
    """

    provider: str
    model: str
    address: str
    key: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """`provider:model`, or the provider alone while no model is chosen."""
        return f"{self.provider}:{self.model}" if self.model else self.provider

    def from_status(
        self,
        status: int,
        problem: Problem,
        headers: Mapping[str, str],
        limits: RateLimits | None = None,
    ) -> ProviderError:
        """The error for an HTTP status that is not a success.

        Args:
            status: the HTTP status.
            problem: what the body says.
            headers: names in lower case; `Retry-After` is read from them.
            limits: what the same headers say of rate limits; kept with a 429.
        """
        said = self.said(problem.message)
        wait_s = retry_after_s(headers)
        if status == 402 or problem.code in _NO_CREDIT or _NO_CREDIT_TEXT.search(problem.text):
            return self.no_credit(status, said)
        if status == 429:
            return RateLimitedError(
                f"{self.name} asks for fewer requests (429{said}).",
                retry_after_s=wait_s,
                limits=limits,
            )
        if status >= 500 or status in _PASSING:
            return self.passing_fault(status, said, wait_s)
        return self._refused(status, problem, said)

    def _refused(self, status: int, problem: Problem, said: str) -> ProviderError:
        """The error for a request that will not succeed as it is."""
        is_bad_key = problem.code in _BAD_KEY or _BAD_KEY_TEXT.search(problem.text)
        if status == 401 or (status in (400, 403) and is_bad_key):
            return self.no_access(status)
        if status == 403:
            return self.forbidden(status, said)
        if problem.code in _LEFT_SERVICE or _LEFT_SERVICE_TEXT.search(problem.text):
            return self.left_service(status, said)
        is_model = status == 404 and _ABOUT_MODEL.search(problem.text)
        if problem.code in _NO_MODEL or is_model or _NO_MODEL_TEXT.search(problem.text):
            return self.no_model(status, said)
        if status == 404:
            return self.not_found(status, said)
        if _TOO_LONG.search(problem.text):
            return self.too_long(status, said)
        if _FILTERED.search(problem.text):
            return self.filtered(status, said)
        return self.rejected(status, said)

    def no_access(self, status: int) -> ProviderError:
        """No key, or a wrong one. Without the server's own text: some echo the key."""
        variables = ENVIRONMENT_VARIABLES.get(self.provider, ())
        where = f"in Settings or in {variables[0]}" if variables else "in Settings"
        if self.key is None:
            return FatalProviderError(
                f"{self.name} wants an API key ({status}) and none is set; set one {where}."
            )
        return FatalProviderError(
            f"{self.name} did not accept the API key ({status}); set the right one {where}."
        )

    def forbidden(self, status: int, said: str = "") -> ProviderError:
        """The key is right and may not do this."""
        return FatalProviderError(
            f"{self.name} refuses access ({status}{said}); check that the key may use this model."
        )

    def no_credit(self, status: int, said: str = "") -> ProviderError:
        """The account is empty."""
        return FatalProviderError(
            f"{self.name} has no credit left ({status}{said}); top the account up and resume."
        )

    def no_model(self, status: int, said: str = "") -> ProviderError:
        """The endpoint has no model of this name."""
        return FatalProviderError(
            f"{self.name} is not offered at {self.address} ({status}{said}): the name is wrong, "
            "the key may not use it, or it left service; choose a model that the endpoint lists."
        )

    def left_service(self, status: int, said: str = "") -> ProviderError:
        """The model was there once."""
        return FatalProviderError(
            f"{self.name} has left service ({status}{said}); choose a model that the endpoint "
            "lists."
        )

    def not_found(self, status: int, said: str = "") -> ProviderError:
        """404 that may mean the model or the address."""
        return FatalProviderError(
            f"{self.name} was not found at {self.address} ({status}{said}); check the model's "
            "name, and that base_url ends as the server wants it (often /v1)."
        )

    def too_long(self, status: int, said: str = "") -> ProviderError:
        """The prompt does not fit the model's context."""
        return RequestRejectedError(
            f"{self.name} cannot take a prompt this long ({status}{said}); shorten the "
            "record or choose a model with a longer context."
        )

    def filtered(self, status: int, said: str = "") -> ProviderError:
        """A content filter turned the prompt down."""
        return RequestRejectedError(
            f"{self.name} refused this prompt by its content filter ({status}{said}); "
            "change or leave out the record."
        )

    def rejected(self, status: int, said: str = "") -> ProviderError:
        """Any other request that cannot succeed."""
        return RequestRejectedError(
            f"{self.name} rejected the request ({status}{said}); check the model and its settings."
        )

    def passing_fault(
        self, status: int, said: str = "", wait_s: float | None = None
    ) -> ProviderError:
        """A fault of the server's own."""
        return TransientProviderError(
            f"{self.name} has a passing fault ({status}{said}); try again later.",
            retry_after_s=wait_s,
        )

    def timed_out(self, timeout_s: float) -> ProviderError:
        """No answer within the time allowed."""
        return TransientProviderError(
            f"{self.name} did not answer within {timeout_s:g} s; if that is usual for it, "
            "raise timeout_s.",
            may_be_paid=True,
        )

    def adapting(self) -> ProviderError:
        """The same request will be put in another way at once."""
        return TransientProviderError(
            f"{self.name} does not take a parameter; asking without it.", retry_after_s=0.0
        )

    def no_connection(self, error: BaseException) -> ProviderError:
        """What an exception of the HTTP client below an SDK means, told by its causes."""
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
            return FatalProviderError(
                f"{self.name}: the certificate of {self.address} is not trusted; check base_url "
                "or install the certificate."
            )
        if is_no_connection(error):
            return UnreachableError(
                f"{self.name} cannot be reached at {self.address}; check that the server is "
                "running, the network, and base_url."
            )
        return TransientProviderError(
            f"The connection to {self.name} broke before its reply was complete; try again later.",
            may_be_paid=True,
        )

    def unreadable(self, what: str) -> ProviderError:
        """A success whose body is not what it should be; `what` is a clause."""
        return TransientProviderError(
            f"{self.name} sent a reply that cannot be read: {what}; check the server's log.",
            may_be_paid=True,
        )

    def web_page(self) -> ProviderError:
        """A web page where a reply should be, before any reply ever came."""
        return FatalProviderError(
            f"{self.name}: {self.address} answers with a web page and not as an API; "
            "check base_url (it often ends in /v1)."
        )

    def no_list(self) -> ProviderError:
        """The endpoint does not tell its models."""
        return RequestRejectedError(
            f"{self.provider} at {self.address} does not list its models; type the model's name."
        )

    def said(self, message: str) -> str:
        """The server's own words behind a colon: short, on one line, without the key."""
        text = " ".join(well_formed(message).split()).rstrip(".")
        if self.key:
            text = text.replace(self.key, "[key]")
        if len(text) > LONGEST_DETAIL:
            text = text[: LONGEST_DETAIL - 3] + "..."
        return f": {text}" if text else ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def is_no_connection(error: BaseException) -> bool:
    """Whether no connection could be made, so that nothing was sent."""
    return any(type(cause).__name__ in NO_CONNECTION for cause in causes(error))


def well_formed(text: str) -> str:
    """`text` without lone surrogates, which JSON may hold and a database or a pipe refuses."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_this_machine(address: str) -> bool:
    """Whether a URL points to the machine it is used on."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_web_page(body: object) -> bool:
    """Whether a response body is HTML."""
    return isinstance(body, str) and body.lstrip()[:15].lower().startswith(("<!doctype", "<html"))
