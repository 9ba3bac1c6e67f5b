"""Phrases and regions read against the label tree: broad phrases, and lesions that must lie in their organ.

Owns what the tree says about a grounder's questions and answers; knows no network and no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .ontology import Label, Ontology
from .types import Regions


class Groundable(Protocol):
    """An encoded image that can be asked for phrases (`grounding.predictor.GroundedImage`)."""

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return the regions of `phrases`."""
        ...


@dataclass(frozen=True)
class Expansion:
    """What to look for in place of what was asked.

    Attributes:
        asked: The A phrases asked.
        phrases: The P phrases to look for, in the order of ``asked``.
        origin: (P,) position in ``asked`` of what each phrase stands for.
    """

    asked: tuple[str, ...]
    phrases: tuple[str, ...]
    origin: tuple[int, ...]

    def collapse(self, regions: Regions) -> Regions:
        """The regions of ``phrases``, under the phrases asked.

        Raises:
            ValueError: If the regions are of other phrases.
        """
        if regions.asked != self.phrases:
            raise ValueError(f"expected regions of {self.phrases}, got those of {regions.asked}")
        index = np.array(self.origin, dtype=np.int64)[regions.phrase_index]
        return replace(regions, phrase_index=index, asked=self.asked)


def expand(phrases: Sequence[str], ontology: Ontology) -> Expansion:
    """Replace each phrase that the checkpoint does not know by the nearest narrower labels that it knows.

    "lung" becomes both lungs for a checkpoint that knows only left and right ones. Narrower are an organ's
    sides and parts, and a lesion's kinds, never the lesions of an organ. A phrase that is known, that is no
    node of the tree, or that has nothing known below it is looked for as it is.

    Args:
        phrases: What is asked.
        ontology: The label tree as the checkpoint knows it (:meth:`Ontology.known_to`).
    """
    known = set(ontology.names)
    found: list[str] = []
    origin: list[int] = []
    for index, phrase in enumerate(phrases):
        below = _known_below(phrase, ontology, known) or (phrase,)
        found += below
        origin += [index] * len(below)
    return Expansion(tuple(phrases), tuple(found), tuple(origin))


def _known_below(phrase: str, ontology: Ontology, known: set[str]) -> tuple[str, ...]:
    """The known labels of the nearest level under a phrase that has any; none where it is known itself."""
    label = ontology.canonical(phrase)
    name = " ".join(phrase.lower().split()) if label is None else label.name
    if name in known or (label is None and name not in (*ontology.classes, *ontology.regions)):
        return ()
    lesion = label is not None and label.granularity == "lesion"
    level = [name]
    while level:
        below = [child for node in level for child in ontology.children(node)]
        level = [child for child in dict.fromkeys(below) if _is_part(child, lesion, ontology)]
        if nearest := tuple(child for child in level if child in known):
            return nearest
    return ()


def _is_part(node: str, lesion: bool, ontology: Ontology) -> bool:
    """Whether a node is a kind of lesion where one was asked for, and else no lesion."""
    if node in ontology.classes:
        return True
    return (ontology.label(node).granularity == "lesion") == lesion


def consistent(regions: Regions, ontology: Ontology) -> list[bool | None]:
    """Whether each lesion lies in its organ, as far as the regions themselves tell.

    Returns:
        For each region: None where there is nothing to check (it is no lesion, or no organ above it in the
        tree was found), else whether a region of such an organ contains its centre.
    """
    labels = [ontology.canonical(phrase) for phrase in regions.phrases]
    return [
        _in_organ(regions, index, labels, ontology) if label and label.granularity == "lesion" else None
        for index, label in enumerate(labels)
    ]


def _in_organ(
    regions: Regions, index: int, labels: Sequence[Label | None], ontology: Ontology
) -> bool | None:
    lesion = labels[index]
    assert lesion is not None
    above = set(ontology.ancestors(lesion.name))
    organs = [
        other is not None
        and other.granularity != "lesion"
        and bool({other.name, other.organ} & above)
        and not (lesion.side and other.side and lesion.side != other.side)
        for other in labels
    ]
    boxes = regions.boxes[np.array(organs, dtype=bool)]
    return bool(_contains(boxes, regions.boxes[index]).any()) if len(boxes) else None


def _contains(boxes: npt.NDArray[np.float32], inner: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether each of (N, 4) xyxy boxes contains the centre of a box (4,) of the same frame."""
    centre = (inner[:2] + inner[2:]) / 2
    inside: npt.NDArray[np.bool_] = np.all((boxes[:, :2] <= centre) & (centre <= boxes[:, 2:]), axis=1)
    return inside


def ground_hierarchy(
    image: Groundable,
    phrases: Sequence[str],
    ontology: Ontology,
    *,
    box_threshold: float | None = None,
    only_consistent: bool = False,
) -> Regions:
    """Ground phrases with the label tree in mind: broad phrases by what is known below them.

    Args:
        image: An encoded image.
        phrases: What to look for; ``asked`` of the answer.
        ontology: The label tree as the checkpoint knows it.
        box_threshold: As in :meth:`GroundedImage.ground`.
        only_consistent: Drop lesions that lie outside every region found of their organ.
    """
    expansion = expand(phrases, ontology)
    regions = expansion.collapse(image.ground(expansion.phrases, box_threshold=box_threshold))
    if not only_consistent:
        return regions
    kept = [verdict is not False for verdict in consistent(regions, ontology)]
    return regions[np.array(kept, dtype=bool)]
