"""One lane to the models: one job at a time, a bounded number waiting, each for a bounded time.

Knows no HTTP and no model. A job is a generator that runs in a thread; what it yields arrives on the event
loop. Who leaves, leaves: the job is stopped at its next event, and the lane is free again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class LaneFullError(Exception):
    """As many are waiting as may."""


class LaneBusyError(Exception):
    """The turn did not come in time."""


class JobTimeoutError(Exception):
    """The job took too long; it was stopped."""


@dataclass(frozen=True)
class LaneLimits:
    """How many wait, and how long.

    Attributes:
        waiting: requests that may be open besides the one that runs.
        wait_s: longest wait for the turn, seconds.
        run_s: longest run, seconds.
    """

    waiting: int = 32
    wait_s: float = 120.0
    run_s: float = 300.0


class _End(Generic[T]):
    """The end of a job: well, or with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


class Lane:
    """Serialises jobs; use one per process."""

    def __init__(self, limits: LaneLimits | None = None) -> None:
        """Start empty."""
        self.limits = limits or LaneLimits()
        self.admitted = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")

    @asynccontextmanager
    async def admission(self) -> AsyncIterator[None]:
        """Hold a place, so that a body is only read for who may wait.

        Raises:
            LaneFullError: none is free.
        """
        if self.admitted > self.limits.waiting:
            raise LaneFullError
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def run(self, job: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Yield what `job` yields, once its turn has come.

        Raises:
            LaneBusyError: the turn did not come within `wait_s`.
            JobTimeoutError: it ran longer than `run_s`.
            Exception: what the job raises.
        """
        try:
            async with asyncio.timeout(self.limits.wait_s):
                await self._turn.acquire()
        except TimeoutError:
            raise LaneBusyError from None
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[T | _End[T]] = asyncio.Queue()
        stopped = threading.Event()
        running = self._thread.submit(
            _pump, job, stopped, lambda event: loop.call_soon_threadsafe(events.put_nowait, event)
        )
        # A job cannot be killed: the turn passes on when it has really ended, even if nobody listens.
        running.add_done_callback(lambda _: _call_if_open(loop, self._turn.release))
        deadline = loop.time() + self.limits.run_s
        try:
            while True:
                event = await asyncio.wait_for(events.get(), deadline - loop.time())
                if isinstance(event, _End):
                    break
                yield event
        except TimeoutError:
            raise JobTimeoutError from None
        finally:
            stopped.set()
        if event.error is not None:
            raise event.error


def _pump(
    job: Callable[[], Iterator[T]], stopped: threading.Event, put: Callable[[T | _End[T]], object]
) -> None:
    """Run the job, handing over each event; stop between two events when told to."""
    try:
        for event in job():
            if stopped.is_set():
                break
            put(event)
        end: _End[T] = _End()
    except Exception as error:  # handed to the listener, who raises it
        end = _End(error)
    if not stopped.is_set():
        put(end)


def _call_if_open(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
