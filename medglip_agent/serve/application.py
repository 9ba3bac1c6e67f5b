"""The application: /v1/chat/completions, /v1/models, /health.

Owns the routes and how errors are told. The queue is `lane.py`, the work `answering.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from grounding.probe import Limits
from llm.types import Step

from .. import NOTICE
from ..audit import AuditLog
from ..exports import models_of
from ..redact import place_of
from ..uploads import UploadError
from .answering import Answering, Reply
from .chat_request import MODEL, read_chat
from .errors import ApiError, internal_error
from .guard import OPEN_PATH, Guard, read_body
from .lane import JobTimeoutError, Lane, LaneBusyError, LaneFullError, LaneLimits
from .replies import DONE, Completion, TextFlow, server_sent

if TYPE_CHECKING:
    from ..agent import MedGLIPAgent

T = TypeVar("T")
_Events = AsyncGenerator[Step | str | Reply, None]

logger = logging.getLogger("medglip.serve")


@dataclass(frozen=True)
class Settings:
    """How the server behaves.

    Attributes:
        token: what requests must bear; None = nothing.
        names: what the Host header may say; None = anything.
        limits: of images.
        lane: of the queue.
        read_s: longest time for a body to arrive, seconds.
        audit: the audit log; None = none.
    """

    token: str | None = None
    names: Collection[str] | None = None
    limits: Limits = field(default_factory=Limits)
    lane: LaneLimits = field(default_factory=LaneLimits)
    read_s: float = 30.0
    audit: AuditLog | None = None

    @property
    def max_body_bytes(self) -> int:
        """Of a request: the largest image in base64, and 4 MiB of conversation."""
        return self.limits.max_bytes * 4 // 3 + (4 << 20)


def build_app(agent: MedGLIPAgent, settings: Settings) -> ASGIApp:
    """Return the ASGI application that answers with `agent`."""
    chat = ChatServer(agent, settings)
    routes = [
        Route("/v1/chat/completions", chat.complete, methods=["POST"]),
        Route("/v1/models", chat.list_models),
        Route(f"/v1/models/{MODEL}", chat.show_model),
        Route(OPEN_PATH, chat.health),
    ]
    known = (ApiError, UploadError, LaneFullError, LaneBusyError, JobTimeoutError, ClientDisconnect)
    app = Starlette(
        routes=routes,
        exception_handlers={**dict.fromkeys([*known, HTTPException], _refuse), Exception: _fail},
    )
    return Guard(app, token=settings.token, names=settings.names)


class ChatServer:
    """The routes, around one queue to one agent."""

    def __init__(self, agent: MedGLIPAgent, settings: Settings) -> None:
        """Hash the models' weights once."""
        self._settings = settings
        self._answering = Answering(agent, models_of(agent), settings.limits, settings.audit)
        self._lane = Lane(settings.lane)
        self._started = int(time.time())

    async def health(self, request: Request) -> Response:
        """Say that the server is up, and how many requests it holds."""
        return JSONResponse({"status": "ok", "requests": self._lane.admitted})

    async def list_models(self, request: Request) -> Response:
        """List the one model there is."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def show_model(self, request: Request) -> Response:
        """Show it."""
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        parts = {model.role: model.name for model in self._answering.models}
        head = {"id": MODEL, "object": "model", "created": self._started, "owned_by": "med-glip-agent"}
        return {**head, "models": parts, "notice": NOTICE}

    async def complete(self, request: Request) -> Response:
        """Answer a chat request, whole or as a stream."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._lane.admission())
            body = await read_body(request, self._settings.max_body_bytes, self._settings.read_s)
            chat = await asyncio.to_thread(read_chat, body)
            del body
            events = self._lane.run(partial(self._answering.events, chat))
            held.push_async_callback(events.aclose)
            if chat.stream:  # what is wrong with the image is told by the status
                first = await _while_connected(request, anext(events))
                return _HeldStream(_server_sent_events(events, first, request), held.pop_all())
            return JSONResponse(Completion().whole(await _while_connected(request, _reply(events))))


async def _reply(events: _Events) -> Reply:
    async for event in events:
        if isinstance(event, Reply):
            return event
    raise RuntimeError("expected a reply at the end of the agent's events, got none")


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Return what `work` gives; give it up at once when the client leaves.

    Raises:
        ClientDisconnect: it left.
    """

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.create_task(leaving())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)  # the queue has then been left


class _HeldStream(StreamingResponse):
    """A stream that gives back its place in the queue when it ends, however it ends."""

    def __init__(self, content: AsyncIterator[bytes], held: AsyncExitStack) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _server_sent_events(
    events: _Events, first: Step | str | Reply, request: Request
) -> AsyncIterator[bytes]:
    completion, flow = Completion(), TextFlow()
    yield completion.chunk({"role": "assistant", "content": ""})
    try:
        event = first
        while not isinstance(event, Reply):
            if isinstance(event, str) and (text := flow.piece(event)):
                yield completion.chunk({"content": text})
            event = await anext(events)
        if text := flow.end(event.text):
            yield completion.chunk({"content": text})
        yield completion.chunk({}, event)
    except Exception as error:  # the status is sent: the stream itself has to tell
        told = _told(error)
        if told is None:
            logger.error("%s: %s", request.scope["request_id"], place_of(error))
            told = internal_error(request.scope["request_id"])
        yield server_sent(told.body())
    yield DONE


def _told(error: Exception) -> ApiError | None:
    """Return what the client is told about an error that is no fault of ours; None for one that is."""
    match error:
        case ApiError():
            return error
        case UploadError():
            return ApiError(400, str(error), param="messages", code="invalid_image")
        case LaneFullError():
            return ApiError(429, "too many requests are waiting; try again in a while", code="queue_full")
        case LaneBusyError():
            return ApiError(503, "the models were busy for too long; try again in a while", code="busy")
        case JobTimeoutError():
            return ApiError(504, "the answer took too long and was stopped", code="timeout")
        case ClientDisconnect():
            return ApiError(400, "the connection was closed early")
        case HTTPException():
            return ApiError(error.status_code, f"{error.detail}; see /v1/models and /v1/chat/completions")
    return None


async def _refuse(request: Request, error: Exception) -> Response:
    told = _told(error)
    assert told is not None
    return told.response()


async def _fail(request: Request, error: Exception) -> Response:
    return internal_error(request.scope["request_id"]).response()  # the guard logs it
