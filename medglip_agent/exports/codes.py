"""Codes of labels: SNOMED CT sites and sides from the ontology, for FHIR and DICOM. Knows neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grounding.ontology import Ontology

SNOMED_SIDES: Final = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}


@dataclass(frozen=True)
class Site:
    """Where in the body a label lies.

    Attributes:
        code: SNOMED CT code of the structure, without its side.
        name: the structure, without its side.
        side: the patient's side, None for an unpaired structure.
    """

    code: str
    name: str
    side: str | None


def site_of(phrase: str) -> Site | None:
    """Return the coded site of a label; None for lesions, free phrases and labels without a recorded code."""
    try:
        label = Ontology.load().label(phrase)
    except KeyError:  # any phrase may be grounded
        return None
    return None if label.snomed is None else Site(label.snomed, label.organ, label.side)
