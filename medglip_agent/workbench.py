"""The loaded models and the images they have encoded, for one caller at a time.

Owns the lock of the models and the memory of the last images. Knows no question and no wording.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, Literal

from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty

from .evidence import ImageEvidence
from .exports.provenance import model_of
from .protocols import GrounderLike, SegmenterLike, VisionLanguageModelLike

_CACHED_IMAGES: Final = 8


class Workbench:
    """What every step works with.

    Attributes:
        grounder: finds regions.
        vlm: answers questions; None = none is loaded.
        segmenter: draws masks; None = none is configured.
        lock: held while a model computes; the methods here take it themselves.
    """

    def __init__(
        self,
        grounder: GrounderLike,
        vlm: VisionLanguageModelLike | None,
        segmenter: SegmenterLike | None = None,
        box_threshold: float | None = None,
    ) -> None:
        """Take loaded models; regions below `box_threshold` are dropped, None means the grounder's own."""
        self.grounder, self.vlm, self.segmenter = grounder, vlm, segmenter
        self.lock = threading.Lock()
        self._threshold = box_threshold
        self._images: OrderedDict[tuple[str, str | None], ImageEvidence] = OrderedDict()

    @property
    def language_model(self) -> VisionLanguageModelLike:
        """The language model.

        Raises:
            RuntimeError: there is none.
        """
        if self.vlm is None:
            raise RuntimeError("expected a language model, got none: load the agent with vlm='nano'")
        return self.vlm

    @property
    def certainty(self) -> Certainty:
        """How sure the language model's answers are; raw where there is none."""
        return Certainty() if self.vlm is None else self.vlm.certainty

    @property
    def calibrated(self) -> bool:
        """Whether the scores of regions are probabilities."""
        return self.grounder.calibration is not None

    def named(self, role: Literal["grounder", "segmenter"]) -> dict[str, Any]:
        """Return a model as the trace names it: its name and the hashes of its weights, never its path."""
        loaded = self.grounder if role == "grounder" else self.segmenter
        if loaded is None:
            return {}
        model = model_of(role, loaded.name)
        return {role: model.name, **({"weights_sha256": dict(model.weights)} if model.weights else {})}

    def is_open(self, image: MedicalImage) -> bool:
        """Return whether `image` was encoded lately."""
        return _key(image) in self._images

    def open(self, image: MedicalImage) -> ImageEvidence:
        """Return `image` encoded; the last few stay in memory, by the hash of their pixels."""
        key = _key(image)
        with self.lock:
            if key not in self._images:
                self._images[key] = ImageEvidence(self.grounder, image, box_threshold=self._threshold)
            self._images.move_to_end(key)
            while len(self._images) > _CACHED_IMAGES:
                self._images.popitem(last=False)
            return self._images[key]

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
        return self.find(image, wanted, box_threshold=box_threshold)

    def find(
        self, image: MedicalImage, labels: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Return the regions of `labels` as they stand, which becomes their `asked`."""
        evidence_of = self.open(image)
        with self.lock:
            return evidence_of.ground(labels, box_threshold=box_threshold)

    def vocabulary(self, image: MedicalImage) -> Regions:
        """Return the surest few regions of each label that the grounder knows in the image's modality."""
        evidence_of = self.open(image)
        with self.lock:
            return evidence_of.gather("").regions


def _key(image: MedicalImage) -> tuple[str, str | None]:
    return image.source_id, image.modality
