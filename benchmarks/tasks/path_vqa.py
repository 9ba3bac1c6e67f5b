"""PathVQA (He et al. 2020), pathology, from the hub's parquet files.

Answer types are told from the answers (yes and no are closed), since the files do not say. The same question
is often asked about the same image more than once: each counts, and intervals draw whole images.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.tasks.vqa import VqaTask
from llm.data.path_vqa import read_path_vqa
from llm.data.reading import Reading
from llm.data.vqa import VQAExample


class PathVqa(VqaTask):
    """The task over one split; `data_dir` holds vqa/path_vqa/data/*.parquet, images go beside them."""

    name = "path_vqa"
    splits = ("test", "validation")
    train_split = "train"
    forbidden_training = frozenset({"path_vqa-validation", "path_vqa-test"})

    @property
    def root(self) -> Path:
        """The folder of the set."""
        return self.data_dir / "vqa" / "path_vqa"

    def read(self, split: str) -> Reading[VQAExample]:
        """As `llm.data.path_vqa` reads it; each image is written once to the folder `images`."""
        return read_path_vqa(self.root, split, self.root / "images")  # type: ignore[arg-type]  # checked above

    def files(self) -> list[Path]:
        """The parquet files of the split."""
        return sorted(self.root.glob(f"data/{self.split}-*.parquet"))
