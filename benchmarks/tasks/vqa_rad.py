"""VQA-RAD (Lau et al. 2018): 451 official test questions, and a split by image made for this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tasks.vqa import VqaTask
from llm.data.reading import Reading
from llm.data.vqa_rad import VQAExample, read_vqa_rad

_TRAIN = {
    "official-test": "official-train",
    "disjoint-test": "disjoint-train",
    "disjoint-val": "disjoint-train",
}


class VqaRad(VqaTask):
    """The task over one split; `data_dir` holds vqa/vqa_rad."""

    name = "vqa_rad"
    splits = ("disjoint-test", "official-test", "disjoint-val")

    def __init__(self, data_dir: str | Path, split: str, **options: Any) -> None:
        """See `VqaTask`; the other family's train part holds questions of this test and is forbidden.

        disjoint-train holds most of the official test questions, official-train 443 of the 520 of the
        disjoint test.
        """
        super().__init__(data_dir, split, **options)
        other = "disjoint-train" if split == "official-test" else "official-train"
        self.forbidden_training = frozenset({other})

    @property
    def root(self) -> Path:
        """The folder of the set."""
        return self.data_dir / "vqa" / "vqa_rad"

    @property
    def train_split(self) -> str:
        """That of the split's own family: the two are never crossed."""
        return _TRAIN[self.split]

    def read(self, split: str) -> Reading[VQAExample]:
        """As `llm.data.vqa_rad` reads it; nothing is left out."""
        return Reading(tuple(read_vqa_rad(self.root, split)))  # type: ignore[arg-type]  # checked above

    def files(self) -> list[Path]:
        """The questions and their splits."""
        return sorted(self.root.glob("*.json"))
