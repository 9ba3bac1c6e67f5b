"""What runner and tables need from a benchmark: samples, scores, and what a model must not have seen."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from grounding.types import Regions
from llm.data.reading import Reading

Example = TypeVar("Example")


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


class SplitTask(abc.ABC, Generic[Example]):
    """What tasks on one split of a set of `llm.data` share: the reading, and samples made of it."""

    name: str
    splits: ClassVar[tuple[str, ...]]
    """Those that can be evaluated, the default first."""
    forbidden_training: frozenset[str] = frozenset()

    def __init__(self, data_dir: Path, split: str) -> None:
        """Remember where to read; files are read on first use.

        Args:
            data_dir: the folder that `read` and `files` start from.
            split: one of `splits`.

        Raises:
            ValueError: the split is unknown.
        """
        if split not in self.splits:
            raise ValueError(f"{self.name} has the splits {', '.join(self.splits)}, got {split!r}")
        self.data_dir, self.split = data_dir, split

    @property
    @abc.abstractmethod
    def train_split(self) -> str:
        """The training part that belongs to the split."""

    @abc.abstractmethod
    def read(self, split: str) -> Reading[Example]:
        """Read a split."""

    @abc.abstractmethod
    def to_sample(self, example: Example) -> Sample:
        """What is asked of the model."""

    @abc.abstractmethod
    def files(self) -> list[Path]:
        """The files that decide the samples."""

    @cached_property
    def reading(self) -> Reading[Example]:
        """The split, read once."""
        return self.read(self.split)

    def samples(self) -> list[Sample]:
        """In the order of the files."""
        return [self.to_sample(example) for example in self.reading]

    def dropped(self) -> Mapping[str, int]:
        """Records that are no samples, by reason."""
        return self.reading.dropped

    def train_samples(self) -> list[Sample]:
        """The split's own training part."""
        return [self.to_sample(example) for example in self.read(self.train_split)]

    def oracle_regions(self) -> dict[str, Regions]:
        """None, unless the set has boxes."""
        return {}
