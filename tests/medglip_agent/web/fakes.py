"""A grounder that knows the phantoms' true boxes, and a language model with a few fixed answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from grounding.data.phantoms import MODALITIES, make_phantom
from grounding.types import MedicalImage, Regions
from llm.types import Generation, SpatialPrompt
from medglip_agent import MedGLIPAgent


class PhantomGrounder:
    """Returns a phantom's own boxes with falling scores; in any other picture, one box a phrase."""

    name = "phantom"

    def set_image(self, image: MedicalImage) -> PhantomImage:
        """Look the picture up among the phantoms of its modality."""
        return PhantomImage(image, truth_of(image.modality, image.source_id))


@cache
def truth_of(modality: str | None, source_id: str) -> Regions | None:
    """Return a phantom's own regions, None for other pictures."""
    for seed in (0, 1) if modality in MODALITIES else ():
        phantom = make_phantom(str(modality), seed)
        if phantom.image.source_id == source_id:
            return phantom.regions
    return None


class PhantomImage:
    """One picture of the fake."""

    def __init__(self, image: MedicalImage, truth: Regions | None) -> None:
        """Keep what is known."""
        self._image, self._truth = image, truth

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return the boxes of the phrases, scores 0.95, 0.90, ... 0.30."""
        if self._truth is None:
            height, width = self._image.size
            boxes = np.array([[0.2 * width, 0.2 * height, 0.6 * width, 0.7 * height]] * len(phrases))
            index = np.arange(len(phrases))
        else:
            kept = [(r.box, phrases.index(r.phrase)) for r in self._truth if r.phrase in phrases]
            boxes = np.array([box for box, _ in kept])
            index = np.array([place for _, place in kept], dtype=np.int64)
        scores = np.maximum(0.95 - 0.05 * np.arange(len(index)), 0.3)
        found = Regions(boxes, scores, index, tuple(phrases), self._image.size)
        return found if box_threshold is None else found.above(box_threshold)


class FixedModel:
    """Answers by the words of the question."""

    name = "fixed"

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Answer each prompt."""
        return [Generation(self._answer(prompt.text), 0.8) for prompt in prompts]

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Iterator[str]:
        """Yield the answer word by word."""
        for word in self._answer(prompt.text).split(" "):
            yield word + " "

    @staticmethod
    def _answer(question: str) -> str:
        if "lung" in question:
            return "the left lung"
        return "yes" if question.lower().startswith(("is ", "are ")) else "it is shown here"


def make_agent() -> MedGLIPAgent:
    """Return the real agent on the two fakes."""
    return MedGLIPAgent(PhantomGrounder(), FixedModel())
