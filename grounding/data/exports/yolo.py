"""Native rows as YOLO: ``<folder>/<data set>/data.yaml``, ``images/<split>/``, ``labels/<split>/``.

A line is ``class cx cy w h`` as fractions of the picture with 12 significant digits. YOLO has no place for
masks beside boxes, for phrases, raw labels and the label tree, for patients, geometry and modality, nor for
labels that nobody looked for: trainers take every class without a box for absent. Licences of pictures are
told in ``data.yaml`` for the data set as a whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from ...boxes import normalize_boxes
from ..schema import SPLITS, iterate_rows
from .report import (
    NOTICE,
    ExportReport,
    PictureNames,
    Row,
    Tally,
    categories_of,
    new_folder,
    safe_name,
    write_picture,
)

LOSSES: Final[tuple[str, ...]] = (
    *("masks", "raw labels", "phrases", "hierarchy", "region attributes", "image attributes", "patients"),
    *("geometry", "modalities", "absences", "partial annotation"),
)


def export_yolo(source: Path, folder: Path, split: str | None = None) -> ExportReport:
    """Write a built data set for YOLO.

    Args:
        source: what ``medglip data build`` wrote.
        folder: a new or empty folder.
        split: train, val or test; None for all.

    Raises:
        FileNotFoundError: the source is no built data set.
        FileExistsError: the folder holds files.
    """
    categories = categories_of(source, split)
    new_folder(folder)
    tally, names, licences = Tally(LOSSES, categories), PictureNames(), dict[str, set[str]]()
    numbers = {name: {label: n for n, label in enumerate(own)} for name, own in categories.items()}
    for row in iterate_rows(source, split):
        name, place = names.of(row), folder / safe_name(row["dataset"])
        write_picture(place / "images" / row["split"] / name, row)
        labels = place / "labels" / row["split"] / f"{Path(name).stem}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(f"{line}\n" for line in label_lines(row, numbers[row["dataset"]])))
        licences.setdefault(row["dataset"], set()).add(row["licence"])
        tally.add(row)
    for name, own in numbers.items():
        place = folder / safe_name(name)
        content: dict[str, Any] = {"path": "."}
        content |= {word: f"images/{word}" for word in SPLITS if (place / "images" / word).is_dir()}
        content |= {"names": {number: label for label, number in own.items()}}
        content |= {"license": "; ".join(sorted(licences[name])), "description": f"{name}. {NOTICE}"}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (place / "data.yaml").write_text(text, encoding="utf-8")
    return tally.report(folder)


def label_lines(row: Row, numbers: dict[str, int]) -> list[str]:
    """One line a region: its class, and cx cy w h as fractions of the picture."""
    size = (row["height"], row["width"])
    boxes = np.array([region["box"] for region in row["regions"]], dtype=np.float64).reshape(-1, 4)
    return [
        " ".join([str(numbers[region["label"]]), *(f"{value:.12g}" for value in fractions)])
        for region, fractions in zip(row["regions"], normalize_boxes(boxes, size), strict=True)
    ]
