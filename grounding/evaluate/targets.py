"""What is true of a set: the boxes of each image, what its labels are, and which images belong together.

Owns the reading of COCO json for evaluation. Knows no detector. Boxes are xyxy, pixels of the stored image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import xywh_to_xyxy
from ..data.coco import image_group, modality_code
from ..data.holdout import held_out_groups
from ..types import MedicalImage
from .dataset import open_image, read_coco

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Target:
    """The truth of one image.

    Attributes:
        image_id: COCO image id.
        file_name: relative to the set's `images` folder.
        image_size: (height, width), pixels.
        boxes: (N, 4) float64 xyxy, pixels.
        labels: (N,) int64, index into the set's labels.
        modality: DICOM code, or None where the set does not say.
        group: what images of one patient share (`patient`, else `group`); the image alone where unknown.
    """

    image_id: int
    file_name: str
    image_size: tuple[int, int]
    boxes: Floats
    labels: Ints
    modality: str | None
    group: str


@dataclass(frozen=True, eq=False)
class TargetSet:
    """One split of a set in which every image is annotated for every label.

    Attributes:
        name: of the set's folder.
        folder: the set's folder, with `images` in it.
        labels: phrases, in the order of the json's categories.
        granularity: of each label: region, organ, substructure, lesion or cell; "unknown" where not said.
        targets: the images.
        category_ids: COCO id of each label.
    """

    name: str
    folder: Path
    labels: tuple[str, ...]
    granularity: tuple[str, ...]
    targets: tuple[Target, ...] = field(repr=False)
    category_ids: tuple[int, ...] = ()

    @property
    def groups(self) -> list[str]:
        """Of each image, in order."""
        return [target.group for target in self.targets]

    def open(self, target: Target) -> MedicalImage:
        """Read an image of the set.

        Raises:
            ValueError: the file's size differs from the annotations'.
        """
        return open_image(self.folder / "images" / target.file_name, target.image_size, target.modality)

    def only(self, keep: Callable[[Target], bool]) -> TargetSet:
        """The set with the images for which `keep` holds."""
        return replace(self, targets=tuple(target for target in self.targets if keep(target)))

    def to_coco(self) -> dict[str, Any]:
        """A COCO dictionary of images, annotations (`bbox` = xywh pixels) and categories."""
        boxes = [
            (target.image_id, int(label), box)
            for target in self.targets
            for box, label in zip(target.boxes, target.labels, strict=True)
        ]
        return {
            "images": [
                {"id": t.image_id, "height": t.image_size[0], "width": t.image_size[1]} for t in self.targets
            ],
            "categories": [
                {"id": i, "name": name} for i, name in zip(self.category_ids, self.labels, strict=True)
            ],
            "annotations": [
                _annotation(number, image, self.category_ids[label], box)
                for number, (image, label, box) in enumerate(boxes, start=1)
            ],
        }


def _annotation(number: int, image_id: int, category_id: int, box: Floats) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in box)
    area = (x2 - x1) * (y2 - y1)
    bbox = [x1, y1, x2 - x1, y2 - y1]
    own = {"id": number, "image_id": image_id, "category_id": category_id}
    return {**own, "bbox": bbox, "area": area, "iscrowd": 0}


def read_targets(folder: str | Path, split: str = "val", *, limit: int | None = None) -> TargetSet:
    """Read `<folder>/<split>.json`, if wanted only its first `limit` images.

    Raises:
        ValueError: the file is no COCO detection file, or it marks crowds, which stand for an unknown
            number of objects and have no meaning for phrases.
    """
    folder = Path(folder)
    coco = read_coco(folder / f"{split}.json", limit=limit)
    if any(annotation.get("iscrowd") for annotation in coco["annotations"]):
        raise ValueError(
            f"{folder}/{split}.json: expected single objects, got iscrowd=1; drop or split the crowds"
        )
    index_of = {category["id"]: k for k, category in enumerate(coco["categories"])}
    own: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        own[annotation["image_id"]].append(annotation)
    return TargetSet(
        name=folder.name,
        folder=folder,
        labels=tuple(category["name"] for category in coco["categories"]),
        granularity=tuple(category.get("granularity", "unknown") for category in coco["categories"]),
        targets=tuple(_target(image, own[image["id"]], index_of) for image in coco["images"]),
        category_ids=tuple(index_of),
    )


def _target(image: dict[str, Any], annotations: Sequence[dict[str, Any]], index_of: dict[int, int]) -> Target:
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    return Target(
        image_id=image["id"],
        file_name=image["file_name"],
        image_size=(image["height"], image["width"]),
        boxes=xywh_to_xyxy(boxes),
        labels=np.array([index_of[a["category_id"]] for a in annotations], dtype=np.int64),
        modality=modality_code(image),
        group=image_group(image),
    )


def held_out(targets: TargetSet, fraction: float) -> TargetSet:
    """The images that a training with the same ``hold_out`` did not see (see :func:`held_out_groups`)."""
    held = held_out_groups(targets.name, targets.groups, fraction)
    return targets.only(lambda target: target.group in held)
