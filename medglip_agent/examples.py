"""Pictures to try the product on: phantoms drawn here, and real ones that installed packages carry.

Nothing is downloaded. A package that is not installed, or no longer carries its file, is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from grounding.base_weights import cache_dir

_PHANTOM_VERSION: Final = 2  # raise it when the drawings change: older files in the cache are then left alone


@dataclass(frozen=True)
class Example:
    """A picture with questions that suit it.

    Attributes:
        title: a few words.
        path: a file that `MedicalImage.open` reads.
        modality: DICOM code where the file does not tell it, else None.
        questions: at least one, the most telling first.
        credit: where the picture comes from.
    """

    title: str
    path: Path
    modality: str | None
    questions: tuple[str, ...]
    credit: str

    @property
    def question(self) -> str:
        """The question to start with."""
        return self.questions[0]


_PHANTOM_CREDIT: Final = "drawn phantom, not a patient"

# title, modality, seed, questions
_PHANTOMS: Final = (
    (
        "Chest X-ray",
        "CR",
        0,
        ("Which lung is more opaque?", "Where are the lungs?", "Is the heart enlarged?"),
    ),
    ("Abdominal CT", "CT", 0, ("Where is the liver?", "Show both kidneys.", "Is the spleen visible?")),
    (
        "Brain MRI",
        "MR",
        0,
        ("Is there a brain tumour?", "Where is the tumour?", "What kind of scan is this?"),
    ),
    (
        "Eye fundus",
        "OP",
        3,
        ("Are there hard exudates?", "Where is the optic disc?", "Is there a haemorrhage?"),
    ),
    (
        "Blood smear",
        "SM",
        2,
        ("Where are the white blood cells?", "Show the platelets.", "What cells are seen?"),
    ),
    ("Fetal ultrasound", "US", 0, ("Where is the fetal head?", "What is shown in this image?")),
    ("Colonoscopy", "ES", 0, ("Is there a polyp?", "Where is the polyp?")),
    ("Dermoscopy", "DMS", 0, ("Where is the skin lesion?", "Is there a skin lesion?")),
)

# title, package, file in it, modality where the file does not tell, questions, credit
_INSTALLED: Final = (
    (
        "Head CT",
        "pydicom",
        "data/test_files/J2K_pixelrep_mismatch.dcm",
        None,
        ("Is this a CT or an MRI?", "What organ is shown?", "Is there a fracture?"),
        "real, from pydicom's test files",
    ),
    (
        "Abdominal MRI",
        "pydicom",
        "data/test_files/examples_overlay.dcm",
        None,
        ("What organ system is shown?", "Is this an axial image?", "Is the liver visible?"),
        "real, from pydicom's test files",
    ),
    (
        "Heart ultrasound",
        "pydicom",
        "data/test_files/examples_ybr_color.dcm",
        None,
        ("What kind of image is this?", "Where is the fetal head?"),
        "real, 30 frames, from pydicom's test files",
    ),
    (
        "Retina",
        "skimage",
        "data/retina.jpg",
        "OP",
        ("Where is the optic disc?", "Are there hard exudates?"),
        "real, from scikit-image (M. Häggström, CC0)",
    ),
    (
        "Stained tissue",
        "skimage",
        "data/ihc.png",
        "SM",
        ("Where are the cell nuclei?", "What is shown in this image?"),
        "real, from scikit-image",
    ),
)


def examples(cache: Path | None = None) -> list[Example]:
    """Return the pictures, phantoms first; phantoms are drawn into the cache at the first call.

    Args:
        cache: folder for the phantoms; None for `examples` in $MEDGLIP_CACHE or ~/.cache/medglip.
    """
    folder = cache or cache_dir() / "examples"
    drawn = [
        Example(
            f"{title} (phantom)", _phantom_file(folder, modality, seed), modality, questions, _PHANTOM_CREDIT
        )
        for title, modality, seed, questions in _PHANTOMS
    ]
    return drawn + _installed_examples()


def _installed_examples() -> list[Example]:
    found = []
    for title, package, file, modality, questions, credit in _INSTALLED:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            path = Path(root, file)
            if path.is_file():
                found.append(Example(title, path, modality, questions, credit))
    return found


def _phantom_file(folder: Path, modality: str, seed: int) -> Path:
    path = folder / f"phantom-{modality.lower()}-{seed}-v{_PHANTOM_VERSION}.png"
    if not path.is_file():
        from PIL import Image

        from grounding.data.phantoms import make_phantom

        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(
            f".{os.getpid()}.part"
        )  # whole or absent, also when two processes draw at once
        Image.fromarray(make_phantom(modality, seed).image.pixels).save(part, format="PNG")
        os.replace(part, path)
    return path
