"""Phantoms as training sets: a COCO folder for each modality, so that they are read like any other set."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..boxes import xyxy_to_xywh
from .coco import CocoSet, read_coco
from .phantoms import MODALITIES, Phantom, make_phantom

_FIRST_SEED = 10_000  # apart from the examples and tests, which count from 0


def phantom_sets(folder: Path, count: int) -> list[CocoSet]:
    """Draw ``count`` phantoms of each modality into ``folder`` (once) and read them as training sets.

    Every phantom of a modality is annotated for all labels of that modality, as :class:`CocoSet` asks.
    """
    for modality in tqdm(MODALITIES, desc="drawing phantoms", disable=(folder / "done").exists()):
        if not (folder / "done").exists():
            write_phantom_set(folder / f"phantom_{modality.lower()}", modality, count)
    (folder / "done").touch()
    return [read_coco(folder / f"phantom_{modality.lower()}", "train") for modality in MODALITIES]


def write_phantom_set(folder: Path, modality: str, count: int, first_seed: int = _FIRST_SEED) -> None:
    """Write ``train.json`` (COCO; boxes xywh in pixels) and ``images/`` with ``count`` phantoms."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    phantoms = [make_phantom(modality, first_seed + number) for number in range(count)]
    labels = sorted({phrase for phantom in phantoms for phrase in phantom.regions.asked})
    images, annotations = [], []
    for number, phantom in enumerate(phantoms):
        name = f"{number:05d}.png"
        Image.fromarray(phantom.image.pixels).save(folder / "images" / name)
        height, width = phantom.image.size
        record = {"id": number, "file_name": name, "height": height, "width": width}
        images.append(record | {"modality_code": modality})
        annotations += _annotations(phantom, number, labels, len(annotations))
    categories = [{"id": index, "name": label} for index, label in enumerate(labels)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))


def _annotations(phantom: Phantom, image_id: int, labels: list[str], first_id: int) -> list[dict]:
    return [
        {
            "id": first_id + index,
            "image_id": image_id,
            "category_id": labels.index(region.phrase),
            "bbox": xyxy_to_xywh(region.box).tolist(),
        }
        for index, region in enumerate(phantom.regions)
    ]
