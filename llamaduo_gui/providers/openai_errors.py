"""Turns whatever the openai SDK raises into one sentence and the right kind of error."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llamaduo_gui.core.errors import (
    FatalProviderError,
    ProviderError,
    RequestRejectedError,
    TransientProviderError,
)
from llamaduo_gui.core.secrets import ENVIRONMENT_VARIABLES
from llamaduo_gui.providers.base import RateLimitedError, UnreachableError
from llamaduo_gui.providers.retry_after import retry_after_s

LONGEST_DETAIL = 200
NO_CONNECTION = {"ConnectError", "ConnectTimeout"}

_NO_MODEL = {"model_not_found", "model_not_available", "DeploymentNotFound"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_BAD_KEY = {"invalid_api_key", "API_KEY_INVALID"}
_BAD_KEY_TEXT = re.compile(r"(invalid|incorrect|not valid).{0,20}api key|api key.{0,10}not valid")
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|too many tokens|prompt is too long"
)
_FILTERED = re.compile(r"content[ _](filter|policy|management)|moderation|safety system")
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


def read_problem(body: object) -> Problem:
    """Find message and code in the shapes of error body that servers are known to send."""
    if isinstance(body, list) and body:
        return read_problem(body[0])
    if not isinstance(body, Mapping):
        text = body if isinstance(body, str) else ""
        is_page = text.lstrip().startswith("<")
        return Problem("" if is_page else text)
    for key in ("error", "detail"):
        if isinstance(body.get(key), str | Mapping | list) and body[key]:
            return read_problem(body[key])
    message = body.get("message") or body.get("msg") or ""
    code = body.get("code") or body.get("type") or ""
    return Problem(str(message), str(code), str(body.get("param") or ""))


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
        """`provider:model`."""
        return f"{self.provider}:{self.model}"

    def from_exception(self, error: Exception, timeout_s: float) -> ProviderError:
        """The error for an exception of the SDK (or a TimeoutError, or a decoding error)."""
        import openai

        if isinstance(error, openai.APIStatusError):
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            return self.from_status(error.status_code, error.body, headers)
        if isinstance(error, TimeoutError | openai.APITimeoutError) and not _is_no_connection(
            error
        ):
            return TransientProviderError(
                f"{self.name} did not answer within {timeout_s:g} s; if that is usual for it, "
                "raise timeout_s."
            )
        if isinstance(error, openai.APIConnectionError):
            return self._no_connection(error)
        if isinstance(error, openai.APIError):
            code = read_problem(error.body).code
            status = int(code) if code.isdecimal() else 500
            return self.from_status(status if 400 <= status < 600 else 500, error.body, {})
        return self.unreadable(f"not valid JSON ({type(error).__name__})")

    def from_status(self, status: int, body: object, headers: Mapping[str, str]) -> ProviderError:
        """The error for an HTTP status that is not a success."""
        problem = read_problem(body)
        said = self._said(problem)
        wait_s = retry_after_s(headers)
        if status == 402 or problem.code in _NO_CREDIT:
            return FatalProviderError(
                f"{self.name} has no credit left ({status}{said}); top the account up and resume."
            )
        if status == 429:
            return RateLimitedError(
                f"{self.name} asks for fewer requests (429{said}).", retry_after_s=wait_s
            )
        if status >= 500 or status in _PASSING:
            return TransientProviderError(
                f"{self.name} has a passing fault ({status}{said}); try again later.",
                retry_after_s=wait_s,
            )
        return self._refused(status, problem, said)

    def _refused(self, status: int, problem: Problem, said: str) -> ProviderError:
        """The error for a request that will not succeed as it is."""
        is_bad_key = problem.code in _BAD_KEY or _BAD_KEY_TEXT.search(problem.text)
        if status == 401 or (status in (400, 403) and is_bad_key):
            return self._no_access(status)
        if status == 403:
            return FatalProviderError(
                f"{self.name} refuses access ({status}{said}); check that the key may use "
                "this model."
            )
        if status == 404 or problem.code in _NO_MODEL:
            return FatalProviderError(
                f"{self.name} was not found at {self.address} ({status}{said}); check the model's "
                "name, and that base_url ends as the server wants it (often /v1)."
            )
        if _TOO_LONG.search(problem.text):
            return RequestRejectedError(
                f"{self.name} cannot take a prompt this long ({status}{said}); shorten the "
                "record or choose a model with a longer context."
            )
        if _FILTERED.search(problem.text):
            return RequestRejectedError(
                f"{self.name} refused this prompt by its content filter ({status}{said}); "
                "change or leave out the record."
            )
        return RequestRejectedError(
            f"{self.name} rejected the request ({status}{said}); check the model and its settings."
        )

    def _no_access(self, status: int) -> ProviderError:
        """Without the server's own text: some echo the key."""
        variables = ENVIRONMENT_VARIABLES.get(self.provider, ())
        where = f"in Settings or in {variables[0]}" if variables else "in Settings"
        if self.key is None:
            return FatalProviderError(
                f"{self.name} wants an API key ({status}) and none is set; set one {where}."
            )
        return FatalProviderError(
            f"{self.name} did not accept the API key ({status}); set the right one {where}."
        )

    def _no_connection(self, error: Exception) -> ProviderError:
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            return FatalProviderError(
                f"{self.name}: the certificate of {self.address} is not trusted; check base_url "
                "or install the certificate."
            )
        if _is_no_connection(error):
            return UnreachableError(
                f"{self.name} cannot be reached at {self.address}; check that the server is "
                "running, the network, and base_url."
            )
        return TransientProviderError(
            f"The connection to {self.name} broke before its reply was complete; try again later."
        )

    def unreadable(self, what: str) -> ProviderError:
        """The error for a success whose body is not a chat completion."""
        return TransientProviderError(
            f"{self.name} sent a reply that cannot be read: {what}; check the server's log."
        )

    def web_page(self) -> ProviderError:
        """The error for a web page where a reply should be, before any reply ever came."""
        return FatalProviderError(
            f"{self.name}: {self.address} answers with a web page and not as an API; "
            "check base_url (it often ends in /v1)."
        )

    def _said(self, problem: Problem) -> str:
        """The server's own words, short, on one line and without the key."""
        text = " ".join(problem.message.split()).rstrip(".")
        if self.key:
            text = text.replace(self.key, "[key]")
        if len(text) > LONGEST_DETAIL:
            text = text[: LONGEST_DETAIL - 3] + "..."
        return f": {text}" if text else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _is_no_connection(error: BaseException) -> bool:
    # By name: the SDK moved from httpx to httpx2, and either may be there.
    return any(type(cause).__name__ in NO_CONNECTION for cause in _causes(error))


def is_web_page(body: Any) -> bool:
    """Whether a response body is HTML."""
    return isinstance(body, str) and body.lstrip()[:15].lower().startswith(("<!doctype", "<html"))
