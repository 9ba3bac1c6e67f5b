"""Phantoms: seeded drawings that look like medical images, with exact boxes, masks, questions and a report.

They stand in for real pictures where those may not be committed (tests, examples, documentation), and add to
training where nothing else has such truth. They are never evidence about real images. Sides are the
patient's: in CR, CT and MR the patient's right is on the picture's left (radiological convention).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...types import MedicalImage, Regions
from .abdomen import draw_abdomen
from .canvas import SIZE, Scene
from .chest import draw_chest
from .colour import draw_fundus, draw_skin
from .head import draw_brain, draw_fetal_head
from .labels import PHANTOM_LABELS
from .scope import draw_blood_smear, draw_colon
from .text import PhantomQA, PhantomSentence, ask_about, write_report

MODALITIES: Final[dict[str, Callable[[Scene], None]]] = {
    "CR": draw_chest,
    "CT": draw_abdomen,
    "MR": draw_brain,
    "US": draw_fetal_head,
    "ES": draw_colon,
    "DMS": draw_skin,
    "OP": draw_fundus,
    "SM": draw_blood_smear,
}
"""What `make_phantom` draws, by DICOM modality code."""

SMALLEST: Final = 64
"""Below this side, in pixels, lesions vanish."""

_GREY: Final = frozenset({"CR", "CT", "MR", "US"})
ORIENTATION: Final[dict[str, tuple[str, str]]] = {"CR": ("L", "F"), "CT": ("L", "P"), "MR": ("L", "P")}
"""Patient directions of (rows, columns) where a phantom has them."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn picture with its truth.

    Attributes:
        image: the picture, `size` x `size`.
        regions: exact boxes (xyxy pixels) and masks, score 1; `asked` is every name the modality is annotated
            for, so `missing` are true negatives.
        qa: questions with answers and the phrases that support them.
        report: sentences with the phrases of the regions they speak of.
    """

    image: MedicalImage
    regions: Regions
    qa: tuple[PhantomQA, ...]
    report: tuple[PhantomSentence, ...]


def make_phantom(modality: str, seed: int = 0, size: int = SIZE) -> Phantom:
    """Draw the phantom of one modality; the same seed and size give the same pixels.

    Args:
        modality: a key of `MODALITIES`: CR (chest X-ray), CT (abdomen), MR (brain), US (fetal head), ES
            (colonoscopy), DMS (dermoscopy), OP (eye fundus), SM (blood smear).
        seed: at least 0.
        size: height and width in pixels, at least `SMALLEST`.

    Raises:
        ValueError: there is no phantom of this modality, or of this size.
    """
    if modality not in MODALITIES:
        raise ValueError(f"expected one of {', '.join(MODALITIES)}, got {modality!r}")
    if size < SMALLEST:
        raise ValueError(f"expected a size of at least {SMALLEST} pixels, got {size}; draw larger and shrink")
    scene = Scene(np.random.default_rng([seed, *modality.encode()]), size, 1 if modality in _GREY else 3)
    MODALITIES[modality](scene)
    pixels = (np.clip(scene.pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (size, size, 3))
    image = MedicalImage(pixels, modality=modality, orientation=ORIENTATION.get(modality))
    regions = scene.regions(tuple(PHANTOM_LABELS[modality]))
    return Phantom(image, regions, ask_about(modality, regions, scene.rng), write_report(modality, regions))
