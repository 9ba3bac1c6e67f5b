"""Reading a body: who sends it slowly, or without an end, is not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from medglip_agent.serve.errors import ApiError
from medglip_agent.serve.guard import read_body


def read(receive: Callable[[], Awaitable[dict[str, Any]]], *, within_s: float) -> bytes:
    scope = {"type": "http", "headers": [(b"content-type", b"application/json; charset=utf-8")]}
    return asyncio.run(read_body(Request(scope, receive), 1000, within_s))


def test_a_body_comes_in_pieces() -> None:
    pieces = iter((b"[1", b", 2]"))

    async def receive() -> dict[str, Any]:
        piece = next(pieces)
        return {"type": "http.request", "body": piece, "more_body": piece == b"[1"}

    assert read(receive, within_s=10) == b"[1, 2]"


def test_a_slow_body_is_given_up() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    with pytest.raises(ApiError, match=r"within 0\.05 s") as told:
        read(receive, within_s=0.05)
    assert told.value.status == 408


def test_a_body_without_an_end_is_read_to_twice_its_bound() -> None:
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        await asyncio.sleep(0)
        sent += 100
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    with pytest.raises(ApiError, match="up to 1000 bytes") as told:
        read(receive, within_s=10)
    assert told.value.status == 413 and sent == 2100
