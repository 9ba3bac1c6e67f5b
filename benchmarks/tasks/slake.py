"""SLAKE (Liu et al. 2021), English questions; its own boxes are the oracle regions.

Closed questions are not only yes/no ones. Its images all occur in one split only.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.tasks.vqa import VqaTask
from grounding.types import Regions
from llm.data.reading import Reading
from llm.data.slake import read_slake, slake_box_regions
from llm.data.vqa import VQAExample


class Slake(VqaTask):
    """The task over one split; `data_dir` holds vqa/slake, or vqa/slake_text without images."""

    name = "slake"
    splits = ("test", "validate")
    train_split = "train"
    forbidden_training = frozenset({"slake-validate", "slake-test"})

    @property
    def root(self) -> Path:
        """The whole set, or its text alone where only that is there and no image is needed."""
        whole = self.data_dir / "vqa" / "slake"
        return whole if self.images or whole.is_dir() else self.data_dir / "vqa" / "slake_text"

    def read(self, split: str) -> Reading[VQAExample]:
        """As `llm.data.slake` reads it."""
        return read_slake(self.root, split, images=self.images)  # type: ignore[arg-type]  # checked above

    def files(self) -> list[Path]:
        """The questions."""
        return sorted(self.root.glob("*.json"))

    def oracle_regions(self) -> dict[str, Regions]:
        """The boxes of detection.json."""
        return slake_box_regions(self.reading)

    def image_name(self, path: Path) -> str:
        """The image's folder: every file is called source.jpg."""
        return path.parent.name
