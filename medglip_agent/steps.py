"""What each intent does with an image: the steps of a question, in order, each kept in the trace.

`STEPS` says which function serves which intent; abilities that are no question (`ground`, `compare` ...) are
plain functions in `abilities.py`. Text from users, images and models is data here, never an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from grounding.types import Regions
from llm.types import Answer, SpatialPrompt, Step

from . import abilities
from .answers import (
    MAX_NEW_TOKENS,
    abstain,
    answer_from_regions,
    cited_answer,
    count_text,
    report_answer,
)
from .citations import cited_regions
from .describe import name_few, sentence_case
from .evidence import ImageEvidence, vocabulary_for
from .planner import Plan
from .region_book import CitedStream
from .request import Events, Request, RequestError
from .streaming import Reply, read_stream
from .trace import Trace, found
from .workbench import Workbench

Serve = Callable[[Workbench, Request, Plan, Trace], Events]

_DISTANCE: Final = re.compile(r"\b(distances?|how far|far apart|gap|separat\w+|between)\b", re.IGNORECASE)
_HOW_MADE: Final = re.compile(
    r"\b(sequence|weight\w*|t1|t2|flair|phase|contrast|window|plane|view|projection|stain\w*|magnif\w+)\b",
    re.IGNORECASE,
)
_LOOKING: Final = frozenset(("ASK", "GROUND", "MEASURE", "SEGMENT", "COMPARE"))
_NO_SEGMENTER: Final = "No segmenter is configured: boxes are shown in place of outlines."


def refuse(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Say why the request is not answered."""
    yield from ()
    return abstain(plan.reason, Regions.empty(request.image.size), trace.steps)


