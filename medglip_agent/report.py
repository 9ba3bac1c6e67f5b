"""Reports: sentences with their regions, from templates and short answers, or in a model's own words.

A sentence that no region supports is marked so, and one that the grounder contradicts says what was found.
Knows no network: it is given regions, replies and callables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.report import Claim, Ground, Writer, check_report, write_report
from llm.types import Finding, Generation, Report, Step

from . import NOTICE
from .citations import choose_citations, cite, strip_citations
from .describe import describe_region, sentence_case
from .evidence import is_coloured

_NO: Final = re.compile(r"^\W*no\b", re.IGNORECASE)
_YES: Final = re.compile(r"^\W*yes\b", re.IGNORECASE)
_COUNTED_FROM: Final = 4  # more regions of one label than that minus one are counted, not described


@dataclass(frozen=True)
class ReportQuestion:
    """A short question that the report asks the language model.

    Attributes:
        subject: what the sentence is about, e.g. "Pneumothorax".
        question: the question as the model gets it.
        alarming: a "yes" belongs into the impression.
    """

    subject: str
    question: str
    alarming: bool = False


_CHEST: Final = (
    ReportQuestion("Pneumothorax", "Is there a pneumothorax?", alarming=True),
    ReportQuestion("Pleural effusion", "Is there a pleural effusion?", alarming=True),
    ReportQuestion("Lung consolidation", "Is there consolidation in the lungs?", alarming=True),
    ReportQuestion("Enlarged heart", "Is the heart enlarged?", alarming=True),
)
_CT: Final = (
    ReportQuestion("Free fluid", "Is there free fluid?", alarming=True),
    ReportQuestion("Mass", "Is there a mass?", alarming=True),
    ReportQuestion("Liver lesion", "Is there a lesion in the liver?", alarming=True),
)
_MR: Final = (
    ReportQuestion("Mass", "Is there a mass?", alarming=True),
    ReportQuestion("Midline shift", "Is there midline shift?", alarming=True),
    ReportQuestion("Haemorrhage", "Is there a hemorrhage?", alarming=True),
)
_GREY: Final = (
    ReportQuestion("Imaging modality", "What imaging modality is this?"),
    ReportQuestion("Organ system", "What organ system is shown?"),
    ReportQuestion("Abnormality", "Is there an abnormality in this image?", alarming=True),
)
_QUESTIONS: Final[Mapping[str, Sequence[ReportQuestion]]] = {"CR": _CHEST, "DX": _CHEST, "CT": _CT, "MR": _MR}


def report_questions(image: MedicalImage) -> tuple[ReportQuestion, ...]:
    """Return the questions for the image's modality; general ones for a grey picture of unknown origin.

    None for the other modalities: the language model has not seen them.
    """
    if image.modality is None:
        return () if is_coloured(image.pixels) else _GREY
    return tuple(_QUESTIONS.get(image.modality, ()))


def build_report(
    image: MedicalImage,
    regions: Regions,
    questions: Sequence[ReportQuestion],
    replies: Sequence[Generation],
    steps: Sequence[Step],
    ground: Ground | None = None,
) -> Report:
    """Put the report together, and check what the language model says of lesions.

    Args:
        image: the picture, for places and sizes.
        regions: everything found; `regions.asked` is what was looked for.
        questions: what the language model was asked.
        replies: its replies, one a question.
        steps: the trace.
        ground: looks again for what the replies claim; None compares them with `regions`.
    """
    findings = [*_region_findings(image, regions)]
    said: list[tuple[Claim, ...]] = [()] * len(findings)
    alarms: list[str] = []
    for item, reply in zip(questions, replies, strict=True):
        words = strip_citations(reply.text).rstrip(".") or "no answer from the language model"
        cited = choose_citations(item.question, words, regions, image.modality)
        findings.append(Finding(f"{item.subject}: {words}.", cited, bool(cited)))
        said.append(_claims(item.question, words, regions, image.modality))
        if item.alarming and _YES.match(words):
            alarms.append(f"{item.subject.lower()} ({cite(cited) or 'no region supports this'})")
    impression = _impression(regions, alarms)
    report = Report(tuple(findings), impression, regions, tuple(steps))
    return check_report(report, said, image, ground or (lambda _, names: regions))


def written_report(
    vlm: Writer, image: MedicalImage, regions: Regions, ground: Ground, ontology: Ontology
) -> Report:
    """Return a report in the language model's own words, for models that learned to write one.

    Args:
        vlm: writes it.
        image: the picture.
        regions: everything found in it.
        ground: looks again for what the report claims.
        ontology: the labels as the grounder knows them.
    """

    def names_in(text: str) -> tuple[str, ...]:
        return ontology.mentions(text, image.modality)

    def lesions_in(text: str) -> tuple[str, ...]:
        return _lesions(names_in(text))

    return write_report(vlm, image, regions, ground, names_in, lesions_in)


def report_text(report: Report) -> str:
    """Return the report as plain text with citations; ungrounded sentences are marked."""
    lines = ["Findings:"]
    for finding in report.findings:
        mark = cite(finding.region_ids) if finding.grounded else "(not grounded)"
        against = f" (contradicted: {finding.conflict})" if finding.conflict else ""
        lines.append(f"- {finding.sentence} {mark}{against}")
    if not report.findings:
        lines.append("- Nothing that can be described was found. (not grounded)")
    return "\n".join([*lines, f"Impression: {report.impression}"])


def _region_findings(image: MedicalImage, regions: Regions) -> list[Finding]:
    findings: list[Finding] = []
    for phrase in dict.fromkeys(regions.phrases):
        members = [region for region in regions if region.phrase == phrase]
        if len(members) >= _COUNTED_FROM:
            sentence = f"{sentence_case(phrase)}: {len(members)} regions."
            findings.append(Finding(sentence, tuple(r.index for r in members), True))
        else:
            findings += [Finding(describe_region(r, image), (r.index,), True) for r in members]
    return findings


def _claims(question: str, reply: str, regions: Regions, modality: str | None) -> tuple[Claim, ...]:
    """Return what a yes or no to a question says of the lesions that the question names."""
    if not (_YES.match(reply) or _NO.match(reply)):
        return ()
    named = Ontology.load().known_to(regions.asked).mentions(question, modality)
    return tuple(Claim(lesion, bool(_YES.match(reply))) for lesion in _lesions(named))


def _lesions(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that are lesions: an organ is not denied by what is said of it."""
    ontology = Ontology.load()
    return tuple(label for label in labels if ontology.label(label).granularity == "lesion")


def _impression(regions: Regions, alarms: Sequence[str]) -> str:
    ontology = Ontology.load()
    lesions = _lesions(ontology.names)
    parts: list[str] = []
    for lesion in lesions:
        if cited := [i for i, phrase in enumerate(regions.phrases) if phrase == lesion]:
            parts.append(f"Suspected {lesion} {cite(cited)}.")
    if alarms:
        parts.append(f"The language model answers yes to: {', '.join(alarms)}.")
    if not parts:
        sought = [label for label in regions.asked if label in lesions]
        looked = f" Looked for: {', '.join(sought)}." if sought else " No lesion could be looked for."
        parts.append(f"No lesion was found; this does not exclude disease.{looked}")
    return " ".join([*parts, NOTICE])
