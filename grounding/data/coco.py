"""COCO json sets as training samples: one image, the labels its set annotates, and its boxes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..boxes import xywh_to_xyxy
from .holdout import held_out_groups

# Sets that state their modality only in words.
_CODE_OF_WORD = {
    "chest X-ray": "DX",
    "CT": "CT",
    "light microscopy": "SM",
    "fluorescence": "SM",
    "microscopy": "SM",
}


@dataclass(frozen=True)
class Sample:
    """One annotated image.

    Attributes:
        image_path: The picture.
        size: (height, width) in pixels.
        boxes: (n, 4) float32 xyxy pixels of the picture.
        labels: (n,) index into the set's labels.
        modality: DICOM code, or None where the set does not say.
        group: What the images of one patient share; the image alone where patients are unknown.
    """

    image_path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    modality: str | None
    group: str


@dataclass(frozen=True)
class CocoSet:
    """A set in which every image is annotated for every label, so that an absent label is truly absent.

    Attributes:
        name: Name of the set's folder.
        labels: Phrases, in the order of the json's categories.
        synonyms: Other phrases for each label.
        samples: The images.
        turned: Training may turn and mirror the pictures: nothing in the set has a side.
    """

    name: str
    labels: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    samples: tuple[Sample, ...] = field(repr=False)
    turned: bool = False

    @property
    def modalities(self) -> frozenset[str | None]:
        """The modalities that occur in the set."""
        return frozenset(sample.modality for sample in self.samples)

    def without_held_out(self, fraction: float) -> CocoSet:
        """The set without the part that :func:`held_out_groups` keeps from training."""
        held = held_out_groups(self.name, [sample.group for sample in self.samples], fraction)
        return replace(self, samples=tuple(sample for sample in self.samples if sample.group not in held))


def read_coco(folder: Path, split: str) -> CocoSet:
    """Read ``<folder>/<split>.json`` with the pictures in ``<folder>/images``.

    Raises:
        FileNotFoundError: If the json is absent.
        ValueError: If an annotation names an unknown image or category.
    """
    path = folder / f"{split}.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a COCO json at {path}; pass --data-dir or set MEDGLIP_DATA")
    content = json.loads(path.read_text())
    categories = content["categories"]
    index_of = {category["id"]: index for index, category in enumerate(categories)}
    annotations: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in annotations or annotation["category_id"] not in index_of:
            raise ValueError(
                f"{path}: annotation {annotation['id']} names an image or category that is not there"
            )
        annotations[annotation["image_id"]].append(annotation)
    samples = []
    for image in content["images"]:
        own = annotations[image["id"]]
        boxes = np.array([a["bbox"] for a in own], dtype=np.float32).reshape(-1, 4)
        samples.append(
            Sample(
                folder / "images" / image["file_name"],
                (image["height"], image["width"]),
                xywh_to_xyxy(boxes),
                np.array([index_of[a["category_id"]] for a in own], dtype=np.int64),
                modality_code(image),
                image_group(image),
            )
        )
    return CocoSet(
        folder.name,
        tuple(category["name"] for category in categories),
        tuple(tuple(category.get("synonyms") or ()) for category in categories),
        tuple(samples),
    )


def image_group(image: dict) -> str:
    """What a json image record shares with others of its patient; its own name where it does not say."""
    return str(image.get("patient") or image.get("group") or f"image {image['id']}")


def modality_code(image: dict) -> str | None:
    """DICOM code of a json image record, from its code or its words."""
    if "modality_code" in image:
        return image["modality_code"]
    words = image.get("modality", "")
    return next((code for word, code in _CODE_OF_WORD.items() if word in words), None)


def read_pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
