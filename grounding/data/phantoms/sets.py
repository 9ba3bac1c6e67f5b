"""Phantoms as training sets: a COCO folder for each modality, so that they are read like any other set.

    python -m grounding.data.phantoms.sets --out DIR --count 100 --modality CR --seed 0

A folder holds ``train.json`` or, with ``--split val``, ``val.json`` (boxes xywh in pixels, masks as
compressed RLE, categories with granularity) and ``images/``. Every phantom of a modality is annotated for all
labels of that modality.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...boxes import xyxy_to_xywh
from ..coco import CocoSet, read_coco
from . import MODALITIES, ORIENTATION, Phantom, make_phantom
from .canvas import SIZE, Mask
from .labels import PHANTOM_LABELS

FIRST_SEED = 10_000  # apart from the examples and tests, which count from 0


def phantom_sets(folder: Path, count: int) -> list[CocoSet]:
    """Draw ``count`` phantoms of each modality into ``folder`` (once) and read them as training sets.

    A complete folder is read as it is, with the modalities it has, so that a run that goes on sees the same.
    """
    if not (folder / "done").exists():
        write_phantom_sets(folder, count)
        (folder / "done").touch()
    drawn = [folder / _folder_name(modality) for modality in MODALITIES]
    return [read_coco(path, "train") for path in drawn if path.is_dir()]


def write_phantom_sets(
    out: Path,
    count: int,
    modalities: Sequence[str] = tuple(MODALITIES),
    first_seed: int = FIRST_SEED,
    size: int = SIZE,
    split: str = "train",
) -> list[Path]:
    """Write ``count`` phantoms of each modality into a folder of its own in ``out``; returns the folders."""
    folders = []
    for modality in tqdm(modalities, desc="drawing phantoms"):
        folders.append(out / _folder_name(modality))
        write_phantom_set(folders[-1], modality, count, first_seed, size, split)
    return folders


def write_phantom_set(
    folder: Path,
    modality: str,
    count: int,
    first_seed: int = FIRST_SEED,
    size: int = SIZE,
    split: str = "train",
) -> None:
    """Write ``<split>.json`` and ``images/`` with ``count`` phantoms, seeds from ``first_seed``.

    Raises:
        ValueError: there is no phantom of this modality or size.
    """
    labels = list(PHANTOM_LABELS.get(modality, ()))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        phantom = make_phantom(modality, first_seed + number, size)
        name = f"{number:05d}.png"
        Image.fromarray(phantom.image.pixels).save(folder / "images" / name, compress_level=3)
        record = {"id": number, "file_name": name, "height": size, "width": size}
        known = {"orientation": ORIENTATION[modality]} if modality in ORIENTATION else {}
        images.append(record | {"modality_code": modality} | known)
        annotations += _annotations(phantom, number, labels, len(annotations))
    categories = [
        {"id": index, "name": name, "granularity": PHANTOM_LABELS[modality][name].granularity}
        for index, name in enumerate(labels)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{split}.json").write_text(json.dumps(content))


def _folder_name(modality: str) -> str:
    return f"phantom_{modality.lower()}"


def _annotations(phantom: Phantom, image_id: int, labels: list[str], first_id: int) -> list[dict[str, Any]]:
    annotations = []
    for index, region in enumerate(phantom.regions):
        assert region.mask is not None
        annotations.append(
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": labels.index(region.phrase),
                "bbox": xyxy_to_xywh(region.box).tolist(),
                "area": int(region.mask.sum()),
                "iscrowd": 0,
                "segmentation": _compressed(region.mask),
            }
        )
    return annotations


def _compressed(mask: Mask) -> dict[str, Any]:
    """COCO's compressed run lengths."""
    from pycocotools.mask import encode

    packed = encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode("ascii")}


def main(argv: Sequence[str] | None = None) -> None:
    """Draw phantoms into COCO folders and say where they are."""
    parser = argparse.ArgumentParser(prog="phantom_sets", description="draw phantoms into COCO folders")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; one folder a modality is written into it"
    )
    parser.add_argument("--count", type=int, default=60, help="phantoms of each modality (default 60)")
    parser.add_argument(
        "--modality", choices=list(MODALITIES), action="append", help="repeat for several; default all"
    )
    parser.add_argument(
        "--seed", type=int, default=FIRST_SEED, help=f"of the first phantom (default {FIRST_SEED})"
    )
    parser.add_argument("--size", type=int, default=SIZE, help=f"side in pixels (default {SIZE})")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="name of the json")
    args = parser.parse_args(argv)
    for folder in write_phantom_sets(
        args.out, args.count, args.modality or tuple(MODALITIES), args.seed, args.size, args.split
    ):
        print(folder)


if __name__ == "__main__":
    main()
