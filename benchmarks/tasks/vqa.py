"""What the tasks on question sets of `llm.data` share; each names its files, splits and breakdowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.box_conditions import shuffle_regions
from benchmarks.metrics.protocols import PROTOCOLS
from benchmarks.tasks.base import Sample, SplitTask
from grounding.types import Regions
from llm.data.vqa import VQAExample


class VqaTask(SplitTask[VQAExample]):
    """Questions about images, judged by every protocol; intervals are clustered by image."""

    headline = "exact"
    cluster = "image"
    max_new_tokens = 16
    stores_reference = True

    def __init__(self, data_dir: str | Path, split: str, *, images: bool = True) -> None:
        """Remember where to read; files are read on first use.

        Args:
            data_dir: the data folder.
            split: one of `splits`.
            images: False for text-only baselines: image files may be absent.

        Raises:
            ValueError: the split is unknown.
        """
        super().__init__(Path(data_dir), split)
        self.images = images

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
