"""How answers are worded: citations, abstentions, confidence. Rules only, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty
from llm.types import Answer, Report, SpatialPrompt, Step

from .citations import choose_citations, cite, contradiction, strip_citations
from .confidence import RAW, answer_confidence, confidence_text
from .describe import describe_region, sentence_case
from .region_book import forged
from .report import report_text
from .trace import Trace

MAX_NEW_TOKENS: Final = 32
UNGROUNDED: Final = "No region supports this answer."

_DESCRIBED_PER_LABEL: Final = 3


def abstain(reason: str, regions: Regions, steps: Sequence[Step]) -> Answer:
    """Return an answer that says why there is none."""
    return Answer(f"I cannot answer this. {reason}", regions, None, True, tuple(steps), reason)


def cited_answer(
    prompt: SpatialPrompt,
    text: str,
    confidence: float | None,
    missing: Sequence[str],
    trace: Trace,
    certainty: Certainty = RAW,
) -> Answer:
    """Return the language model's `text` with the citations that support it, or an abstention.

    Args:
        prompt: what the model was given; its regions are the ones that can be cited.
        text: the model's reply; its own [Rn] marks are dropped.
        confidence: of the generation, None where unknown.
        missing: labels that the question rests on and that were not found; they are said.
        trace: gets a step that tells what was cited, and what the model got wrong.
        certainty: how sure the model's answers are; one less sure than its threshold is withheld.
    """
    regions = prompt.regions.found if prompt.regions is not None else Regions.empty(prompt.image.size)
    words = strip_citations(text)
    if not words:
        return abstain("The language model gave no answer.", regions, trace.steps)
    with trace.step("citation", {"answer": words}) as step:
        cited = choose_citations(prompt.text, words, regions, prompt.image.modality)
        step.outcome = cite(cited) or UNGROUNDED
        if invented := forged(text, len(regions)):
            step.outcome += f"; the language model cited regions that do not exist: {cite(invented)}"
    reasons = [] if cited else [UNGROUNDED]
    if conflict := contradiction(prompt.text, words, regions, cited):
        reasons.append(conflict)
    if missing:
        reasons.append(f"Looked for and not found: {', '.join(missing)}.")
    reason = " ".join(reasons)
    sentence = f"{words.rstrip('.')} {cite(cited)}".strip() + "."
    scores = [float(regions.scores[i]) for i in cited]
    sure = None if confidence is None else answer_confidence(confidence, scores, certainty)
    calibrated = sure is not None and certainty.calibration is not None
    if sure is not None and sure < certainty.threshold:
        number = confidence_text(sure, calibrated=calibrated)
        reason = (
            f"The answer would not be sure enough: confidence {number}, {certainty.threshold:.2f} is asked."
        )
        text = f"I cannot answer this. {reason}"
        return Answer(text, regions, sure, True, trace.steps, reason, calibrated)
    return Answer(f"{sentence} {reason}".strip(), regions, sure, False, trace.steps, reason, calibrated)


def answer_from_regions(
    image: MedicalImage, regions: Regions, steps: Sequence[Step], *, calibrated: bool
) -> Answer:
    """Return the answer to "show me ...": one sentence a region, or a count where there are many.

    Its confidence is the mean score of the regions: where they are calibrated, the share of right boxes.
    """
    sentences: list[str] = []
    for phrase in regions.asked:
        members = [region for region in regions if region.phrase == phrase]
        if len(members) > _DESCRIBED_PER_LABEL:
            first = cite(region.index for region in members[:_DESCRIBED_PER_LABEL])
            sentences.append(f"{sentence_case(phrase)}: {len(members)} regions {first} ...")
        else:
            sentences += [f"{describe_region(r, image).rstrip('.')} {cite([r.index])}." for r in members]
    reason = f"Looked for and not found: {', '.join(regions.missing)}." if regions.missing else ""
    text = " ".join([*sentences, reason]).strip()
    confidence = float(regions.scores.mean()) if len(regions) else None
    known = calibrated and confidence is not None
    return Answer(text, regions, confidence, False, tuple(steps), reason, known)


def count_text(regions: Regions) -> str:
    """Return how many regions there are, and of what: "2 found: right lung [R1], left lung [R2]."."""
    parts = []
    for phrase in dict.fromkeys(regions.phrases):
        members = [region.index for region in regions if region.phrase == phrase]
        left = len(members) - _DESCRIBED_PER_LABEL
        more = f" and {left} more" if left > 0 else ""
        parts.append(f"{phrase} {cite(members[:_DESCRIBED_PER_LABEL])}{more}")
    return f"{len(regions)} found: {', '.join(parts)}."


def report_answer(report: Report, steps: Sequence[Step]) -> Answer:
    """Return a report as the answer to a question that asked for one."""
    return Answer(report_text(report), report.regions, None, False, tuple(steps))
