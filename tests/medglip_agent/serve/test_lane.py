"""One lane: who leaves stops the job, what fails is raised, and the lane is free again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from medglip_agent.serve.lane import Lane


async def first_of(lane: Lane, text: str) -> str:
    async with aclosing(lane.run(lambda: iter(text))) as events:
        return await anext(events)


def test_a_job_that_nobody_listens_to_stops_at_its_next_event() -> None:
    ran: list[int] = []
    left = threading.Event()

    def job() -> Iterator[int]:
        yield 0
        left.wait(10)
        for number in (1, 2, 3):
            ran.append(number)
            yield number

    async def run() -> str:
        lane = Lane()
        async with aclosing(lane.run(job)) as events:
            await anext(events)
        left.set()
        return await first_of(lane, "next")

    assert asyncio.run(run()) == "n" and ran == [1]


def test_what_a_job_raises_is_raised_after_its_events() -> None:
    def job() -> Iterator[int]:
        yield 1
        raise KeyError("of the job")

    async def run() -> list[int]:
        lane, seen = Lane(), []
        with pytest.raises(KeyError, match="of the job"):
            async for event in lane.run(job):
                seen.append(event)
        assert await first_of(lane, "next") == "n"
        return seen

    assert asyncio.run(run()) == [1]
