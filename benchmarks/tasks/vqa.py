"""What the tasks on question sets of `llm.data` share; each names its files, splits and breakdowns."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.box_conditions import shuffle_regions
from benchmarks.metrics.protocols import PROTOCOLS
from benchmarks.tasks.base import Sample
from grounding.types import Regions
from llm.data.reading import Reading
from llm.data.vqa import VQAExample


class VqaTask(abc.ABC):
    """Questions about images, judged by every protocol; intervals are clustered by image."""

    name: str
    splits: ClassVar[tuple[str, ...]]
    """Those that can be evaluated, the default first."""
    headline = "exact"
    cluster = "image"
    max_new_tokens = 16
    stores_reference = True
    forbidden_training: frozenset[str] = frozenset()

    def __init__(self, data_dir: str | Path, split: str, *, images: bool = True) -> None:
        """Remember where to read; files are read on first use.

        Args:
            data_dir: the data folder.
            split: one of `splits`.
            images: False for text-only baselines: image files may be absent.

        Raises:
            ValueError: the split is unknown.
        """
        if split not in self.splits:
            raise ValueError(f"{self.name} has the splits {', '.join(self.splits)}, got {split!r}")
        self.data_dir, self.split, self.images = Path(data_dir), split, images

    @property
    @abc.abstractmethod
    def train_split(self) -> str:
        """The training part that belongs to the split."""

    @abc.abstractmethod
    def read(self, split: str) -> Reading[VQAExample]:
        """Read a split."""

    @abc.abstractmethod
    def files(self) -> list[Path]:
        """The files that decide the samples."""

    @cached_property
    def reading(self) -> Reading[VQAExample]:
        """The split, read once."""
        return self.read(self.split)

    def samples(self) -> list[Sample]:
        """The questions of the split, in the order of the files."""
        return [self.to_sample(example) for example in self.reading]

    def dropped(self) -> Mapping[str, int]:
        """Records without an answer or in another language."""
        return self.reading.dropped

    def train_samples(self) -> list[Sample]:
        """The questions of the split's own training part."""
        return [self.to_sample(example) for example in self.read(self.train_split)]

    def predict_regions(self, grounder: Any, samples: Sequence[Sample], path: Path) -> None:
        """What the agent would show with each question: its evidence."""
        from medglip_agent.evidence import write_evidence

        wanted = {sample.sample_id for sample in samples}
        write_evidence(grounder, [example for example in self.reading if example.qid in wanted], path)

    def shuffle_regions(
        self, samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int
    ) -> dict[str, Regions]:
        """Regions of another image of the same organ."""
        sizes = {s.cluster: regions[s.sample_id].image_size for s in samples}
        return shuffle_regions(samples, regions, sizes, seed)

    def oracle_regions(self) -> dict[str, Regions]:
        """None, unless the set has boxes."""
        return {}

    def scores(self, prediction: str, sample: Sample) -> dict[str, float]:
        """Every protocol of `benchmarks.metrics.protocols`, `exact` first."""
        triple = (prediction, sample.reference, sample.groups["answer type"][0])
        return {name: score(*triple) for name, score in PROTOCOLS.items()}

    def to_sample(self, example: VQAExample) -> Sample:
        """Cluster by image; a question of several types counts in each; what is not said is no group."""
        groups = {
            "answer type": (example.answer_type,),
            "organ": (example.organ,),
            "modality": (example.modality,),
            "question type": tuple(example.question_type.split(", ")),
        }
        return Sample(
            sample_id=example.qid,
            image_path=example.image_path,
            prompt=example.question,
            reference=example.answer,
            cluster=self.image_name(example.image_path),
            groups={name: values for name, values in groups.items() if any(values)},
            stratum=example.organ,
        )

    def image_name(self, path: Path) -> str:
        """What tells an image from the others of the set."""
        return path.name
