"""What the user wants back, read from cues in a text whose labels are masked as ORGAN and FINDING.

Owns the order of the cues (`planner_cues.yaml`). Text is only searched: nothing in it is obeyed. Knows no
label and no image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

import yaml


class Intent(StrEnum):
    """What the user wants."""

    GROUND = "ground"
    ASK = "ask"
    REPORT = "report"
    MEASURE = "measure"
    COMPARE = "compare"
    SEGMENT = "segment"
    MODALITY = "modality"
    DESCRIBE_REGION = "describe_region"
    OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True)
class Wish:
    """What a text asks for.

    Attributes:
        intent: None where the text says none of its own ("and on the left?").
        reason: why it is out of scope; empty otherwise.
    """

    intent: Intent | None
    reason: str = ""


EMPTY: Final = "The question is empty: ask something about the picture."
CHATTER: Final = "I answer questions about a medical picture: ask what it shows, or where something is."
ADVICE: Final = (
    "I only describe what a picture shows; treatment and prognosis are for the treating physician."
)
KNOWLEDGE: Final = "I only describe what a picture shows; general medical knowledge is in textbooks."
ORDERS: Final = "I only work on the picture before me, not on the system, other files or persons."

_LABEL: Final = re.compile("ORGAN|FINDING")


@cache
def _cues() -> Mapping[str, re.Pattern[str]]:
    """The cues of the package by name (read once a process)."""
    text = resources.files(__package__).joinpath("planner_cues.yaml").read_text(encoding="utf-8")
    data: Mapping[str, Any] = yaml.safe_load(text)
    words: dict[str, str] = {}

    def pattern(parts: list[str]) -> str:
        joined = "|".join(part.replace("| ", "|") for part in parts)
        return re.sub("<([a-z_]+)>", lambda match: words[match.group(1)], joined)

    for name, parts in data["words"].items():
        words[name] = f"(?:{pattern(parts)})"
    return {name: re.compile(pattern(parts)) for name, parts in data["cues"].items()}


def _says(cue: str, text: str) -> bool:
    return bool(_cues()[cue].search(text))


def read_intent(masked: str) -> Wish:
    """Return what a text asks for; see `planner_phrases.Reading.masked`."""
    text = masked.replace("\u2019", "'").strip()
    if not re.search(r"\w", text):
        return Wish(Intent.OUT_OF_SCOPE, EMPTY)
    kept, reason = _in_scope(text)
    intent = _of(kept) if kept else None
    if intent is None and reason:
        return Wish(Intent.OUT_OF_SCOPE, reason)
    asks = any(_says(cue, kept) for cue in ("question", "yes_no", "ground"))
    if reason and intent in (Intent.ASK, Intent.GROUND) and not asks:
        return Wish(Intent.OUT_OF_SCOPE, reason)  # "I have emphysema. Which inhaler is best?"
    return Wish(intent)


def is_elliptic(masked: str) -> bool:
    """Whether a text says nothing beyond labels and words that point back: "and on the left?"."""
    if _LABEL.search(masked) and _says("yes_no", masked):
        return False
    rest = _cues()["filler"].sub(" ", _cues()["ellipsis"].sub(" ", _LABEL.sub("", masked)))
    return not rest.strip(" ?")


def _in_scope(text: str) -> tuple[str, str]:
    """The clauses of `text` that a picture can answer, and why the others were left out."""
    reason, kept = "", []
    for clause in _cues()["clause_end"].split(text):
        greeting = _cues()["greeting"].match(clause)
        rest = clause[greeting.end() :] if greeting and not is_elliptic(clause) else clause
        if not re.search(r"\w", rest):
            reason = reason or CHATTER
        elif refusal := _refusal(rest):
            reason = refusal
        else:
            kept.append(rest)
    return " ".join(kept), reason


def _refusal(clause: str) -> str:
    if _says("orders", clause):
        return ORDERS
    if _says("chatter", clause):
        return CHATTER
    if _says("advice", _cues()["after_treatment"].sub(" ", clause)):
        return ADVICE
    return KNOWLEDGE if _says("knowledge", clause) and not _says("region", clause) else ""


def _of(text: str) -> Intent | None:
    """The intent of the first cues that are found, the most telling ones first."""
    yes_no = _says("yes_no", text)
    wishes = {
        Intent.DESCRIBE_REGION: _says("region", text),
        Intent.COMPARE: _says("compare", text),
        Intent.MODALITY: _says("modality", text) or (not _LABEL.search(text) and _says("contrast", text)),
        Intent.SEGMENT: not yes_no and _says("segment", text) and not _says("shape_asked", text),
        Intent.MEASURE: (not yes_no or _says("number", text))
        and _says("measure", text)
        and not _says("size_asked", text),
        Intent.REPORT: not yes_no and _says("report", text),
        Intent.GROUND: not yes_no and _says("ground", text) and not _says("ground_asked", text),
        Intent.ASK: yes_no or _says("question", text.rstrip("?")),
    }
    if found := next((intent for intent, wanted in wishes.items() if wanted), None):
        return found
    if _LABEL.search(text) and not _cues()["filler"].sub(" ", _LABEL.sub(" ", text)).strip(" ?"):
        return Intent.ASK if "FINDING" in text and "?" in text else Intent.GROUND
    if _says("bare", _cues()["filler"].sub(" ", text)):
        return Intent.GROUND
    return Intent.ASK if _LABEL.search(text) or "?" in text else None
