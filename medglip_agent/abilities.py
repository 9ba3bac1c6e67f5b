"""What the agent can do with an image beside answering: each ability is one function over the workbench.

They join the models with the plain geometry of `measure`, `compare`, `segmentation`, `marked` and `modality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy.typing as npt

from grounding.types import MedicalImage, Regions
from llm.types import Report, SpatialPrompt

from .answers import MAX_NEW_TOKENS
from .compare import Comparison, compare_regions
from .confidence import answer_confidence
from .describe import check_box
from .evidence import ImageEvidence
from .marked import QUESTION, MarkedRegion, describe_box, with_marked
from .measure import Measurements, measure_regions
from .modality import ImageModality, classify
from .report import build_report, report_questions
from .segmentation import Segmentation, measure_masks
from .trace import Trace, found
from .workbench import Workbench


def open_image(bench: Workbench, image: MedicalImage, trace: Trace) -> ImageEvidence:
    """Encode `image` as a step of `trace`."""
    height, width = image.size
    inputs = {"source_id": image.source_id[:16], "height": height, "width": width}
    with trace.step("image", {**inputs, "modality": image.modality}) as step:
        how = "encoded before" if bench.is_open(image) else "encoded"
        evidence_of = bench.open(image)
        step.outcome = f"{width} x {height} px, modality {image.modality or 'unknown'}, {how}"
    return evidence_of


def write_report(bench: Workbench, image: MedicalImage) -> Report:
    """Describe `image`: what was found, short answers to fixed questions, an impression.

    What the answers claim of lesions is looked for once more; what does not fit is marked.
    """
    trace = Trace()
    evidence_of = open_image(bench, image, trace)
    with trace.step("grounding", bench.named("grounder")) as step:
        regions = bench.vocabulary(image)
        step.inputs["phrases"] = list(regions.asked)
        step.outcome = found(regions, ())
    questions = report_questions(image)
    with trace.step("generation", {"questions": [q.question for q in questions]}) as step:
        with bench.lock:
            evidence = [evidence_of.gather(q.question).prompted for q in questions]
            prompts = [SpatialPrompt(q.question, image, r) for q, r in zip(questions, evidence, strict=True)]
            replies = bench.language_model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
        step.outcome = f"{len(replies)} short answers"

    def ground_again(picture: MedicalImage, names: Sequence[str]) -> Regions:
        with trace.step("check", {**bench.named("grounder"), "phrases": list(names)}) as step:
            again = bench.find(picture, names)
            step.outcome = found(again, again.missing)
        return again

    report = build_report(image, regions, questions, replies, ground_again, certainty=bench.certainty)
    return replace(report, steps=trace.steps)


def measure(
    bench: Workbench, image: MedicalImage, phrases: Sequence[str], *, distance: bool = False
) -> Measurements:
    """Measure the structures that `phrases` name; see `measure.measure_regions`."""
    return measure_regions(image, bench.ground(image, phrases), distance=distance)


def compare(
    bench: Workbench, image: MedicalImage, prior: MedicalImage, phrases: Sequence[str] = ()
) -> Comparison:
    """Compare `image` with `prior`: what `phrases` name or, without any, all that the grounder knows."""
    if not phrases:
        phrases = bench.vocabulary(image).asked
    asked = bench.ground(image, phrases)
    return compare_regions(image, asked, prior, bench.find(prior, asked.asked))


def segment(bench: Workbench, image: MedicalImage, phrases: Sequence[str]) -> Segmentation:
    """Find what `phrases` name and draw its masks.

    Raises:
        RuntimeError: no segmenter is configured.
    """
    segmenter = bench.segmenter
    if segmenter is None:
        raise RuntimeError(
            "expected a segmenter, got none: load the agent with segmenter=FOLDER of a SAM model"
        )
    regions = bench.ground(image, phrases)
    with bench.lock:
        masked = segmenter.segment(image, regions)
    return measure_masks(image, masked, Path(segmenter.name).name)


def describe(
    bench: Workbench, image: MedicalImage, box: npt.ArrayLike, *, question: str = ""
) -> MarkedRegion:
    """Describe a marked box; the language model, where there is one, answers `question` about it.

    Raises:
        RequestError: it is no box inside the picture.
    """
    inside = check_box(box, image)
    known = bench.vocabulary(image)
    if bench.vlm is None:
        return describe_box(image, inside, known)
    prompt = SpatialPrompt(question.strip() or QUESTION, image, with_marked(inside, known))
    with bench.lock:
        reply = bench.vlm.generate([prompt], max_new_tokens=MAX_NEW_TOKENS)[0]
    certainty = bench.certainty
    sure = answer_confidence(reply.confidence, (), certainty)
    words = reply.text if sure >= certainty.threshold else ""
    return describe_box(image, inside, known, words, sure, calibrated=certainty.calibration is not None)


def modality(bench: Workbench, image: MedicalImage) -> ImageModality:
    """Say what kind of image it is; an image that states it is not looked at."""
    if image.modality is not None:
        return classify(image, {})
    evidence_of = bench.open(image)
    with bench.lock:
        return classify(image, evidence_of.modality_probabilities())
