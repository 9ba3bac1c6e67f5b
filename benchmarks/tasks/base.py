"""What runner and tables need from a benchmark: samples, scores, and what a model must not have seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from grounding.types import Regions


@dataclass(frozen=True)
class Sample:
    """One item to answer.

    Attributes:
        sample_id: unique in the task.
        image_path: the image file.
        prompt: what the model is asked.
        reference: the true answer.
        cluster: what intervals draw as a whole: the image, or the patient where known.
        groups: breakdowns, name -> values; a sample counts in each of its values ({"organ": ("CHEST",)}).
        stratum: shuffled regions come from another image of the same stratum, so that the control changes
            where the boxes are rather than which body part they speak of.
    """

    sample_id: str
    image_path: Path
    prompt: str
    reference: str
    cluster: str
    groups: Mapping[str, tuple[str, ...]]
    stratum: str = ""


class Task(Protocol):
    """A benchmark. Scores are in [0, 1], higher is better."""

    name: str
    split: str
    cluster: str
    """What a `Sample.cluster` is, in one word."""
    headline: str
    """Name of the protocol or metric whose figures lead."""
    max_new_tokens: int
    """Length of a reply, in the model's tokens."""
    forbidden_training: frozenset[str]
    """Values of a checkpoint's `trained_on` that this split must not be evaluated with."""
    stores_reference: bool
    """Whether the references may be written beside the predictions: licences of reports forbid it."""

    def samples(self) -> Sequence[Sample]:
        """The samples to answer, in a fixed order."""
        ...

    def dropped(self) -> Mapping[str, int]:
        """Records of the split that are no samples, counted by reason."""
        ...

    def files(self) -> Sequence[Path]:
        """The files that decide the samples."""
        ...

    def predict_regions(self, grounder: Any, samples: Sequence[Sample], path: Path) -> None:
        """Write regions.jsonl: for each sample what a `grounding.Grounder` finds."""
        ...

    def shuffle_regions(
        self, samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int
    ) -> Mapping[str, Regions]:
        """The control `shuffled`: regions of another image for each sample id, scaled to its own image."""
        ...

    def oracle_regions(self) -> Mapping[str, Regions]:
        """True regions by sample id; empty where the task has none."""
        ...

    def train_samples(self) -> Sequence[Sample]:
        """This split's own training part, for baselines only."""
        ...

    def scores(self, prediction: str, sample: Sample) -> dict[str, float]:
        """Score one prediction alone, the headline first where it is such a score; nan: not judged."""
        ...
