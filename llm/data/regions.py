"""Regions written beforehand: one JSON line a question, ``{"qid": .., "regions": Regions.to_dict()}``.

A line may name the grounder that wrote it (``"grounder_sha256"``); a file holds the regions of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grounding.types import Regions


def read_regions(path: Path | str) -> dict[str, Regions]:
    """Regions of each question by its ``qid``.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: A line is no such record, a question occurs twice, or two grounders wrote the file; the
            line is named.
    """
    found: dict[str, Regions] = {}
    writers = set()
    for number, record in _records(Path(path)):
        try:
            qid, regions = str(record["qid"]), Regions.from_dict(record["regions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number} is not a record with qid and regions: {error!r}") from error
        if qid in found:
            raise ValueError(f"{path}:{number} repeats question {qid}; write the file again")
        found[qid] = regions
        writers.add(_writer(record))
        if len(writers) > 1:
            raise ValueError(
                f"{path}:{number} is of another grounder than the lines before; write the file again"
            )
    return found


def region_writer(path: Path | str) -> str | None:
    """Fingerprint of the grounder that wrote a file (see `grounding.Grounder`), as its first line says.

    None where no grounder of ours wrote it; "" where one did before fingerprints were kept.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The line is no record.
    """
    return next((_writer(record) for _, record in _records(Path(path))), None)


def _writer(record: Any) -> str | None:
    return str(record.get("grounder_sha256", "")) if "grounder" in record else None


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and JSON of each line that is not empty."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is absent; write it with"
            f" `python -m medglip_agent.evidence --data-dir DIR --split SPLIT --out {path}`"
        )
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number} is not JSON: {error}") from error
