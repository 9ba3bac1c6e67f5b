"""Blocks computed by Ray Data, on this machine or on many; the parts are those of the process pool.

Owns the hand-over to Ray alone. Parts are written by the workers, so the folder must be seen by all machines;
only counts come back. Needs the extra ``scale``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from ..records import Unit
from .blocks import Block, Workshop, build_block

_AT_ONCE: Final = 32
"""Blocks handed over at once, for each worker; the next ones are listed when these are done."""


def compute(workshop: Workshop, blocks: Iterator[Block], workers: int) -> Iterator[Counter[str]]:
    """Compute blocks; yields the counts of each.

    Args:
        workshop: what the workers need; its readers must be importable where they run.
        blocks: listed only as fast as they are computed.
        workers: blocks computed at a time; CPUs of the Ray that is started here, unless one runs already or
            RAY_ADDRESS names a cluster.

    Raises:
        ImportError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    try:
        import ray
        from ray.data import DataContext
    except ImportError as error:
        raise ImportError(
            "expected Ray Data; install it with `pip install 'med-glip-agent[scale]'`"
        ) from error
    started = not ray.is_initialized()
    if started and os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    elif started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        DataContext.get_current().enable_progress_bars = False
        while some := [_as_item(block) for block in islice(blocks, workers * _AT_ONCE)]:
            data = ray.data.from_items(some, override_num_blocks=len(some))
            done = data.map(partial(_compute_item, workshop=workshop), concurrency=workers)
            for item in done.iter_rows():
                yield Counter(json.loads(item["counts"]))
    finally:
        if started:
            ray.shutdown()


def _compute_item(item: dict[str, Any], workshop: Workshop) -> dict[str, Any]:
    units = tuple(Unit(key, payload) for key, payload in json.loads(item["units"]))
    counts = build_block(workshop, Block(item["number"], item["source"], units))
    return {"counts": json.dumps(counts)}


def _as_item(block: Block) -> dict[str, Any]:
    """A block as a row of numbers and text, which Arrow carries as they are."""
    units = json.dumps([[unit.key, unit.payload] for unit in block.units])
    return {"number": block.number, "source": block.source, "units": units}
