"""Phantoms: seeded drawings that look like medical images, with exact boxes and masks.

They stand in for real pictures where those may not be committed: in tests, examples and documentation.
Nothing here is anatomy to learn from. Sides are the patient's: in CR, CT and MR the patient's right is on the
picture's left (radiological convention).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..types import MedicalImage, Regions
from .phantom_canvas import QA, Scene
from .phantom_colour import draw_blood_smear, draw_fundus, draw_skin_lesion
from .phantom_radiology import draw_abdomen, draw_brain, draw_chest, draw_fetal_head

MODALITIES: Final[dict[str, Callable[[Scene], tuple[QA, ...]]]] = {
    "CR": draw_chest,
    "CT": draw_abdomen,
    "MR": draw_brain,
    "US": draw_fetal_head,
    "OP": draw_fundus,
    "DMS": draw_skin_lesion,
    "SM": draw_blood_smear,
}
"""What `make_phantom` draws, by DICOM modality code."""

_ORIENTATION: Final[dict[str, tuple[str, str]]] = {"CR": ("L", "F"), "CT": ("L", "P"), "MR": ("L", "P")}


@dataclass(frozen=True)
class PhantomQA:
    """A question with its known answer, and the phrases of the regions that support it."""

    question: str
    answer: str
    phrases: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn picture with its truth: regions carry exact boxes (xyxy pixels), masks, and score 1."""

    image: MedicalImage
    regions: Regions
    qa: tuple[PhantomQA, ...]


def make_phantom(modality: str, seed: int = 0) -> Phantom:
    """Draw the phantom of one modality; the same seed gives the same pixels.

    Args:
        modality: a key of `MODALITIES`: CR (chest X-ray), CT (abdomen), MR (brain; some seeds without a
            tumour), OP (fundus), DMS (dermoscopy), US (fetal head), SM (blood smear).
        seed: at least 0.

    Raises:
        ValueError: there is no phantom of this modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"expected one of {', '.join(MODALITIES)}, got {modality!r}")
    scene = Scene(np.random.default_rng([seed, *modality.encode()]))
    qa = MODALITIES[modality](scene)
    pixels = np.round(np.clip(scene.pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    image = MedicalImage(pixels, modality=modality, orientation=_ORIENTATION.get(modality))
    return Phantom(image, scene.regions(), tuple(PhantomQA(*item) for item in qa))
