"""One radiology report with its images, whichever set it comes from. Knows no file layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ReportExample:
    """One study: its images and what was reported.

    Attributes:
        study_id: The source's name of the study, unique within the set.
        image_paths: Image files, the one to report on first. Paths may carry the source's own numbers: they
            are for opening files, not for messages or records.
        findings: The findings section on one line, never empty.
        impression: The impression on one line, empty where the source has none.
        split: The source's name of the split, empty where it has none.
        patient: Hash that the studies of one patient share (`patient_hash`), or None where unknown.
        labels: What the source says of the study: CheXpert's 1 present, 0 absent, -1 uncertain (MIMIC-CXR);
            each MeSH term with 1 (IU-Xray). What is not mentioned is not there.
    """

    study_id: str
    image_paths: tuple[Path, ...]
    findings: str
    impression: str
    split: str
    patient: str | None = None
    labels: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse a study that no report could be written for or compared with."""
        if not self.image_paths or not self.findings:
            raise ValueError(f"study {self.study_id}: needs at least one image and findings")


def patient_hash(dataset: str, identifier: str) -> str:
    """16 hexadecimal digits that stand for a patient of a set, the same for the same patient."""
    return hashlib.sha256(f"{dataset}/{identifier}".encode()).hexdigest()[:16]
