"""The endpoint itself: an ASGI application and the server that runs it on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from llamaduo_gui.core.errors import LlamaDuoError, UserError
from llamaduo_gui.serving import wire
from llamaduo_gui.serving.answerers import Answer, Answerer, Ending
from llamaduo_gui.serving.routing import Router

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
ANSWERED_BY = "x-llamaduo-answered-by"
MOST_BODY_BYTES = 16 << 20
_LEFT_CHECK_S = 0.25
_SHUTDOWN_S = 3


def make_app(router: Router, key: str | None) -> Starlette:
    """The application: `/v1/chat/completions`, `/v1/models` and `/health`.

    A page in a browser cannot use it: other host names are refused, and a request has to say
    that it is JSON, for which browsers ask first and get no leave.

    Args:
        router: who answers.
        key: what clients have to send as their API key, None for none.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    async def health(_: Request) -> Response:
        return _json({"status": "ok", "plan": router.plan})

    async def models(_: Request) -> Response:
        names = [answerer.name for answerer in router.answerers]
        items = [
            {"id": name, "object": "model", "created": 0, "owned_by": "llamaduo-gui"}
            for name in names
        ]
        return _json({"object": "list", "data": items})

    async def chat(request: Request) -> Response:
        return await _chat(router, request)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", _guarded(models, key)),
            Route("/v1/chat/completions", _guarded(chat, key), methods=["POST"]),
        ],
        middleware=[hosts],
    )


def open_socket(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes any that is free.

    Raises:
        UserError: the port is in use or not allowed.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
        opened.listen()
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Port {port} of {HOST} cannot be used ({reason}); choose another with --port."
        ) from error
    return opened


def run_server(router: Router, key: str | None, opened: socket.socket) -> None:
    """Serve until Ctrl+C or SIGTERM; answers under way get three seconds to end."""
    import uvicorn

    # No access log: it would be the only place where what clients send is written down.
    config = uvicorn.Config(
        make_app(router, key),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )

    class Server(uvicorn.Server):  # type: ignore[misc]  # not analysed: it is optional
        """Ends answers under way before it waits for them."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            router.stop()
            await super().shutdown(sockets)
            await router.close()

    # uvicorn raises the signal that ended it once more.
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=[opened])


def _guarded(
    handle: Callable[[Request], Awaitable[Response]], key: str | None
) -> Callable[[Request], Awaitable[Response]]:
    """Refuse requests without the key, and tell errors as JSON."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
            text = "The API key is not the one this endpoint was started with."
            return _json(wire.error_document(text, "invalid_api_key"), 401)
        try:
            return await handle(request)
        except LlamaDuoError as error:
            status, code = wire.error_status(error)
            return _json(wire.error_document(str(error), code), status)

    return guarded


async def _chat(router: Router, request: Request) -> Response:
    from starlette.responses import StreamingResponse

    if "json" not in request.headers.get("content-type", ""):
        text = "The content type of a request is application/json."
        return _json(wire.error_document(text, "invalid_request"), 415)
    asked = wire.read_request(await _read_body(request))
    if not asked.is_streamed:
        answerer, answer = await _unless_left(request, router.complete(asked.question))
        document = wire.answer_document(answer, answerer.name)
        return _json(document, headers=_headers(answerer))
    answerer, pieces = await router.stream(asked.question)
    events = _events(answerer, pieces, wants_usage=asked.wants_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers=_headers(answerer))


async def _read_body(request: Request) -> object:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise UserError("The request is too large.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("The request is not valid JSON.") from None


async def _unless_left(request: Request, work: Any) -> tuple[Answerer, Answer]:
    """Wait for an answer, and stop it when its client is gone."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_LEFT_CHECK_S))[0]:
            if await request.is_disconnected():
                raise LlamaDuoError("The client has left.")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    result: tuple[Answerer, Answer] = task.result()
    return result


async def _events(
    answerer: Answerer, pieces: AsyncGenerator[str | Ending], *, wants_usage: bool
) -> AsyncIterator[bytes]:
    """The events of a streamed answer; an error on the way is the last of them."""
    writer = wire.ChunkWriter(answerer.name)
    ending, is_first = Ending(), True
    try:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Ending):
                    ending = piece
                    continue
                yield writer.text(piece, is_first=is_first)
                is_first = False
    except LlamaDuoError as error:
        yield wire.encode_event(wire.error_document(str(error), wire.error_status(error)[1]))
        return
    yield writer.end(ending, wants_usage=wants_usage)


def _headers(answerer: Answerer) -> dict[str, str]:
    return {ANSWERED_BY: "local" if answerer.is_local else "service"}


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    body = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, media_type="application/json", headers=headers)
