"""Text as it comes, from a thread of its own, so that a reader who leaves half-way holds nothing up."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue

from llm.types import Generation

Reply = tuple[str, float | None]
"""The whole text, and its confidence where the stream told it."""


def read_stream(stream: Iterator[str], lock: threading.Lock) -> Generator[str, None, Reply]:
    """Yield the pieces of `stream` as they come; return the whole text and its confidence.

    Args:
        stream: pieces of text; a generator that returns a `Generation` gives the confidence.
        lock: held while the stream runs, and freed when it ends, whether or not the pieces are read.

    Raises:
        Exception: whatever the stream raises.
    """
    queue: SimpleQueue[str | Generation | Exception | None] = SimpleQueue()
    threading.Thread(target=_pump, args=(stream, lock, queue), daemon=True).start()
    pieces: list[str] = []
    while True:
        item = queue.get()
        if isinstance(item, str):
            pieces.append(item)
            yield item
        elif isinstance(item, Exception):
            raise item
        elif isinstance(item, Generation):
            return item.text, item.confidence
        else:
            return "".join(pieces).strip(), None


def _pump(
    stream: Iterator[str], lock: threading.Lock, queue: SimpleQueue[str | Generation | Exception | None]
) -> None:
    """Put each piece into `queue`, then the generation, None, or the exception that ended the stream."""
    with lock:
        try:
            while True:
                queue.put(next(stream))
        except StopIteration as stop:
            queue.put(stop.value if isinstance(stop.value, Generation) else None)
        except Exception as error:  # handed to the reader, who raises it
            queue.put(error)
