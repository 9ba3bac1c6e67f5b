"""The agent: image + question -> regions -> answer with citations, confidence and trace.

Owns the order of the steps and the rules of citing and abstaining. Knows neither networks nor widgets: it is
given a grounder and a language model. Text from users, images and models is data here, never an instruction.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Generation, Report, SpatialPrompt, Step

from .answers import MAX_NEW_TOKENS, abstain, answer_from_regions, cited_answer, report_answer
from .describe import sentence_case
from .evidence import Evidence, GrounderLike, ImageEvidence, vocabulary_for
from .planner import Intent, Plan, Planner, RulePlanner
from .report import build_report, report_questions
from .streaming import read_stream
from .trace import Trace

_CACHED_IMAGES: Final = 8

StreamEvent = Step | str | Answer
"""A finished step, a piece of the language model's text, or, last, the answer."""

_Events = Generator[Step | str, None, Answer]


class VisionLanguageModelLike(Protocol):
    """What this package needs from `llm.generate.VisionLanguageModel`."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        ...

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Answer each prompt, greedily."""
        ...

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Iterator[str]:
        """Yield the answer to `prompt` piece by piece; a generator may return its `Generation`."""
        ...


class MedGLIPAgent:
    """Answers questions about medical images with regions as evidence.

    An image is encoded once; the last few stay in memory, by the hash of their pixels. The agent holds no
    conversation, so one agent may serve many sessions.
    """

    def __init__(
        self,
        grounder: GrounderLike,
        vlm: VisionLanguageModelLike | None,
        *,
        planner: Planner | None = None,
        box_threshold: float | None = None,
    ) -> None:
        """Take loaded models.

        Args:
            grounder: finds regions.
            vlm: answers questions; None for grounding only.
            planner: decides what a request needs; None for rules that name what the grounder knows.
            box_threshold: regions below it are dropped; None means the grounder's own.
        """
        self.grounder = grounder
        self.vlm = vlm
        self._planner = planner or RulePlanner(grounder.ontology)
        self._threshold = box_threshold
        self._images: OrderedDict[tuple[str, str | None], ImageEvidence] = OrderedDict()
        self._models_lock = threading.Lock()  # the models serve one caller at a time

    @classmethod
    def from_pretrained(
        cls,
        grounder: str | Path = "nano",
        vlm: str | Path | None = "nano",
        device: str = "auto",
        *,
        box_threshold: float | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> MedGLIPAgent:
        """Load the models on `device` ("auto" takes CUDA when it is there).

        Args:
            grounder: a name or a folder.
            vlm: a name, a folder or a YAML file (docs/models.md); None for grounding only.
            device: auto, cpu or cuda.
            box_threshold: regions below it are dropped; None means the grounder's own.
            on_progress: is told in a few words what is being loaded.
        """
        from grounding.predictor import Grounder

        if on_progress:
            on_progress(f"loading the grounder {grounder} ...")
        loaded = Grounder.from_pretrained(grounder, device=device)
        if vlm is None:
            return cls(loaded, None, box_threshold=box_threshold)

        from llm.generate import load_model

        if on_progress:
            on_progress(f"loading the language model {vlm} ...")
        language_model = load_model(vlm, device=device)
        return cls(loaded, language_model, box_threshold=box_threshold)

    @property
    def models(self) -> dict[str, str]:
        """The names of the models, for exports; of a folder only its last part."""
        names = {"grounder": Path(self.grounder.name).name}
        return names if self.vlm is None else {**names, "vlm": Path(self.vlm.name).name}

    @property
    def _language_model(self) -> VisionLanguageModelLike:
        if self.vlm is None:
            raise RuntimeError("expected a language model, got none: load the agent with vlm='nano'")
        return self.vlm

    def ground(
        self, image: MedicalImage, phrases: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Return the regions of `phrases`, boxes xyxy in pixels of `image`, by falling score.

        A phrase that is a known spelling is asked for by its label ("lungs" asks for both); any other is
        asked for as it stands. No phrase gives empty regions.
        """
        ontology = self.grounder.ontology
        named = (ontology.resolve(p, image.modality) or (p.strip(),) for p in phrases if p.strip())
        wanted = tuple(dict.fromkeys(label for labels in named for label in labels))
        if not wanted:
            return Regions.empty(image.size)
        evidence_of = self._evidence_of(image)
        with self._models_lock:
            return evidence_of.ground(wanted, box_threshold=box_threshold)

    def ask(self, image: MedicalImage, question: str) -> Answer:
        """Answer `question` about `image`, citing the regions that the answer rests on as [R1], [R2] ...

        Out-of-scope questions, and questions about the place, size or look of something that was looked
        for and not found, are answered by an abstention with its reason.

        Raises:
            ValueError: the question is too long.
        """
        events = self._events(image, question, streaming=False)
        while True:
            try:
                next(events)
            except StopIteration as stop:
                answer: Answer = stop.value
                return answer

    def stream(self, image: MedicalImage, question: str) -> Iterator[StreamEvent]:
        """Do as `ask` does, yielding each finished `Step`, each piece of text, and the `Answer` last."""
        answer = yield from self._events(image, question, streaming=True)
        yield answer

    def report(self, image: MedicalImage) -> Report:
        """Describe `image`: what was found, short answers to fixed questions, an impression."""
        trace = Trace()
        evidence_of = self._open(image, trace)
        evidence = self._gather(evidence_of, "", trace)
        questions = report_questions(image)
        with trace.step("generation", {"questions": [q.question for q in questions]}) as step:
            with self._models_lock:
                found = [evidence_of.gather(q.question).regions for q in questions]
                prompts = [SpatialPrompt(q.question, image, r) for q, r in zip(questions, found, strict=True)]
                replies = self._language_model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
            step.outcome = f"{len(replies)} short answers"
        return build_report(image, evidence.regions, questions, replies, trace.steps)

    # ---- the steps of a question -------------------------------------------------------------------

    def _events(self, image: MedicalImage, question: str, *, streaming: bool) -> _Events:
        trace = Trace()
        plan = self._plan(question, image, trace)
        yield trace.steps[-1]
        if plan.intent is Intent.OUT_OF_SCOPE:
            return abstain(plan.reason, Regions.empty(image.size), trace.steps)
        if plan.intent is Intent.REPORT:
            report = self.report(image)
            yield from report.steps
            return report_answer(report, trace.steps + report.steps)
        evidence_of = self._open(image, trace)
        yield trace.steps[-1]
        if plan.intent is Intent.GROUND:
            return (yield from self._locate(evidence_of, plan, trace))
        evidence = self._gather(evidence_of, question, trace)
        yield trace.steps[-1]
        if plan.needs_region and set(plan.phrases) <= set(evidence.missing):
            return abstain(_not_found(plan.phrases), evidence.regions, trace.steps)
        prompt = SpatialPrompt(question.strip(), image, evidence.regions)
        text, confidence = yield from self._generate(prompt, trace, streaming=streaming)
        return cited_answer(prompt, text, confidence, evidence.missing if plan.needs_region else (), trace)

    def _plan(self, question: str, image: MedicalImage, trace: Trace) -> Plan:
        with trace.step("plan", {"question": question}) as step:
            plan = self._planner.plan(question, image.modality)
            named = f"; names {', '.join(plan.phrases)}" if plan.phrases else ""
            step.outcome = f"{plan.intent}{named}"
        return plan

    def _open(self, image: MedicalImage, trace: Trace) -> ImageEvidence:
        height, width = image.size
        inputs = {"source_id": image.source_id[:16], "height": height, "width": width}
        with trace.step("image", {**inputs, "modality": image.modality}) as step:
            before = self._key(image) in self._images
            evidence_of = self._evidence_of(image)
            how = "encoded before" if before else "encoded"
            step.outcome = f"{width} x {height} px, modality {image.modality or 'unknown'}, {how}"
        return evidence_of

    def _evidence_of(self, image: MedicalImage) -> ImageEvidence:
        key = self._key(image)
        with self._models_lock:
            if key not in self._images:
                self._images[key] = ImageEvidence(self.grounder, image, box_threshold=self._threshold)
            self._images.move_to_end(key)
            while len(self._images) > _CACHED_IMAGES:
                self._images.popitem(last=False)
            return self._images[key]

    @staticmethod
    def _key(image: MedicalImage) -> tuple[str, str | None]:
        return image.source_id, image.modality

    def _gather(self, evidence_of: ImageEvidence, question: str, trace: Trace) -> Evidence:
        with trace.step("grounding", {"grounder": self.grounder.name}) as step:
            with self._models_lock:
                evidence = evidence_of.gather(question)
            step.inputs["phrases"] = list(evidence.asked)
            step.outcome = _found(evidence.regions, evidence.missing)
        return evidence

    def _locate(self, evidence_of: ImageEvidence, plan: Plan, trace: Trace) -> _Events:
        image = evidence_of.image
        if not plan.phrases:
            labels = vocabulary_for(image, self.grounder.ontology)
            known = ", ".join(labels) or "nothing in this kind of image"
            reason = f"No structure that I know is named; in this picture I can look for: {known}."
            return abstain(reason, Regions.empty(image.size), trace.steps)
        inputs = {"grounder": self.grounder.name, "phrases": list(plan.phrases)}
        with trace.step("grounding", inputs) as step:
            with self._models_lock:
                regions = evidence_of.ground(plan.phrases)
            step.outcome = _found(regions, regions.missing)
        yield trace.steps[-1]
        if not len(regions):
            return abstain(_not_found(plan.phrases), regions, trace.steps)
        return answer_from_regions(image, regions, trace.steps)

    def _generate(
        self, prompt: SpatialPrompt, trace: Trace, *, streaming: bool
    ) -> Generator[Step | str, None, tuple[str, float | None]]:
        vlm = self._language_model
        inputs = {"vlm": vlm.name, "question": prompt.text, "max_new_tokens": MAX_NEW_TOKENS}
        with trace.step("generation", inputs) as step:
            if streaming:
                pieces = vlm.stream(prompt, max_new_tokens=MAX_NEW_TOKENS)
                text, confidence = yield from read_stream(pieces, self._models_lock)
            else:
                with self._models_lock:
                    generation = vlm.generate([prompt], max_new_tokens=MAX_NEW_TOKENS)[0]
                text, confidence = generation.text, generation.confidence
            step.outcome = text or "the model gave no text"
        yield trace.steps[-1]
        return text, confidence


def _not_found(phrases: Sequence[str]) -> str:
    verb = "was" if len(phrases) == 1 else "were"
    return sentence_case(f"{', '.join(phrases)} {verb} looked for in this picture and not found.")


def _found(regions: Regions, missing: Sequence[str]) -> str:
    pairs = zip(regions.phrases, regions.scores.tolist(), strict=True)
    found = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in pairs) or "no region"
    return f"{found}; not found: {', '.join(missing)}" if missing else found
