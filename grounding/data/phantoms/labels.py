"""What each phantom may show: every name that is looked for, how fine it is, and what holds it.

The names are those of `grounding/labels.yaml` where it has them. A phantom is annotated for all names of its
modality, so that what is not there is truly absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Granularity = Literal["region", "organ", "substructure", "lesion", "cell"]


@dataclass(frozen=True)
class PhantomLabel:
    """One name.

    Attributes:
        granularity: region, organ, substructure, lesion or cell.
        inside: names of the structures of which one holds each such region whole; empty for the outermost.
    """

    granularity: Granularity
    inside: tuple[str, ...] = ()


_LUNGS: Final = ("right lung", "left lung")
_KIDNEYS: Final = ("right kidney", "left kidney")
_HEMISPHERES: Final = ("right cerebral hemisphere", "left cerebral hemisphere")


def _table(outermost: dict[str, Granularity], **finer: dict[str, tuple[str, ...]]) -> dict[str, PhantomLabel]:
    """Names in order: the outermost, then by granularity those that something holds."""
    table = {name: PhantomLabel(granularity) for name, granularity in outermost.items()}
    for granularity, holders in finer.items():
        for name, inside in holders.items():
            table[name] = PhantomLabel(granularity, inside)  # type: ignore[arg-type]
    return table


PHANTOM_LABELS: Final[dict[str, dict[str, PhantomLabel]]] = {
    "CR": _table(
        {"thorax": "region"},
        organ=dict.fromkeys((*_LUNGS, "heart", "trachea", "right clavicle", "left clavicle"), ("thorax",)),
        lesion=dict.fromkeys(("pleural effusion", "lung opacity", "lung nodule"), _LUNGS),
    ),
    "CT": _table(
        {"abdomen": "region"},
        organ=dict.fromkeys(
            (
                *("vertebra", "liver", "stomach", "spleen", "pancreas", *_KIDNEYS),
                *("right adrenal gland", "left adrenal gland", "inferior vena cava", "aorta", "gallbladder"),
            ),
            ("abdomen",),
        ),
        substructure={"portal vein and splenic vein": ("abdomen",)},
        lesion={
            **dict.fromkeys(("liver tumour", "liver cyst"), ("liver",)),
            **dict.fromkeys(("kidney cyst", "kidney tumour"), _KIDNEYS),
            "gallstone": ("gallbladder",),
        },
    ),
    "MR": _table(
        {"head": "region"},
        organ={"brain": ("head",)},
        substructure=dict.fromkeys(
            (
                *_HEMISPHERES,
                "right thalamus",
                "left thalamus",
                "right lateral ventricle",
                "left lateral ventricle",
            ),
            ("brain",),
        ),
        lesion=dict.fromkeys(
            ("brain tumour", "peritumoural oedema", "white matter hyperintensity"), _HEMISPHERES
        ),
    ),
    "US": _table(
        {"placenta": "organ", "fetal head": "organ"},
        substructure={
            "fetal brain": ("fetal head",),
            **dict.fromkeys(("cavum septi pellucidi", "choroid plexus"), ("fetal brain",)),
        },
        lesion={"choroid plexus cyst": ("choroid plexus",)},
    ),
    "ES": _table(
        {"colon": "organ"},
        substructure={"bowel lumen": ("colon",)},
        lesion=dict.fromkeys(("polyp", "diverticulum"), ("colon",)),
    ),
    "DMS": _table(
        {"skin lesion": "lesion"},
        substructure=dict.fromkeys(("pigment network", "pigment globules"), ("skin lesion",)),
    ),
    "OP": _table(
        {"retina": "substructure"},
        substructure={
            **dict.fromkeys(("optic disc", "macula", "retinal vessel"), ("retina",)),
            "optic cup": ("optic disc",),
        },
        lesion=dict.fromkeys(
            ("retinal haemorrhage", "soft exudate", "hard exudate", "microaneurysm"), ("retina",)
        ),
    ),
    "SM": _table(
        {"red blood cell": "cell", "white blood cell": "cell", "platelet": "cell"},
        cell={"cell nucleus": ("white blood cell",), "malaria parasite": ("red blood cell",)},
    ),
}
"""DICOM modality code -> every name its phantoms are annotated for."""
