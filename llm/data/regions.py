"""Regions written beforehand: one JSON line a question, ``{"qid": .., "regions": Regions.to_dict()}``."""

from __future__ import annotations

import json
from pathlib import Path

from grounding.types import Regions


def read_regions(path: Path | str) -> dict[str, Regions]:
    """Regions of each question by its ``qid``.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: A line is no such record, or a question occurs twice; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is absent; write it with"
            f" `python -m medglip_agent.evidence --data-dir DIR --split SPLIT --out {path}`"
        )
    found: dict[str, Regions] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            qid, regions = str(record["qid"]), Regions.from_dict(record["regions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number} is not a record with qid and regions: {error!r}") from error
        if qid in found:
            raise ValueError(f"{path}:{number} repeats question {qid}; write the file again")
        found[qid] = regions
    return found
