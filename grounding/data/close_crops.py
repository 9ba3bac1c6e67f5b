"""Close crops of evaluation sets: with a label and without, where the set itself has no picture without it.

Every picture gives two crops of the same closeness, one that shows a box and one beside all boxes, or none.
They are written as COCO folders, to be measured like any other set:

    python -m grounding.data.close_crops --data-dir DATA --out out/close/grounding
    python benchmarks/run_grounding.py --data-dir out/close --out runs/close-crops
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

from ..boxes import xywh_to_xyxy, xyxy_to_xywh
from .coco import image_group
from .crops import Crop, close_crop, visible
from .holdout import held_out_groups

MIN_VISIBLE = 0.8
"""Share of a box that a crop must show; one that shows less of any box, but some, is not used."""
TRIES = 10


def write_close_crops(source: Path, out: Path, held_out: float = 0.0, seed: int = 0) -> int:
    """Write the crops of a set's validation part to ``out``, nothing where there are none; returns how many.

    Args:
        source: Folder of a set, with ``val.json`` or ``train.json``, and ``images/``.
        out: Folder of the new set, whose crops are its validation part.
        held_out: Take this part of the groups of ``train.json`` instead, which a training with the same
            ``hold_out`` did not see.
        seed: Of the crops; a crop depends on it and on the picture's place in the part.

    Raises:
        FileNotFoundError: The set has no such part.
    """
    path = source / ("train.json" if held_out else "val.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    if held_out:
        groups = held_out_groups(source.name, map(image_group, content["images"]), held_out)
        content["images"] = [image for image in content["images"] if image_group(image) in groups]
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, image in enumerate(content["images"]):
        own = by_image[image["id"]]
        boxes = xywh_to_xyxy(np.array([each["bbox"] for each in own], np.float32).reshape(-1, 4))
        for kind, crop in _crops(boxes, (image["width"], image["height"]), (seed, place)):
            name = f"{Path(image['file_name']).stem}_{kind}.png"
            left, top, right, bottom = crop
            changed = {"id": len(images), "file_name": name, "width": right - left, "height": bottom - top}
            images.append(image | changed)
            annotations += _annotations(own, boxes, crop, len(images) - 1, len(annotations))
            (out / "images").mkdir(parents=True, exist_ok=True)
            with Image.open(source / "images" / image["file_name"]) as picture:
                picture.crop(crop).save(out / "images" / name)
    if images:
        written = content | {"images": images, "annotations": annotations}
        (out / "val.json").write_text(json.dumps(written), encoding="utf-8")
    return len(images)


def _crops(
    boxes: np.ndarray, size: tuple[int, int], seed: tuple[int, int]
) -> list[tuple[str, tuple[int, int, int, int]]]:
    """The crops (kind, xyxy in whole pixels) of a picture with boxes (n, 4) xyxy; both kinds or none."""
    rng, found = np.random.default_rng(seed), {}
    if not len(boxes):
        return []
    for kind in ("with", "beside"):
        for _ in range(TRIES):
            crop = close_crop(boxes, size, MIN_VISIBLE, kind == "beside", rng)
            if crop is not None and _whole(visible(boxes, _pixels(crop))):
                found[kind] = _pixels(crop)
                break
    return list(found.items()) if len(found) == 2 else []


def _pixels(crop: Crop) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge) for edge in crop)
    return left, top, right, bottom


def _whole(shares: np.ndarray) -> bool:
    """Whether every box is to be seen enough, or not at all."""
    return bool(((shares == 0) | (shares >= MIN_VISIBLE)).all())


def _annotations(
    own: Sequence[dict[str, Any]],
    boxes: np.ndarray,
    crop: tuple[int, int, int, int],
    image_id: int,
    first_id: int,
) -> list[dict[str, Any]]:
    """The annotations whose boxes a crop shows, in its pixels; their masks are left out."""
    left, top, right, bottom = crop
    seen = np.flatnonzero(visible(boxes, crop) > 0)
    clipped = np.clip(boxes[seen], [left, top] * 2, [right, bottom] * 2) - [left, top, left, top]
    return [
        {key: value for key, value in own[index].items() if key != "segmentation"}
        | {
            "id": first_id + number,
            "image_id": image_id,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
        }
        for number, (index, box) in enumerate(zip(seen.tolist(), xyxy_to_xywh(clipped), strict=True))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write close crops of every set, and say how many."""
    parser = argparse.ArgumentParser(prog="python -m grounding.data.close_crops", description=main.__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds grounding/<set>/")
    parser.add_argument("--out", type=Path, required=True, help="folder; one folder a set is written into it")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="crops of the part of train that a recipe with this hold_out does not see, not of val",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops (default 0)")
    args = parser.parse_args(argv)
    part = "train" if args.held_out else "val"
    for path in tqdm(sorted(args.data_dir.glob(f"grounding/*/{part}.json")), desc="cropping"):
        count = write_close_crops(path.parent, args.out / path.parent.name, args.held_out, args.seed)
        tqdm.write(f"{path.parent.name}: {count} crops")


if __name__ == "__main__":
    main()
