"""A grounder and a language model that answer from tables: quick, offline, counted."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty
from llm.types import Generation, SpatialPrompt
from medglip_agent.agent import MedGLIPAgent

Found = Mapping[str, Sequence[tuple[Sequence[float], float]]]


def nano_ontology() -> Ontology:
    """The label tree as the packaged checkpoint knows it."""
    config = json.loads(resources.files("grounding").joinpath("checkpoints/nano/config.json").read_text())
    return Ontology.load().known_to(config["labels"], config["label_modalities"])


class FakeGrounder:
    """Finds the boxes of a table: phrase -> [(box xyxy, score)]; knows the packaged checkpoint's labels."""

    name, fingerprint = "fake-grounder", "0"
    default_threshold = 0.3
    calibration: object | None = None

    def __init__(self, found: Found) -> None:
        self.found = found
        self.ontology = nano_ontology()
        self.modalities: dict[tuple[str, ...], float] = {}
        self.encoded = 0
        self.calls: list[tuple[str, ...]] = []

    def set_image(self, image: MedicalImage) -> FakeGroundedImage:
        self.encoded += 1
        return FakeGroundedImage(self, image)


class FakeGroundedImage:
    def __init__(self, grounder: FakeGrounder, image: MedicalImage) -> None:
        self.grounder, self.image = grounder, image

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        if box_threshold != 0:  # what was just asked costs nothing with another threshold
            self.grounder.calls.append(tuple(phrases))
        hits = [(i, *hit) for i, phrase in enumerate(phrases) for hit in self.grounder.found.get(phrase, ())]
        regions = Regions(
            boxes=np.array([box for _, box, _ in hits], dtype=np.float32).reshape(-1, 4),
            scores=np.array([score for _, _, score in hits], dtype=np.float32),
            phrase_index=np.array([i for i, _, _ in hits], dtype=np.int64),
            asked=tuple(phrases),
            image_size=self.image.size,
        )
        return regions.above(self.grounder.default_threshold if box_threshold is None else box_threshold)

    def modality_probabilities(self) -> Mapping[tuple[str, ...], float]:
        return self.grounder.modalities


class FakeSegmenter:
    """Draws the left half of each box."""

    name = "fake-segmenter"

    def segment(self, image: MedicalImage, regions: Regions) -> Regions:
        masks = np.zeros((len(regions), *image.size), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(masks, regions.boxes.astype(int), strict=True):
            mask[y1:y2, x1 : (x1 + x2) // 2] = True
        return replace(regions, masks=masks)


class FakeVLM:
    """Says what a table says: a word in the question -> the reply."""

    name = "fake-vlm"
    certainty = Certainty()

    def __init__(self, replies: Mapping[str, str], confidence: float = 0.64) -> None:
        self.replies, self.confidence = replies, confidence
        self.prompts: list[SpatialPrompt] = []

    def _reply(self, prompt: SpatialPrompt) -> Generation:
        self.prompts.append(prompt)
        hits = [reply for word, reply in self.replies.items() if word in prompt.text.lower()]
        return Generation(hits[0] if hits else "no", self.confidence)

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        return [self._reply(prompt) for prompt in prompts]

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Generator[str, None, Generation]:
        generation = self._reply(prompt)
        for word in generation.text.split():
            yield word + " "
        return generation


CHEST: Found = {
    "right lung": [((10, 20, 90, 180), 0.81)],
    "left lung": [((110, 20, 190, 180), 0.49)],
}


@pytest.fixture
def chest() -> MedicalImage:
    """A grey picture, 200 px wide and 240 px high."""
    grey = np.tile(np.arange(200, dtype=np.uint8), (240, 1))
    return MedicalImage.from_array(grey, modality="CR")


@pytest.fixture
def grounder() -> FakeGrounder:
    return FakeGrounder(CHEST)


@pytest.fixture
def vlm() -> FakeVLM:
    return FakeVLM({"more opaque": "left", "normal": "yes"})


@pytest.fixture
def segmenter() -> FakeSegmenter:
    return FakeSegmenter()


@pytest.fixture
def agent(grounder: FakeGrounder, vlm: FakeVLM) -> MedGLIPAgent:
    return MedGLIPAgent(grounder, vlm)
