"""What the agent needs from the models it is given: protocols only, so that any of them can be another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty
from llm.types import Generation, SpatialPrompt


class GroundedImageLike(Protocol):
    """An encoded image that can be asked for phrases many times (`grounding.predictor.GroundedImage`)."""

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return the regions of `phrases`, boxes xyxy in pixels of the original image."""
        ...

    def modality_probabilities(self) -> Mapping[tuple[str, ...], float]:
        """Return the probability of each group of DICOM codes; empty where the grounder cannot tell."""
        ...


class GrounderLike(Protocol):
    """What this package needs from `grounding.Grounder`."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        ...

    @property
    def fingerprint(self) -> str:
        """What changes with its weights or calibration."""
        ...

    @property
    def calibration(self) -> object | None:
        """What makes its scores probabilities; None = they only rank."""
        ...

    @property
    def ontology(self) -> Ontology:
        """The label tree as the checkpoint knows it."""
        ...

    def set_image(self, image: MedicalImage) -> GroundedImageLike:
        """Encode `image` once."""
        ...


class VisionLanguageModelLike(Protocol):
    """What this package needs from `llm.generate.VisionLanguageModel`."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        ...

    @property
    def certainty(self) -> Certainty:
        """What makes a confidence of its a probability, and from where on an answer is given."""
        ...

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Answer each prompt, greedily."""
        ...

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Iterator[str]:
        """Yield the answer to `prompt` piece by piece; a generator may return its `Generation`."""
        ...


class SegmenterLike(Protocol):
    """What this package needs from `grounding.segment.Segmenter`."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        ...

    def segment(self, image: MedicalImage, regions: Regions) -> Regions:
        """Return the same regions, each with a mask bool (H, W) of the original image."""
        ...
