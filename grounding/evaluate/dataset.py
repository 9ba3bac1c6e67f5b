"""From a COCO set on disk to a grounder's detections: every image is asked for all labels of its set.

Asking for all category names in one prompt, present or not, makes a false box on an absent category cost
precision; every box is kept with its score (`box_threshold=0.0`). A grounder is anything with `ground_batch`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.coco import modality_code  # training and evaluation must name modalities alike
from ..tiling import BatchGrounder
from ..types import MedicalImage
from .coco import DetectionResult, regions_to_coco, score_detections


def detect_dataset(
    grounder: BatchGrounder,
    coco: Mapping[str, Any],
    image_dir: str | Path,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Ground every image of a COCO set with all its category names.

    Args:
        grounder: has `ground_batch`.
        coco: a COCO dictionary.
        image_dir: folder that `file_name` is relative to.
        batch_size: images a call.
        progress: called with (images done, images in all) after each batch.

    Returns:
        COCO results (`bbox` = xywh, pixels of the original image).

    Raises:
        ValueError: an image file's size differs from the one stated in the set (its boxes would be in another
            frame).
    """
    phrases = [c["name"] for c in coco["categories"]]
    category_ids = [c["id"] for c in coco["categories"]]
    records = coco["images"]
    detections: list[dict[str, Any]] = []
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        images = [
            open_image(Path(image_dir) / r["file_name"], (r["height"], r["width"]), modality_code(dict(r)))
            for r in batch
        ]
        found = grounder.ground_batch(images, [phrases] * len(images), box_threshold=0.0)
        for record, regions in zip(batch, found, strict=True):
            detections += regions_to_coco(regions, record["id"], category_ids)
        if progress is not None:
            progress(start + len(batch), len(records))
    return detections


def open_image(path: Path, image_size: tuple[int, int], modality: str | None) -> MedicalImage:
    """Read an image and check it against its annotations.

    Args:
        path: the picture.
        image_size: (height, width) that the annotations state.
        modality: DICOM code, or None.

    Raises:
        ValueError: the sizes differ.
    """
    image = MedicalImage.open(path, modality=modality)
    if image.size != image_size:
        raise ValueError(
            f"{path}: expected (height, width) {image_size} from the annotations, got {image.size}; "
            "boxes and image belong to different versions of the set"
        )
    return image


def evaluate_dataset(
    grounder: BatchGrounder,
    coco_json: str | Path,
    image_dir: str | Path,
    *,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionResult:
    """COCO figures of a grounder on one set: `detect_dataset` followed by `score_detections`.

    Args:
        grounder: has `ground_batch`.
        coco_json: annotation file.
        image_dir: folder of the images.
        batch_size: images a call.
        limit: only the first `limit` images (for a quick look; not a result to report).
        progress: called with (images done, images in all) after each batch.
    """
    coco = read_coco(coco_json, limit=limit)
    detections = detect_dataset(grounder, coco, image_dir, batch_size=batch_size, progress=progress)
    return score_detections(coco, detections)


def read_coco(path: str | Path, *, limit: int | None = None) -> dict[str, Any]:
    """Read a COCO annotation file, if wanted only its first `limit` images.

    Raises:
        ValueError: the file lacks one of `images`, `annotations`, `categories`.
    """
    coco: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    missing = {"images", "annotations", "categories"} - coco.keys()
    if missing:
        raise ValueError(f"{path}: expected a COCO detection file, got one without {sorted(missing)}")
    if limit is None:
        return coco
    images = coco["images"][:limit]
    kept = {i["id"] for i in images}
    return {
        **coco,
        "images": images,
        "annotations": [a for a in coco["annotations"] if a["image_id"] in kept],
    }


def find_sets(data_dir: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """Folders of `<data_dir>/grounding` with a validation split, all of them or those named.

    Raises:
        FileNotFoundError: a named set, or any set at all, is not there.
    """
    root = Path(data_dir) / "grounding"
    found = {p.parent.name: p.parent for p in sorted(root.glob("*/val.json"))}
    unknown = [n for n in names if n not in found]
    if unknown or not found:
        raise FileNotFoundError(
            f"{root}: expected sets {list(names) or '(any)'} as folders with val.json and images/, "
            f"got {list(found)}; check --data-dir and --sets"
        )
    return [found[n] for n in names] if names else list(found.values())
