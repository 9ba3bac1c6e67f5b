"""The agent: image + question -> regions -> answer with citations, confidence and trace.

Owns the choice of models and what can be asked of them. Knows neither networks nor widgets: it is given a
grounder and a language model; what an intent does is in `steps`, what needs no question in `abilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy.typing as npt

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Report, Step

from . import abilities, steps
from .compare import Comparison
from .describe import check_box, name_few
from .marked import MarkedRegion
from .measure import Measurements
from .modality import ImageModality
from .planner import Intent, Plan, Planner, RulePlanner
from .protocols import GrounderLike, SegmenterLike, VisionLanguageModelLike
from .request import Dialogue, Events, Request
from .segmentation import Segmentation
from .trace import Trace
from .workbench import Workbench

StreamEvent = Step | str | Answer
"""A finished step, a piece of the language model's text, or, last, the answer."""


class MedGLIPAgent:
    """Answers questions about medical images with regions as evidence.

    An image is encoded once; the last few stay in memory, by the hash of their pixels. The agent holds no
    conversation (`new_conversation` gives one to keep), so one agent may serve many sessions.
    """

    def __init__(
        self,
        grounder: GrounderLike,
        vlm: VisionLanguageModelLike | None,
        *,
        planner: Planner | None = None,
        segmenter: SegmenterLike | None = None,
        box_threshold: float | None = None,
    ) -> None:
        """Take loaded models.

        Args:
            grounder: finds regions.
            vlm: answers questions; None for grounding only.
            planner: decides what a request needs; None for rules that name what the grounder knows.
            segmenter: draws masks inside boxes; None for boxes only.
            box_threshold: regions below it are dropped; None means the grounder's own.
        """
        self._planner = planner or RulePlanner(grounder.ontology)
        self._bench = Workbench(grounder, vlm, segmenter, box_threshold)

    @classmethod
    def from_pretrained(
        cls,
        grounder: str | Path = "nano",
        vlm: str | Path | None = "nano",
        device: str = "auto",
        *,
        segmenter: str | Path | None = None,
        box_threshold: float | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> MedGLIPAgent:
        """Load the models on `device` ("auto" takes CUDA when it is there).

        Args:
            grounder: a name or a folder.
            vlm: a name, a folder or a YAML file (docs/models.md); None for grounding only.
            device: auto, cpu or cuda.
            segmenter: the folder of a SAM or MedSAM model; None for boxes only.
            box_threshold: regions below it are dropped; None means the grounder's own.
            on_progress: is told in a few words what is being loaded.
        """
        from grounding.predictor import Grounder

        say = on_progress or (lambda words: None)
        say(f"loading the grounder {grounder} ...")
        loaded = Grounder.from_pretrained(grounder, device=device)
        masks: SegmenterLike | None = None
        if segmenter is not None:
            from grounding.segment import Segmenter

            say(f"loading the segmenter {segmenter} ...")
            masks = Segmenter.from_pretrained(segmenter, device=device)
        if vlm is None:
            return cls(loaded, None, segmenter=masks, box_threshold=box_threshold)

        from llm.generate import load_model

        say(f"loading the language model {vlm} ...")
        return cls(loaded, load_model(vlm, device=device), segmenter=masks, box_threshold=box_threshold)

    @property
    def grounder(self) -> GrounderLike:
        """Finds regions."""
        return self._bench.grounder

    @property
    def vlm(self) -> VisionLanguageModelLike | None:
        """Answers questions; None where none is loaded."""
        return self._bench.vlm

    @property
    def segmenter(self) -> SegmenterLike | None:
        """Draws masks; None where none is configured."""
        return self._bench.segmenter

    @property
    def models(self) -> dict[str, str]:
        """Role -> name of the models, for exports; of a folder only its last part."""
        loaded = {"grounder": self.grounder, "vlm": self.vlm, "segmenter": self.segmenter}
        return {role: Path(model.name).name for role, model in loaded.items() if model is not None}

    def new_conversation(self) -> Dialogue:
        """Return a conversation to hand to `ask` or `stream` with each question; one a session."""
        return Dialogue()

    def ground(
        self, image: MedicalImage, phrases: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Return the regions of `phrases`, boxes xyxy in pixels of `image`, by falling score.

        A phrase that is a known spelling is asked for by its label ("lungs" asks for both); any other is
        asked for as it stands. No phrase gives empty regions.
        """
        return self._bench.ground(image, phrases, box_threshold=box_threshold)

    def ask(
        self,
        image: MedicalImage,
        question: str,
        *,
        prior: MedicalImage | None = None,
        box: npt.ArrayLike | None = None,
        conversation: Dialogue | None = None,
    ) -> Answer:
        """Answer `question` about `image`, citing the regions that the answer rests on as [R1], [R2] ...

        Out-of-scope questions, and questions about the place, size or look of something that was looked
        for and not found, are answered by an abstention with its reason.

        Args:
            image: the picture.
            question: text; it is never obeyed beyond choosing what to do.
            prior: an earlier picture of the same, to compare with.
            box: what the user has marked, (4,) xyxy in pixels of `image`.
            conversation: earlier questions about `image`, which this one is added to, so that it may leave
                unsaid what they say ("and on the left?"); None for a question of its own.

        Raises:
            ValueError: the question is too long.
            RequestError: the box lies outside the picture.
        """
        events = self._events(self._request(image, question, prior, box, streaming=False), conversation)
        while True:
            try:
                next(events)
            except StopIteration as stop:
                answer: Answer = stop.value
                return answer

    def stream(
        self,
        image: MedicalImage,
        question: str,
        *,
        prior: MedicalImage | None = None,
        box: npt.ArrayLike | None = None,
        conversation: Dialogue | None = None,
    ) -> Iterator[StreamEvent]:
        """Do as `ask` does, yielding each finished `Step`, each piece of text, and the `Answer` last."""
        answer = yield from self._events(
            self._request(image, question, prior, box, streaming=True), conversation
        )
        yield answer

    def report(self, image: MedicalImage) -> Report:
        """Describe `image`: what was found, short answers to fixed questions, an impression."""
        return abilities.write_report(self._bench, image)

    def measure(self, image: MedicalImage, phrases: Sequence[str], *, distance: bool = False) -> Measurements:
        """Measure the boxes of `phrases`, in mm where the pixel spacing is known, else in pixels of `image`.

        Args:
            image: the picture.
            phrases: as `ground` takes them.
            distance: also between the two structures that `phrases` name.

        Raises:
            RequestError: a distance is wanted, and `phrases` do not name exactly two structures.
        """
        return abilities.measure(self._bench, image, phrases, distance=distance)

    def compare(self, image: MedicalImage, prior: MedicalImage, phrases: Sequence[str] = ()) -> Comparison:
        """Compare the boxes of `phrases` in `image` with those in `prior`; none means all that is known."""
        return abilities.compare(self._bench, image, prior, phrases)

    def segment(self, image: MedicalImage, phrases: Sequence[str]) -> Segmentation:
        """Find `phrases` and draw their masks, with areas in mm2 where the pixel spacing is known.

        Raises:
            RuntimeError: no segmenter is configured.
        """
        return abilities.segment(self._bench, image, phrases)

    def describe(self, image: MedicalImage, box: npt.ArrayLike, *, question: str = "") -> MarkedRegion:
        """Describe the marked `box`, (4,) xyxy in pixels of `image`: place, size, what it overlaps.

        The language model, where there is one, answers `question` about it ("What is shown ...?" if empty).

        Raises:
            RequestError: it is no box inside the picture.
        """
        return abilities.describe(self._bench, image, box, question=question)

    def modality(self, image: MedicalImage) -> ImageModality:
        """Say what kind of image it is: as it says, else as the grounder takes it, else unknown."""
        return abilities.modality(self._bench, image)

    @staticmethod
    def _request(
        image: MedicalImage,
        question: str,
        prior: MedicalImage | None,
        box: npt.ArrayLike | None,
        *,
        streaming: bool,
    ) -> Request:
        marked = None if box is None else check_box(box, image)
        return Request(image, question, prior, marked, streaming)

    def _events(self, request: Request, conversation: Dialogue | None) -> Events:
        trace, talk = Trace(), conversation or Dialogue()
        with trace.step("plan", {"question": request.question}) as step:
            plan = self._planner.plan(request.question, request.image.modality, talk.about(request.image))
            plan = _about_the_box(plan, request)
            talk.add(request.question)
            step.outcome = _told(plan)
        yield trace.steps[-1]
        return (yield from steps.run(self._bench, request, plan, trace))


def _about_the_box(plan: Plan, request: Request) -> Plan:
    """Take a question that names nothing ("Is this normal?") to be about what the user has marked."""
    if request.box is None or plan.intent is not Intent.ASK or plan.phrases or plan.unknown:
        return plan
    return replace(plan, intent=Intent.DESCRIBE_REGION)


def _told(plan: Plan) -> str:
    """The plan in one line."""
    named = f"; names {', '.join(plan.phrases)}" if plan.phrases else ""
    unknown = f"; does not know {name_few(plan.unknown)}" if plan.unknown else ""
    follows = f"; as a follow-up it asks: {plan.question}" if plan.question else ""
    return f"{plan.intent}{named}{unknown}{follows}"
