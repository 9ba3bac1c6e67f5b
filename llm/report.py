"""A report in a language model's own words, each sentence tied to its regions, and checked against the image.

Owns the reading of ``Findings: ... [R1]. Impression: ...`` and the check: what each sentence claims is looked
for again, and a sentence that claims what is not found, or denies what is found, says so. Grounding comes in
as a plain callable, and so do the names that it knows. Knows no network, no ontology.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from grounding.types import MedicalImage, Regions

from .types import Finding, Generation, Report, SpatialPrompt

REQUEST: Final = "Report this image: findings and impression."

Ground = Callable[[MedicalImage, Sequence[str]], Regions]
"""Finds phrases in an image; boxes xyxy in pixels of the original image."""

NamesIn = Callable[[str], Sequence[str]]
"""The names in a text that the grounder knows."""

# one way to read each space: with two, a text of 60 characters that is nearly a citation takes minutes
_MARK: Final = r"\[[Rr]\s?\d+(?:\s*[,;]\s*(?:[Rr]\s?)?\d+)*\]"
CITATION: Final = re.compile(rf"(\s*)({_MARK})")
"""The space before a citation, and the citation: [R1], and what language models write beside it: [R1, R2]."""
_WHOLE_MARK: Final = re.compile(_MARK)
_SENTENCE_END: Final = re.compile(rf"(?<=[.!?])((?:\s*{_MARK})*)\s+(?=\S)|\n+")
_IMPRESSION: Final = re.compile(r"\bimpression\s*:", re.IGNORECASE)
_FINDINGS: Final = re.compile(r"^\s*findings\s*:", re.IGNORECASE)
_DENIAL: Final = re.compile(
    r"\b(no|not|without|absent|negative for|free of|neither|nor|denies|excluded|ruled out)\b", re.IGNORECASE
)
_AFTERWARDS: Final = re.compile(
    r"\b(absent|excluded|ruled out|not (seen|visible|found|present))\b", re.IGNORECASE
)
_CLAUSE_END: Final = re.compile(r"[,;:]|\b(but|however|although|while|with)\b", re.IGNORECASE)


class Writer(Protocol):
    """What a report needs from a language model."""

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Answer each prompt, greedily."""
        ...


@dataclass(frozen=True)
class Claim:
    """That a sentence says of something that it is there, or that it is not."""

    name: str
    present: bool


def write_report(
    model: Writer,
    image: MedicalImage,
    regions: Regions,
    ground: Ground,
    names_in: NamesIn,
    findings_in: NamesIn,
    *,
    max_new_tokens: int = 160,
) -> Report:
    """Ask a model for a report, tie its sentences to regions and check them.

    Args:
        model: Writes; one that was trained on grounded reports cites ``[R1]`` itself.
        image: The picture.
        regions: What was found in it.
        ground: Looks again for what the report claims.
        names_in: Tells which regions a sentence that cites none speaks of.
        findings_in: Tells what can be claimed or denied: lesions, since to say "the heart is not enlarged" is
            not to deny a heart.
        max_new_tokens: The longest report, in tokens.
    """
    (reply,) = model.generate([SpatialPrompt(REQUEST, image, regions)], max_new_tokens=max_new_tokens)
    report = read_report(reply.text, regions, names_in)
    said = [claims(finding.sentence, findings_in) for finding in report.findings]
    return check_report(report, said, image, ground)


def read_report(text: str, regions: Regions, names_in: NamesIn) -> Report:
    """A model's text as a report.

    A sentence rests on the regions that it cites, where they exist, else on those whose name it claims to be
    there; without any it is marked ungrounded. Without the word "Impression:" the impression is empty.
    """
    body, *rest = _IMPRESSION.split(text, maxsplit=1)
    findings = []
    for sentence in _sentences(_FINDINGS.sub("", body)):
        words = strip_citations(sentence)
        ids = [i for i in cited_regions(sentence) if 0 <= i < len(regions)]
        if not ids:
            claimed = {claim.name for claim in claims(words, names_in) if claim.present}
            ids = [i for i, phrase in enumerate(regions.phrases) if phrase in claimed]
        findings.append(Finding(words, tuple(ids), bool(ids)))
    impression = strip_citations(rest[0]) if rest else ""
    return Report(tuple(findings), impression, regions)


def cited_regions(text: str) -> tuple[int, ...]:
    """Return the region indices (0-based) that `text` cites, in order, each once; they may not exist."""
    numbers = (number for _, mark in CITATION.findall(text) for number in re.findall(r"\d+", mark))
    return tuple(dict.fromkeys(int(number[:9]) - 1 for number in numbers))  # int refuses thousands of digits


