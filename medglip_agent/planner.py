"""What a request needs: a rule-based planner behind a protocol, so that another can take its place.

Reads the user's text only to choose steps; nothing in it is obeyed. Knows no model and no image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from grounding.ontology import Ontology

MAX_QUESTION_CHARACTERS: Final = 2000


class Intent(StrEnum):
    """What the user wants."""

    GROUND = "ground"
    ASK = "ask"
    REPORT = "report"
    OUT_OF_SCOPE = "out of scope"


@dataclass(frozen=True)
class Plan:
    """The steps that a request needs.

    Attributes:
        intent: what to do.
        phrases: the labels that the text names.
        needs_region: the question is about the place, size or look of `phrases`, so that it has no answer
            when none of them is found.
        reason: why the request is out of scope; empty otherwise.
    """

    intent: Intent
    phrases: tuple[str, ...] = ()
    needs_region: bool = False
    reason: str = ""


class Planner(Protocol):
    """Chooses the steps of a request."""

    def plan(self, text: str, modality: str | None) -> Plan:
        """Return the plan for the user's `text` about an image of `modality` (DICOM code or None)."""
        ...


_GROUND: Final = re.compile(
    r"^(please\s+|can you\s+|could you\s+)*"
    r"(ground|show|highlight|mark|outline|segment|locate|localise|localize|find|detect|box|point (to|at|out)|"
    r"draw (a |the )?(box|boxes|outline)\b.*?(round|around|on))\b",
    re.IGNORECASE,
)
_REPORT: Final = re.compile(
    r"^(please\s+|can you\s+|could you\s+)*"
    r"((write|generate|give|make|draft|create|produce)\b.*\breports?\b|report\b|"
    r"(describe|summari[sz]e) (the |this |these )?"
    r"(image|picture|scan|study|x-?ray|radiograph|findings)\W*$)",
    re.IGNORECASE,
)
_NEEDS_REGION: Final = re.compile(
    r"^\W*(where|which)\b|\b(what|which) (part|side|lobe|quadrant|region)\b|"
    r"\b(where (is|are|was|were|do|does|can))\b|"
    r"\b(location|position|size|diameter|dimensions?|shape|colou?r) of\b|"
    r"\bhow (large|big|small|wide|long|tall)\b|\bwhat (size|shape|colou?r)\b|\blooks? like\b|"
    r"\bappearance of\b|^\W*(measure|describe)\b",
    re.IGNORECASE,
)
_ADVICE: Final = re.compile(
    r"\b(prescri\w+|dos(e|es|age)|should (i|we|he|she|they|the patient) (take|have|get|undergo|stop)|"
    r"how (do|should) (i|we|you) treat|survive|survival|prognosis|life expectancy|insurance)\b",
    re.IGNORECASE,
)
_SMALL_TALK: Final = re.compile(
    r"^\W*(hi|hello|hey|thanks|thank you|good (morning|evening|afternoon)|bye|who are you|how are you|"
    r"what can you do|help)\b[^a-z]*$",
    re.IGNORECASE,
)


class RulePlanner:
    """Planner v0: regular expressions and the label ontology; the same text always gives the same plan."""

    def __init__(self, ontology: Ontology | None = None) -> None:
        """Name things by `ontology`, such as a grounder's; None for the whole label tree."""
        self._ontology = ontology or Ontology.load()

    def plan(self, text: str, modality: str | None) -> Plan:
        """Return the plan for `text`.

        Raises:
            ValueError: `text` is longer than MAX_QUESTION_CHARACTERS.
        """
        text = text.strip()
        if len(text) > MAX_QUESTION_CHARACTERS:
            raise ValueError(
                f"a question may have up to {MAX_QUESTION_CHARACTERS} characters, got {len(text)}: shorten it"
            )
        if refusal := _out_of_scope(text):
            return Plan(Intent.OUT_OF_SCOPE, reason=refusal)
        if _REPORT.search(text):
            return Plan(Intent.REPORT)
        phrases = self._ontology.mentions(text, modality)
        if _GROUND.search(text):
            return Plan(Intent.GROUND, phrases, needs_region=True)
        return Plan(Intent.ASK, phrases, needs_region=bool(phrases) and bool(_NEEDS_REGION.search(text)))


def _out_of_scope(text: str) -> str:
    if not re.search(r"\w", text):
        return "The question is empty: ask something about the picture."
    if _SMALL_TALK.match(text):
        return "I answer questions about a medical picture: ask what it shows, or where something is."
    if _ADVICE.search(text):
        return "I only describe what a picture shows; treatment and prognosis are for the treating physician."
    return ""
