"""Findings of MIMIC-CXR (Johnson et al. 2019), official split, one frontal image a study."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tasks.report import ReportTask
from llm.data.mimic_cxr import read_mimic_cxr
from llm.data.reading import Reading
from llm.data.reports import ReportExample


class MimicCxr(ReportTask):
    """`data_dir` holds reports/mimic-cxr-jpg (tables and images) and reports/mimic-cxr (texts)."""

    name = "mimic_cxr"
    splits = ("test", "validate")
    r2gen_words = 100
    forbidden_training = frozenset({"mimic_cxr-validate", "mimic_cxr-test"})

    def read(self, split: str) -> Reading[ReportExample]:
        """As `llm.data.mimic_cxr` reads it."""
        images, texts = self.data_dir / "mimic-cxr-jpg", self.data_dir / "mimic-cxr"
        return read_mimic_cxr(images, texts, split)  # type: ignore[arg-type]  # checked above

    def files(self) -> list[Path]:
        """The tables, plain or packed."""
        return sorted((self.data_dir / "mimic-cxr-jpg").glob("mimic-cxr-2.0.0-*.csv*"))