def answer(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Answer in words, with the regions found as evidence."""
    if plan.counts:
        return (yield from count(bench, request, plan, trace))
    evidence_of = yield from _open(bench, request, trace)
    with trace.step("grounding", bench.named("grounder")) as step:
        with bench.lock:
            evidence = evidence_of.gather(request.question)
        step.inputs["phrases"] = list(evidence.asked)
        step.outcome = found(evidence.regions, evidence.missing)
    yield trace.steps[-1]
    if plan.needs_region and set(plan.phrases) <= set(evidence.missing):
        return abstain(_not_found(plan.phrases), evidence.regions, trace.steps)
    prompt = SpatialPrompt(request.question.strip(), request.image, evidence.prompted)
    text, confidence = yield from _generate(bench, prompt, trace, streaming=request.streaming)
    missing = evidence.missing if plan.needs_region else ()
    return cited_answer(prompt, text, confidence, missing, trace, bench.certainty)


def count(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Say how many of the named structures are found: a number that its regions bear out."""
    regions = yield from _ground(bench, request, plan, trace)
    return _stated(bench, count_text(regions), regions, trace)


def report(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Write a report."""
    written = abilities.write_report(bench, request.image)
    yield from written.steps
    return report_answer(written, trace.steps + written.steps)


def locate(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Show where the named structures are."""
    if not plan.phrases:
        yield from _open(bench, request, trace)
        return _nothing_named(bench, request, trace)
    regions = yield from _ground(bench, request, plan, trace)
    if not len(regions):
        return abstain(_not_found(plan.phrases), regions, trace.steps)
    return answer_from_regions(request.image, regions, trace.steps, calibrated=bench.calibrated)


def measure(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Measure the named structures, or the distance between two of them."""
    yield from _open(bench, request, trace)
    if not plan.phrases:
        return _nothing_named(bench, request, trace)
    distance = len(plan.phrases) == 2 and bool(_DISTANCE.search(request.question))
    inputs = {**bench.named("grounder"), "phrases": list(plan.phrases), "distance": distance}
    with trace.step("measure", inputs) as step:
        result = abilities.measure(bench, request.image, plan.phrases, distance=distance)
        step.outcome = found(result.regions, result.regions.missing)
    yield trace.steps[-1]
    return _stated(bench, result.text, result.regions, trace)


def segment(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Outline the named structures; without a segmenter show their boxes, and say so."""
    if bench.segmenter is None:
        boxes = yield from locate(bench, request, plan, trace)
        if boxes.abstained:
            return boxes
        text, reason = f"{boxes.text} {_NO_SEGMENTER}", f"{boxes.reason} {_NO_SEGMENTER}".strip()
        return replace(boxes, text=text, reason=reason)
    yield from _open(bench, request, trace)
    if not plan.phrases:
        return _nothing_named(bench, request, trace)
    inputs = {**bench.named("segmenter"), "phrases": list(plan.phrases)}
    with trace.step("segment", inputs) as step:
        result = abilities.segment(bench, request.image, plan.phrases)
        step.outcome = found(result.regions, result.regions.missing)
    yield trace.steps[-1]
    return _stated(bench, result.text, result.regions, trace)


def compare(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Compare with the prior image."""
    if request.prior is None:
        reason = "Comparing needs an earlier image of the same: give one beside the current image."
        return abstain(reason, Regions.empty(request.image.size), trace.steps)
    yield from _open(bench, request, trace)
    inputs = {"phrases": list(plan.phrases), "prior_source_id": request.prior.source_id[:16]}
    with trace.step("compare", inputs) as step:
        result = abilities.compare(bench, request.image, request.prior, plan.phrases)
        step.outcome = (
            ", ".join(f"{c.phrase} {c.status}" for c in result.changes) or "nothing in either image"
        )
    yield trace.steps[-1]
    if not result.changes:
        looked = ", ".join(result.absent) or "nothing that I know"
        return abstain(f"Found in neither image: {looked}.", result.regions, trace.steps)
    return Answer(result.text, result.regions, None, False, trace.steps)


def describe(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Describe the box that the user has marked."""
    if request.box is None:
        reason = "No part of the picture is marked: draw a box and ask again."
        return abstain(reason, Regions.empty(request.image.size), trace.steps)
    yield from _open(bench, request, trace)
    box = [round(float(side), 1) for side in request.box]
    with trace.step("describe", {"box_xyxy_px": box, "question": request.question}) as step:
        result = abilities.describe(bench, request.image, request.box, question=request.question)
        step.outcome = found(result.regions, ())
    yield trace.steps[-1]
    return Answer(
        result.text, result.regions, result.confidence, False, trace.steps, calibrated=result.calibrated
    )


def modality(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Say what kind of image it is; how it was made beyond that is for the language model."""
    if _HOW_MADE.search(request.question) and bench.vlm is not None:
        return (yield from answer(bench, request, plan, trace))
    yield from _open(bench, request, trace)
    with trace.step("modality", {"stated": request.image.modality}) as step:
        result = abilities.modality(bench, request.image)
        step.outcome = result.text
    yield trace.steps[-1]
    nothing = Regions.empty(request.image.size)
    if not result.codes:
        return abstain(result.text, nothing, trace.steps)
    return Answer(result.text, nothing, result.probability, False, trace.steps)


# By the intent's name in `planner.Intent`.
STEPS: Final[Mapping[str, Serve]] = {
    "OUT_OF_SCOPE": refuse,
    "ASK": answer,
    "REPORT": report,
    "GROUND": locate,
    "MEASURE": measure,
    "SEGMENT": segment,
    "COMPARE": compare,
    "DESCRIBE_REGION": describe,
    "MODALITY": modality,
}


def run(bench: Workbench, request: Request, plan: Plan, trace: Trace) -> Events:
    """Serve the plan; what was asked wrongly is told as an abstention, and what is not known is named."""
    if plan.question:
        request = replace(request, question=plan.question)
    try:
        served = yield from STEPS[plan.intent.name](bench, request, plan, trace)
    except RequestError as error:
        return abstain(sentence_case(f"{error}."), Regions.empty(request.image.size), trace.steps)
    return _with_unknown(served, plan)


def _with_unknown(served: Answer, plan: Plan) -> Answer:
    """Say what was named and cannot be looked for; an answer in words with its evidence needs no remark."""
    silent = plan.intent.name not in _LOOKING or (plan.intent.name == "ASK" and cited_regions(served.text))
    if silent or not plan.unknown:
        return served
    said = f"I have not learned to find: {name_few(plan.unknown)}."
    return replace(served, text=f"{served.text} {said}", reason=f"{served.reason} {said}".strip())


def _open(bench: Workbench, request: Request, trace: Trace) -> Generator[Step | str, None, ImageEvidence]:
    evidence_of = abilities.open_image(bench, request.image, trace)
    yield trace.steps[-1]
    return evidence_of


def _ground(
    bench: Workbench, request: Request, plan: Plan, trace: Trace
) -> Generator[Step | str, None, Regions]:
    evidence_of = yield from _open(bench, request, trace)
    inputs = {**bench.named("grounder"), "phrases": list(plan.phrases)}
    with trace.step("grounding", inputs) as step:
        with bench.lock:
            regions = evidence_of.ground(plan.phrases)
        step.outcome = found(regions, regions.missing)
    yield trace.steps[-1]
    return regions


def _generate(
    bench: Workbench, prompt: SpatialPrompt, trace: Trace, *, streaming: bool
) -> Generator[Step | str, None, tuple[str, float | None]]:
    vlm = bench.language_model
    inputs = {"vlm": Path(vlm.name).name, "question": prompt.text, "max_new_tokens": MAX_NEW_TOKENS}
    with trace.step("generation", inputs) as step:
        if streaming:
            pieces = read_stream(vlm.stream(prompt, max_new_tokens=MAX_NEW_TOKENS), bench.lock)
            text, confidence = yield from without_citations(pieces)
        else:
            with bench.lock:
                generation = vlm.generate([prompt], max_new_tokens=MAX_NEW_TOKENS)[0]
            text, confidence = generation.text, generation.confidence
        step.outcome = text or "the model gave no text"
    yield trace.steps[-1]
    return text, confidence


def without_citations(pieces: Generator[str, None, Reply]) -> Generator[str, None, Reply]:
    """The pieces of a reply without what a model cites itself: the agent cites, when the reply is whole."""
    shown = CitedStream(0)
    with closing(pieces):
        try:
            while True:
                if piece := shown.feed(next(pieces)):
                    yield piece
        except StopIteration as end:
            reply: Reply = end.value
    if rest := shown.close().rstrip():
        yield rest
    return reply


def _stated(bench: Workbench, text: str, regions: Regions, trace: Trace) -> Answer:
    """An answer read off regions: its confidence is their mean score, calibrated where the scores are."""
    if not len(regions):
        return abstain(_not_found(regions.asked), regions, trace.steps)
    reason = f"Looked for and not found: {', '.join(regions.missing)}." if regions.missing else ""
    confidence = float(regions.scores.mean())
    return Answer(text, regions, confidence, False, trace.steps, reason, bench.calibrated)


def _nothing_named(bench: Workbench, request: Request, trace: Trace) -> Answer:
    known = ", ".join(vocabulary_for(request.image, bench.grounder.ontology))
    known = known or "nothing in this kind of image"
    reason = f"No structure that I know is named; in this picture I can look for: {known}."
    return abstain(reason, Regions.empty(request.image.size), trace.steps)


def _not_found(phrases: Sequence[str]) -> str:
    verb = "was" if len(phrases) == 1 else "were"
    return sentence_case(f"{', '.join(phrases)} {verb} looked for in this picture and not found.")
