"""Native rows as ODVG jsonl for mmdetection and Open-GroundingDino; boxes are xyxy in pixels.

``<folder>/<data set>/<split>.jsonl`` with ``images/`` and, for detection, ``label_map.json``. Two variants:

- "detection": instances with a label and its number. Trainers take every label of the map that a picture
  lacks for absent, so pictures annotated for a part of the labels become wrong negatives; they are counted.
- "grounding": a caption "phrase. phrase." with regions [bbox (one, or a list), phrase, tokens_positive].

Neither has a place for masks, for what the source says beside its labels, for patients and geometry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ..schema import iterate_rows
from .report import (
    ExportReport,
    PictureNames,
    Row,
    Tally,
    append_line,
    categories_of,
    new_folder,
    safe_name,
    write_picture,
)

_BOTH: Final = (
    *("masks", "raw labels", "hierarchy", "region attributes", "image attributes", "patients", "geometry"),
    *("modalities", "absences"),
)
LOSSES: Final[dict[str, tuple[str, ...]]] = {
    "detection": (*_BOTH, "phrases", "partial annotation"),
    "grounding": (*_BOTH, "labels"),
}


def export_odvg(
    source: Path,
    folder: Path,
    split: str | None = None,
    *,
    variant: Literal["detection", "grounding"] = "detection",
) -> ExportReport:
    """Write a built data set as ODVG.

    Args:
        source: what ``medglip data build`` wrote.
        folder: a new or empty folder.
        split: train, val or test; None for all.
        variant: which of the two kinds of lines.

    Raises:
        FileNotFoundError: the source is no built data set.
        FileExistsError: the folder holds files.
        ValueError: there is no such variant.
    """
    if variant not in LOSSES:
        raise ValueError(f"expected variant to be one of {', '.join(LOSSES)}, got {variant!r}")
    categories = categories_of(source, split)
    new_folder(folder)
    numbers = {name: {label: n for n, label in enumerate(own)} for name, own in categories.items()}
    if variant == "detection":
        for name, own in numbers.items():
            path = new_folder(folder / safe_name(name)) / "label_map.json"
            label_map = {str(number): label for label, number in own.items()}
            path.write_text(json.dumps(label_map, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    tally, names = Tally(LOSSES[variant], categories), PictureNames()
    for row in iterate_rows(source, split):
        place, name = folder / safe_name(row["dataset"]), names.of(row)
        write_picture(place / "images" / name, row)
        if variant == "detection":
            own = numbers[row["dataset"]]
            content: dict[str, Any] = {"instances": [_instance(region, own) for region in row["regions"]]}
        else:
            content = grounding_of(row["regions"])
        line = {"filename": name, "height": row["height"], "width": row["width"], variant: content}
        append_line(place / f"{row['split']}.jsonl", line)
        tally.add(row)
    return tally.report(folder)


def grounding_of(regions: Sequence[Row]) -> dict[str, Any]:
    """Caption and regions: each phrase once, in the order of its first region, with all its boxes."""
    boxes: dict[str, list[list[float]]] = {}
    for region in regions:
        boxes.setdefault(region["phrase"] or region["label"], []).append(list(region["box"]))
    caption, found = "", []
    for phrase, own in boxes.items():
        span = [len(caption), len(caption) + len(phrase)]
        found.append({"bbox": own if len(own) > 1 else own[0], "phrase": phrase, "tokens_positive": [span]})
        caption += f"{phrase}. "
    return {"caption": caption.rstrip(), "regions": found}


def _instance(region: Row, numbers: dict[str, int]) -> dict[str, Any]:
    label = region["label"]
    return {"bbox": list(region["box"]), "label": numbers[label], "category": label}
