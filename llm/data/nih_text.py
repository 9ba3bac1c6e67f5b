"""Questions and templated reports from image labels of chest X-rays, and the labels that a report states.

Findings in the lungs and pleura are tied to the lungs where a grounder gives them; the labels have no side,
so both lungs are cited. Knows no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from grounding.types import MedicalImage, Regions

from ..types import Finding, Report
from .captions import findings_text
from .instructions import Ground, Instruction
from .nih_cxr import LABELS, LabelledXray
from .wording import draw, joined, number_of, sentence_case

LUNGS: Final = ("right lung", "left lung")
SOURCE: Final = "nih_cxr"


@dataclass(frozen=True)
class _Words:
    """How a label is spoken of.

    Attributes:
        name: In a question, with its article where it needs one.
        present: The sentence that states it.
        pattern: Matches every way in which a sentence names it.
        in_lungs: Whether it lies in or at the lungs.
    """

    name: str
    present: str
    pattern: str
    in_lungs: bool = True


WORDS: Final[dict[str, _Words]] = {
    "Atelectasis": _Words("atelectasis", "Atelectasis of the lung.", r"atelecta"),
    "Cardiomegaly": _Words(
        "cardiomegaly", "The heart is enlarged.", r"cardiomegaly|heart is enlarged|enlarged heart", False
    ),
    "Consolidation": _Words("consolidation", "Consolidation of the lung.", r"consolidat"),
    "Edema": _Words("pulmonary oedema", "Pulmonary oedema.", r"o?edema"),
    "Effusion": _Words("a pleural effusion", "Pleural effusion.", r"effusion"),
    "Emphysema": _Words("emphysema", "Emphysema of the lung.", r"emphysema"),
    "Fibrosis": _Words("fibrosis", "Fibrosis of the lung.", r"fibrosis|fibrotic"),
    "Hernia": _Words("a hernia", "Hernia of the diaphragm.", r"hernia", False),
    "Infiltration": _Words("infiltration", "Infiltration of the lung.", r"infiltrat"),
    "Mass": _Words("a mass", "Mass in the lung.", r"\bmass(es)?\b"),
    "Nodule": _Words("a nodule", "Nodule in the lung.", r"nodul"),
    "Pleural_Thickening": _Words("pleural thickening", "Pleural thickening.", r"pleural thickening"),
    "Pneumonia": _Words("pneumonia", "Findings of pneumonia.", r"pneumonia"),
    "Pneumothorax": _Words("a pneumothorax", "Pneumothorax.", r"pneumothora"),
}
_DENIED: Final = (
    "Effusion",
    "Pneumothorax",
    "Consolidation",
    "Cardiomegaly",
)  # said when absent, as reports do
_NEGATION: Final = re.compile(r"\b(no|not|without|absent|negative)\b", re.IGNORECASE)
_CLEAR: Final = "The lungs are clear."
NO_FINDING: Final = "No finding of the fourteen that were looked for."
_PRESENCE: Final = ("Is there {x}?", "Is {x} present?", "Does this X-ray show {x}?", "Is {x} seen?")
_NORMAL: Final = ("Is this chest X-ray normal?", "Is this a normal chest X-ray?")
_VIEW: Final = ("Is this a PA or AP view?", "Which view is this, PA or AP?")
_REPORT: Final = (
    "Write a report of this chest X-ray.",
    "Report this chest X-ray: findings and impression.",
    "Describe the findings of this chest X-ray and give an impression.",
)


def nih_questions(
    xrays: Iterable[LabelledXray], *, per_label: int = 120, seed: int = 0
) -> tuple[Instruction, ...]:
    """Ask for labels, normality and view; of each label as many "yes" as "no".

    Args:
        xrays: Images of one split.
        per_label: The most "yes" questions of one label.
        seed: Of choice and wording.
    """
    xrays = tuple(xrays)
    items: list[Instruction] = []
    for label in LABELS:
        items += _asked(xrays, label, _PRESENCE, WORDS[label].name, per_label, seed)
    items += _asked(xrays, "", _NORMAL, "", per_label, seed)
    for xray in xrays:
        if number_of(seed, xray.key, "view", parts=4) == 0 and xray.view in ("PA", "AP"):
            items.append(_question(xray, "view", draw(_VIEW, seed, xray.key), xray.view))
    return tuple(items)


def nih_report(xray: LabelledXray, regions: Regions | None) -> Report:
    """The labels as a report: positive findings, the usual denials, and an impression.

    Args:
        xray: The labels.
        regions: What was found of the lungs, or None; sentences without a region are marked ungrounded.
    """
    known = Regions.empty((1, 1)) if regions is None else regions
    lungs = tuple(k for k, phrase in enumerate(known.phrases) if phrase in LUNGS)

    def finding(sentence: str, in_lungs: bool) -> Finding:
        return Finding(sentence, lungs if in_lungs else (), bool(lungs and in_lungs))

    findings = [finding(WORDS[label].present, WORDS[label].in_lungs) for label in xray.labels]
    if not xray.labels:
        findings.append(finding(_CLEAR, True))
    findings += [
        finding(f"No {WORDS[label].name.removeprefix('a ')}.", WORDS[label].in_lungs)
        for label in _DENIED
        if label not in xray.labels
    ]
    names = [WORDS[label].name.removeprefix("a ") for label in xray.labels]
    impression = f"{sentence_case(joined(names))}." if names else NO_FINDING
    return Report(tuple(findings), impression, known)


def nih_reports(
    xrays: Iterable[LabelledXray], ground: Ground | None = None, *, seed: int = 0
) -> tuple[Instruction, ...]:
    """Ask for a report of each image; answers are "Findings: ... Impression: ..." and cite ``[R1]``.

    Args:
        xrays: Images of one split.
        ground: Finds the lungs; None writes reports without regions.
        seed: Of the wording.
    """
    items = []
    for xray in xrays:
        regions = None
        if ground is not None:
            image = MedicalImage.open(xray.image_path, modality="DX")
            regions = _one_of_each(ground(image, LUNGS))
        report = nih_report(xray, regions)
        cited = {k for finding in report.findings for k in finding.region_ids}
        items.append(
            Instruction(
                qid=f"{SOURCE}/report/{xray.key}",
                image_path=xray.image_path,
                question=draw(_REPORT, seed, xray.key),
                answer=report_answer(report),
                kind="report",
                source=SOURCE,
                group=xray.group,
                phrases=LUNGS,
                regions=regions,
                region_ids=tuple(sorted(cited)),
            )
        )
    return tuple(items)


def report_answer(report: Report) -> str:
    """A report as the text that a model learns to write."""
    return f"Findings: {findings_text(report.findings)} Impression: {report.impression}"


def labels_stated(text: str) -> frozenset[str]:
    """The labels that a report states, sentence by sentence; a sentence with a negation states none.

    Where a sentence affirms what another denies, it counts as stated.
    """
    stated = set()
    for sentence in re.split(r"(?<=[.;])\s+|\n", text):
        if not _NEGATION.search(sentence):
            stated |= {
                label for label, words in WORDS.items() if re.search(words.pattern, sentence, re.IGNORECASE)
            }
    return frozenset(stated)


def _one_of_each(regions: Regions) -> Regions:
    """The surest region of each phrase; a chest has one lung a side."""
    ordered = regions.sorted()
    return ordered[[ordered.phrases.index(phrase) for phrase in dict.fromkeys(ordered.phrases)]]


def _asked(
    xrays: Sequence[LabelledXray], label: str, wordings: Sequence[str], name: str, most: int, seed: int
) -> list[Instruction]:
    """Equally many images with "yes" and "no", for a label or, where it is empty, for no label at all."""
    ordered = sorted(xrays, key=lambda xray: number_of(seed, label, xray.key))
    truth = {xray.key: label in xray.labels if label else not xray.labels for xray in ordered}
    yes = [xray for xray in ordered if truth[xray.key]]
    no = [xray for xray in ordered if not truth[xray.key]]
    count = min(len(yes), len(no), most)
    return [
        _question(
            xray,
            label or "normal",
            draw(wordings, seed, label, xray.key).format(x=name),
            "yes" if truth[xray.key] else "no",
        )
        for pair in zip(yes[:count], no[:count], strict=True)
        for xray in pair
    ]


def _question(xray: LabelledXray, what: str, question: str, answer: str) -> Instruction:
    kind = {"normal": "normal", "view": "view"}.get(what, "label")
    return Instruction(
        qid=f"{SOURCE}/{what}/{xray.key}",
        image_path=xray.image_path,
        question=question,
        answer=answer,
        kind=kind,
        source=SOURCE,
        group=xray.group,
        phrases=LUNGS,
    )
