"""Findings of IU-Xray (Open-i) in R2Gen's copy, whose split report generation uses; the first image counts.

The source says nothing of patients, so that intervals draw studies. Its licence allows no derivatives: no
weights of this project are trained on it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.tasks.report import ReportTask
from llm.data.iu_xray import read_iu_xray_r2gen
from llm.data.reading import Reading
from llm.data.reports import ReportExample


class IuXray(ReportTask):
    """`data_dir` holds reports/iu_xray/annotation.json and reports/iu_xray/images."""

    name = "iu_xray"
    splits = ("test", "val")
    cluster = "study"
    r2gen_words = 60
    forbidden_training = frozenset({"iu_xray-val", "iu_xray-test"})

    def read(self, split: str) -> Reading[ReportExample]:
        """As `llm.data.iu_xray` reads it."""
        return read_iu_xray_r2gen(self.data_dir / "iu_xray", split)  # type: ignore[arg-type]  # checked above

    def files(self) -> list[Path]:
        """The annotation."""
        return [self.data_dir / "iu_xray" / "annotation.json"]