def strip_citations(text: str) -> str:
    """Remove every citation and the space before it, and those that a removal puts together."""
    kept: list[str] = []  # characters
    opened: list[int] = []  # where in them a "[" stands that no "]" has closed
    for character in text:
        kept.append(character)
        if character == "[":
            opened.append(len(kept) - 1)
        elif character == "]" and opened:
            if _WHOLE_MARK.fullmatch("".join(kept[opened[-1] :])):
                del kept[opened.pop() :]
                while kept and kept[-1].isspace():
                    kept.pop()
            else:
                opened.clear()  # no citation holds a "]" but its last character
    return "".join(kept).strip()


def claims(sentence: str, names_in: NamesIn) -> tuple[Claim, ...]:
    """What a sentence says is there or is not: each name once, by the first clause that has it.

    A name is denied where a word of denial stands before it in its clause ("no effusion or mass"), or "is
    absent", "not seen" and the like behind it.
    """
    found: dict[str, Claim] = {}
    for clause in _clauses(sentence):
        denied = _DENIAL.search(clause)
        for name in names_in(clause):
            before_denial = denied is not None and name in names_in(clause[: denied.start()])
            absent = denied is not None and (not before_denial or bool(_AFTERWARDS.search(clause)))
            found.setdefault(name, Claim(name, not absent))
    return tuple(found.values())


def check_report(
    report: Report, said: Sequence[Sequence[Claim]], image: MedicalImage, ground: Ground
) -> Report:
    """Look again for everything that the findings claim, and mark what does not fit.

    All claims are grounded in one call. Regions found so of what had none are added behind the report's; a
    sentence that had no region and claims what was found now is tied to it.

    Args:
        report: Whose findings are checked.
        said: What each of its findings claims.
        image: The picture.
        ground: Looks again.

    Returns:
        The report with `Finding.conflict` set where a sentence claims what was looked for and not found, or
        denies what was found.
    """
    names = tuple(dict.fromkeys(claim.name for claim_list in said for claim in claim_list))
    if not names:
        return report
    regions, places = _merged(report.regions, ground(image, names))
    findings = []
    for finding, claim_list in zip(report.findings, said, strict=True):
        conflicts = (_conflict(claim, places.get(claim.name, ()), regions) for claim in claim_list)
        found = [i for claim in claim_list if claim.present for i in places.get(claim.name, ())]
        ids = finding.region_ids or tuple(found)
        conflict = " ".join(filter(None, conflicts))
        findings.append(replace(finding, region_ids=ids, grounded=bool(ids), conflict=conflict))
    return replace(report, findings=tuple(findings), regions=regions)


def _conflict(claim: Claim, places: Sequence[int], regions: Regions) -> str:
    """A sentence where a claim and what was found do not fit, else ""."""
    if claim.present and not places:
        return f"{claim.name} was looked for and not found."
    if not claim.present and places:
        best = max(places, key=lambda i: float(regions.scores[i]))
        return f"{claim.name} was found [R{best + 1}] with score {float(regions.scores[best]):.2f}."
    return ""


def _merged(known: Regions, again: Regions) -> tuple[Regions, dict[str, list[int]]]:
    """The known regions and those of names that had none, and where each name found again is."""
    new = np.array([phrase not in known.phrases for phrase in again.phrases], dtype=bool)
    asked = tuple(dict.fromkeys((*known.asked, *again.asked)))
    phrases = [*known.phrases, *(p for p, keep in zip(again.phrases, new, strict=True) if keep)]
    regions = known
    if new.any() or asked != known.asked:
        regions = Regions(
            np.concatenate((known.boxes, again.boxes[new])),
            np.concatenate((known.scores, again.scores[new])),
            np.array([asked.index(phrase) for phrase in phrases], dtype=np.int64),
            asked,
            known.image_size,
        )
    found = set(again.phrases)
    places = {name: [i for i, phrase in enumerate(phrases) if phrase == name] for name in found}
    return regions, places


def _sentences(text: str) -> list[str]:
    """Sentences with the citations that follow their full stop."""
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        parts.append(text[start : end.start()] + (end.group(1) or ""))
        start = end.end()
    return [part.strip() for part in (*parts, text[start:]) if strip_citations(part).strip(" .\n")]


def _clauses(sentence: str) -> list[str]:
    """The parts of a sentence in which one denial holds; an enumeration after a denial is one part."""
    parts, start = [], 0
    for end in _CLAUSE_END.finditer(sentence):
        if end.group() == "," and _DENIAL.search(sentence[start : end.start()]):
            continue
        parts.append(sentence[start : end.start()])
        start = end.end()
    return [part for part in (*parts, sentence[start:]) if part.strip()]
