"""VQA-RAD (Lau et al. 2018): 451 official test questions, and a split by image made for this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.box_conditions import shuffle_regions
from benchmarks.metrics.protocols import exact_score, llava_med_score, token_f1_score
from benchmarks.tasks.base import Sample
from grounding.types import Regions
from llm.data.vqa_rad import Split, VQAExample, read_vqa_rad

EvalSplit = Literal["official-test", "disjoint-test", "disjoint-val"]

_TRAIN: dict[EvalSplit, Split] = {
    "official-test": "official-train",
    "disjoint-test": "disjoint-train",
    "disjoint-val": "disjoint-train",
}
_FORBIDDEN = {
    "official-test": frozenset({"disjoint-train"}),  # holds most of the official test questions
    "disjoint-test": frozenset({"official-train"}),  # holds 443 of the 520 questions of the disjoint test
    "disjoint-val": frozenset({"official-train"}),
}


class VqaRad:
    """The task over one split; `data_dir` holds vqa/vqa_rad."""

    name = "vqa_rad"
    headline = "exact"
    cluster = "image"

    def __init__(self, data_dir: str | Path, split: EvalSplit) -> None:
        """Remember where to read; files are read on first use."""
        self.root = Path(data_dir) / "vqa" / "vqa_rad"
        self.split: str = split
        self.train_split: Split = _TRAIN[split]
        self.forbidden_training = _FORBIDDEN[split]

    @cached_property
    def examples(self) -> list[VQAExample]:
        """The split as `llm.data.vqa_rad` reads it."""
        return read_vqa_rad(self.root, self.split)  # type: ignore[arg-type]  # EvalSplit is part of Split

    def files(self) -> list[Path]:
        """The questions and their splits."""
        return sorted(self.root.glob("*.json"))

    def predict_regions(self, grounder: Any, path: Path, limit: int | None) -> None:
        """What the agent would show with each question: its evidence."""
        from medglip_agent.evidence import write_evidence

        write_evidence(grounder, self.examples[:limit], path)

    def shuffle_regions(
        self, samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int
    ) -> dict[str, Regions]:
        """Regions of another image of the same organ."""
        sizes = {s.cluster: regions[s.sample_id].image_size for s in samples}
        return shuffle_regions(samples, regions, sizes, seed)

    def oracle_regions(self) -> dict[str, Regions]:
        """None: VQA-RAD has no boxes."""
        return {}

    def samples(self) -> list[Sample]:
        """The questions of the split, in the order of the files."""
        return [to_sample(e) for e in self.examples]

    def train_samples(self) -> list[Sample]:
        """The questions of the split's own training part."""
        return [to_sample(e) for e in read_vqa_rad(self.root, self.train_split)]

    def scores(self, prediction: str, sample: Sample) -> dict[str, float]:
        """The protocols `exact` (headline), `token-f1` and `llava-med`."""
        triple = (prediction, sample.reference, sample.groups["answer type"][0])
        return {
            "exact": exact_score(*triple),
            "token-f1": token_f1_score(*triple),
            "llava-med": llava_med_score(*triple),
        }


def to_sample(example: VQAExample) -> Sample:
    """Cluster by image; a question of several types counts in each."""
    return Sample(
        sample_id=example.qid,
        image_path=example.image_path,
        prompt=example.question,
        reference=example.answer,
        cluster=example.image_path.name,
        groups={
            "answer type": (example.answer_type,),
            "organ": (example.organ,),
            "question type": tuple(example.question_type.split(", ")),
        },
        stratum=example.organ,
    )
