"""Masks and boxes of any reader to native rows: the pipeline.

Stage one cuts the units of all sources into blocks and computes each into a part (`blocks.py`), in a pool of
processes or through Ray Data (`ray_engine.py`). Stage two joins the parts (`finalise.py`). A part that is
there is not computed again, so a build goes on where it was killed; the same configuration and inputs give
the same bytes whatever the number of workers, the engine or the interruptions. Knows no layout and no label.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, Final, Literal, get_args

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..records import Reader
from .blocks import Block, Workshop, build_block, cut_blocks, is_done, write_atomically
from .config import BuildConfig, changed_fields, config_mapping, open_reader
from .finalise import SCHEMA_VERSION, finalise, units_digest

Engine = Literal["pool", "ray"]

PACKAGES: Final = ("numpy", "pillow", "pyarrow", "pycocotools", "scipy")
"""Whose version the bytes of the output may depend on."""

_AHEAD: Final = 2  # blocks waiting for each worker


def build(
    config: BuildConfig, out: Path, *, workers: int = 1, engine: Engine = "pool", progress: bool = True
) -> Mapping[str, Any]:
    """Build a data set, or go on with one that was interrupted.

    Args:
        config: sources, policies and thresholds.
        out: folder of the data set: absent, empty, or of an earlier call with the same configuration.
        workers: processes that compute blocks (1: this process does), or CPUs of a local Ray.
        engine: "pool" for one machine; "ray" for many, where `out` and the sources must be seen by all.
        progress: whether to show a bar.

    Returns:
        The manifest, as in ``out/manifest.json``.

    Raises:
        ValueError: the folder holds something else, or a build that differs (the fields are named).
        RuntimeError: another build runs in the folder, or a worker died.
        UnitError: a source's layout is not there.
    """
    readers = tuple(open_reader(source) for source in config.sources)
    _check_names(readers)
    _claim(config, out)
    try:
        with FileLock(out / ".lock", timeout=0):
            return _build(Workshop(config, readers, out / "parts"), out, workers, engine, progress)
    except Timeout:
        raise RuntimeError(f"another build runs in {out}; wait for it, or choose another folder") from None


def _build(workshop: Workshop, out: Path, workers: int, engine: Engine, progress: bool) -> Mapping[str, Any]:
    if (out / "manifest.json").is_file():
        return _finished(workshop, out)
    total = 0

    def unfinished(bar: Any) -> Iterator[Block]:
        nonlocal total
        for block in cut_blocks(workshop.config, workshop.readers):
            total = block.number + 1
            if is_done(workshop.parts, block):
                bar.update(len(block.units))
            else:
                yield block

    with tqdm(desc="units", unit="unit", disable=not progress) as bar:
        for counts in _computed(workshop, unfinished(bar), workers, engine):
            bar.update(counts["units"])
    manifest = finalise(workshop, total, out, _versions())
    shutil.rmtree(workshop.parts)
    return manifest


def _computed(
    workshop: Workshop, blocks: Iterator[Block], workers: int, engine: Engine
) -> Iterator[Counter[str]]:
    """The counts of each block, as they come."""
    if engine not in get_args(Engine) or workers < 1:
        raise ValueError(f"expected engine pool or ray and 1 worker or more, got {engine!r} and {workers}")
    if engine == "ray":
        from .ray_engine import compute

        return compute(workshop, blocks, workers)
    if workers == 1:
        return (build_block(workshop, block) for block in blocks)
    return _pool(workshop, blocks, workers)


def _pool(workshop: Workshop, blocks: Iterator[Block], workers: int) -> Iterator[Counter[str]]:
    """Compute blocks in processes, a bounded number of them waiting."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)
    waiting: set[Future[Counter[str]]] = set()
    try:
        for block in blocks:
            waiting.add(pool.submit(build_block, workshop, block))
            if len(waiting) >= workers * _AHEAD:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in waiting:
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker died, most likely for want of memory; call again with fewer workers or fewer "
            "block_units: finished parts are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """End this worker when the process that began the build is gone, even by kill -9."""
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _check_names(readers: tuple[Reader, ...]) -> None:
    names = [reader.info.name for reader in readers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two sources are called {', '.join(twice)}; give each its own `name`")


def _claim(config: BuildConfig, out: Path) -> None:
    """Write down what is built in the folder, or check that it is the same."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / "parts" / "build.json"
    asked: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "versions": _versions()}
    asked["config"] = config_mapping(config)
    for path in (out / "manifest.json", note):
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            if changes := changed_fields({key: there.get(key) for key in asked}, asked):
                raise ValueError(
                    f"{out} holds a build that differs; choose another folder, or delete it:\n  "
                    + "\n  ".join(changes)
                )
            return
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in ("parts", ".lock")):
        raise ValueError(f"expected an empty folder or an unfinished build, {out} holds {', '.join(foreign)}")
    note.parent.mkdir(exist_ok=True)
    write_atomically(note, json.dumps(asked).encode())


def _finished(workshop: Workshop, out: Path) -> Mapping[str, Any]:
    """The manifest of a build that needs nothing more, unless its sources list other units by now."""
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    blocks = cut_blocks(workshop.config, workshop.readers)
    if units_digest(block.digest for block in blocks) != manifest["units_sha256"]:
        raise ValueError(f"the sources list other units than when {out} was built; build into another folder")
    shutil.rmtree(workshop.parts, ignore_errors=True)
    return manifest


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}
