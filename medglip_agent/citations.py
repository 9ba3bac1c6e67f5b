"""Citations: which regions an answer rests on, and how they are written, [R1] being the first region.

They are chosen by rules from labels and side words, never by the language model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from grounding.ontology import Ontology
from grounding.types import Regions
from llm.report import cited_regions, strip_citations

__all__ = ["choose_citations", "cite", "cited_regions", "contradiction", "strip_citations"]

_SIDE_WORD: Final = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_NO: Final = re.compile(r"^\W*(no|none|not|absent|negative)\b", re.IGNORECASE)
_PRESENCE: Final = re.compile(
    r"^\W*(is|are|was|were) there\b|\b(present|visible|seen|evidence of)\b|"
    r"^\W*(do|can|does) (you|the image|this image|the picture) (see|show)\b",
    re.IGNORECASE,
)


def choose_citations(question: str, answer: str, regions: Regions, modality: str | None) -> tuple[int, ...]:
    """Return the indices into `regions` (0-based) that support `answer`.

    These are the regions whose label the question or the answer names, or names a part of. When the answer
    names one side only ("the left one"), regions of the other side are left out.
    """
    ontology = Ontology.load().known_to(regions.asked)
    named = {*ontology.mentions(question, modality), *ontology.mentions(answer, modality)}
    sides = {side.lower() for side in _SIDE_WORD.findall(answer)}
    if len(sides) == 1:
        named = {n for n in named if ontology.label(n).side in (None, *sides)}
    return tuple(index for index, phrase in enumerate(regions.phrases) if phrase in named)


def contradiction(question: str, answer: str, regions: Regions, cited: Sequence[int]) -> str:
    """Return a sentence when the answer denies what was found ("Is there a polyp?" - "No"), else ""."""
    if not cited or not _PRESENCE.search(question) or not _NO.match(answer):
        return ""
    best = max(cited, key=lambda index: float(regions.scores[index]))
    return (
        f"The detector found {regions.phrases[best]} {cite([best])} with score "
        f"{float(regions.scores[best]):.2f}, which does not fit this answer."
    )


def cite(indices: Iterable[int]) -> str:
    """Write region indices (0-based) as citations: [0, 2] -> "[R1] [R3]"."""
    return " ".join(f"[R{index + 1}]" for index in indices)
