"""What stands before every request: whose name was called, who calls, and what is logged about it.

An ASGI middleware of its own, shared by the chat interface and the MCP server. Logs states and times, never
contents.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import time
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..redact import place_of
from .errors import ApiError, internal_error

MIN_TOKEN: Final = 16
OPEN_PATH: Final = "/health"  # needs no token
_LOCAL_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

logger = logging.getLogger("medglip.serve")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_for(host: str, token: str | None) -> Collection[str] | None:
    """Return the names under which a server on `host` may be called; None for any.

    A page in a browser can make its own name point to this machine; its requests then carry that name.

    Raises:
        ValueError: other machines reach the server and there is no token, or it is short.
    """
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii()):
        raise ValueError(f"a token must have at least {MIN_TOKEN} ASCII characters, got {len(token)}")
    if is_loopback(host):
        return _LOCAL_NAMES | {host}
    if token is None:
        raise ValueError(
            f"expected a token, since other machines reach {host}: put one into a file and give --token-file"
        )
    return None


class Guard:
    """Checks name and token, and turns any error into a reply without a traceback."""

    def __init__(
        self, app: ASGIApp, *, token: str | None = None, names: Collection[str] | None = None
    ) -> None:
        """Stand before `app`.

        Args:
            app: the application.
            token: what the Authorization header must bear; None = nothing.
            names: what the Host header may say, without port; None = anything.
        """
        self._app, self._token, self._names = app, token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = secrets.token_hex(8)
        start, status = time.perf_counter(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, note)
        except ApiError as error:
            await error.response()(scope, receive, note)
        except Exception as error:
            logger.error("%s: %s", request_id, place_of(error))
            if not status:
                await internal_error(request_id).response()(scope, receive, note)
        path = scope["path"] if status not in (401, 403, 404) else "-"  # which may be anything
        logger.info(
            "%s %s %s %d %.3f s", request_id, scope["method"], path, status, time.perf_counter() - start
        )

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._names is not None:
            name = headers.get("host", "")
            name = name if name.endswith("]") else name.rpartition(":")[0] or name
            if name not in self._names:
                raise ApiError(403, "this server answers to the name of this machine only", code="wrong_host")
        if self._token is None or scope["path"] == OPEN_PATH:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not same:
            raise ApiError(401, "give the server's token as Authorization: Bearer", code="invalid_api_key")


async def read_body(request: Request, max_bytes: int, within_s: float) -> bytes:
    """Return the JSON body of a request.

    A content type that browsers do not send unasked to other sites is required.

    Raises:
        ApiError: it is no JSON, too large, or comes too slowly.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the Content-Type must be application/json")
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                size += len(piece)
                if size <= max_bytes:
                    body += piece
                elif size > 2 * max_bytes:  # until then the rest is discarded: who still writes cannot listen
                    break
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {within_s:g} s; send it again") from None
    if size > max_bytes:
        raise ApiError(413, f"the body may have up to {max_bytes} bytes; send a smaller image")
    return bytes(body)
