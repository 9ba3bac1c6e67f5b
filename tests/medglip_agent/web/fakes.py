"""A grounder that finds a few structures where they usually are, and a language model with fixed answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty
from llm.types import Generation, SpatialPrompt
from medglip_agent import MedGLIPAgent

# Phrase -> box (x1, y1, x2, y2 as fractions of the picture) and score; they fit the phantoms.
_PLACES: Final = {
    "right lung": ((0.11, 0.14, 0.43, 0.79), 0.95),
    "left lung": ((0.56, 0.14, 0.91, 0.81), 0.90),
    "liver": ((0.14, 0.23, 0.61, 0.65), 0.88),
    "spleen": ((0.72, 0.45, 0.87, 0.70), 0.61),
    "right kidney": ((0.28, 0.58, 0.41, 0.73), 0.74),
    "left kidney": ((0.59, 0.57, 0.72, 0.72), 0.70),
    "aorta": ((0.49, 0.51, 0.56, 0.58), 0.42),
}
_CHEST: Final = {"right lung": ("CR", "DX"), "left lung": ("CR", "DX")}


class PlacesGrounder:
    """Finds the structures above in any picture, and nothing else."""

    name, fingerprint = "places", "0"
    calibration = None
    ontology = Ontology.load().known_to(tuple(_PLACES), {**dict.fromkeys(_PLACES, ("CT",)), **_CHEST})

    def set_image(self, image: MedicalImage) -> PlacesImage:
        """Keep the picture's size."""
        return PlacesImage(image.size)


class PlacesImage:
    """One picture of the fake."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        """Take (height, width)."""
        self._size = image_size

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return the boxes of the known phrases."""
        height, width = self._size
        known = [(index, *_PLACES[phrase]) for index, phrase in enumerate(phrases) if phrase in _PLACES]
        boxes = np.array([np.array(box) * (width, height, width, height) for _, box, _ in known])
        scores = np.array([score for _, _, score in known])
        index = np.array([index for index, _, _ in known], dtype=np.int64)
        return Regions(boxes, scores, index, tuple(phrases), self._size).above(box_threshold or 0.0)


class FixedModel:
    """Answers by the words of the question."""

    name = "fixed"
    certainty = Certainty()

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Answer each prompt."""
        return [Generation(self._answer(prompt.text), 0.8) for prompt in prompts]

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Iterator[str]:
        """Yield the answer word by word."""
        for word in self._answer(prompt.text).split(" "):
            yield word + " "

    @staticmethod
    def _answer(question: str) -> str:
        if "opaque" in question:
            return "the left lung"
        return "yes" if question.lower().startswith(("is ", "are ")) else "it is shown here"


def make_agent() -> MedGLIPAgent:
    """Return the real agent on the two fakes."""
    return MedGLIPAgent(PlacesGrounder(), FixedModel())
