"""How one endpoint wants its requests put: what it turned down once is not sent again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from llamaduo_gui.providers.base import ChatRequest
from llamaduo_gui.providers.endpoint import Problem, well_formed

LengthParameter = Literal["max_tokens", "max_completion_tokens"]
SchemaMode = Literal["json_schema", "json_object", "plain"]

_NEXT_MODE: dict[SchemaMode, SchemaMode] = {"json_schema": "json_object", "json_object": "plain"}
_ABOUT_FORMAT = re.compile(
    r"response[_ ]?format|json[_ ]?schema|json[_ ]?object|json mode|structured|guided|grammar"
)
# A complaint about a value out of range is the user's to settle, and does not match.
_NOT_TAKEN = re.compile(
    r"unsupported|not support|only the default|deprecated|not (allowed|permitted)|unrecognized"
)


class Dialect:
    """The parameters of chat completions as one endpoint takes them.

    Starts with the most and steps down when the endpoint complains: a JSON schema, then any JSON
    object, then plain text; `max_tokens`, then its newer name; with, then without a temperature
    (reasoning models take none).
    """

    def __init__(self, length_parameter: LengthParameter) -> None:
        self._length_parameter = length_parameter
        self._mode: SchemaMode = "json_schema"
        self._takes_temperature = True

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        """The body of a request, for a live one and for a line of a batch alike."""
        parameters: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": message.role, "content": well_formed(message.content)}
                for message in request.messages
            ],
            self._length_parameter: request.max_tokens,
        }
        if request.temperature is not None and self._takes_temperature:
            parameters["temperature"] = request.temperature
        if request.top_p is not None:
            parameters["top_p"] = request.top_p
        if request.seed is not None:
            parameters["seed"] = request.seed
        if request.reply_schema is not None and self._mode == "json_object":
            parameters["response_format"] = {"type": "json_object"}
        elif request.reply_schema is not None and self._mode == "json_schema":
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": request.reply_schema.name,
                    "schema": dict(request.reply_schema.schema),
                    "strict": True,
                },
            }
        return parameters

    def optional(self) -> dict[str, Any]:
        """The parameters that a request may have now and that an endpoint may turn down."""
        may_have: dict[str, Any] = {"temperature": 0} if self._takes_temperature else {}
        if self._mode != "plain":
            may_have["response_format"] = {"type": self._mode}
        return may_have

    def adapt(self, problem: Problem, sent: Mapping[str, Any]) -> bool:
        """Remember what the endpoint does not take; True if the request is worth repeating.

        Args:
            problem: what it said.
            sent: the parameters it said it of.
        """
        said = problem.text
        if "max_tokens" in sent and "max_completion_tokens" in said:
            self._length_parameter = "max_completion_tokens"
            return True
        if "temperature" in sent and "temperature" in said and _NOT_TAKEN.search(said):
            self._takes_temperature = False
            return True
        form = sent.get("response_format", {}).get("type")
        if form is None or not _ABOUT_FORMAT.search(said):
            return False
        # Requests that were under way together complain together: step down once.
        if form == self._mode:
            self._mode = _NEXT_MODE[self._mode]
        return True
