"""MIMIC-CXR-JPG with the reports of MIMIC-CXR (Johnson et al. 2019; credentialed), in PhysioNet's layout.

Two folders: one with ``mimic-cxr-2.0.0-split.csv``, ``-metadata.csv``, ``-chexpert.csv`` (each also ``.gz``)
and ``files/p10/p10000032/s50414267/<dicom id>.jpg``, one with ``files/p10/p10000032/s50414267.txt``. Owns the
official split, the choice of one frontal image a study and the labels; `llm.data.report_sections` finds the
sections. Patient numbers become hashes; messages name studies only.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .reading import Reading
from .report_sections import read_sections
from .reports import ReportExample, patient_hash

MimicSplit = Literal["train", "validate", "test"]
_VIEWS = ("PA", "AP")  # the order of preference: a PA view does not magnify the heart
_TABLE = "mimic-cxr-2.0.0-{}.csv"
_LAYOUT = (
    "MIMIC-CXR-JPG with mimic-cxr-2.0.0-{split,metadata,chexpert}.csv(.gz)"
    " and files/p<NN>/p<patient>/s<study>/<image>.jpg"
)


@dataclass
class _Study:
    """A study of the split table: its patient and its images in the table's order."""

    subject: str
    dicoms: list[str]

    def folder(self, study_id: str) -> Path:
        """``files/p10/p10000032/s50414267``."""
        return Path("files", f"p{self.subject[:2]}", f"p{self.subject}", f"s{study_id}")


def read_mimic_cxr(images: Path | str, reports: Path | str, split: MimicSplit) -> Reading[ReportExample]:
    """Read one official split: one frontal image (PA before AP) and the report's sections for each study.

    Args:
        images: Folder of MIMIC-CXR-JPG.
        reports: Folder that ``mimic-cxr-reports.zip`` unpacks to (it holds ``files/``).
        split: One of `MimicSplit`.

    Returns:
        The studies in the order of the split table; ``dropped`` counts studies without a frontal view and
        studies without findings.

    Raises:
        FileNotFoundError: A table, an image or a report is absent.
        ValueError: The split is unknown, or the tables are malformed or contradict each other.
    """
    images, reports = Path(images), Path(reports)
    if split not in get_args(MimicSplit):
        raise ValueError(
            f"unknown MIMIC-CXR split {split!r}; choose one of {', '.join(get_args(MimicSplit))}"
        )
    studies = _studies(images, split)
    views = {
        row["dicom_id"]: row["ViewPosition"]
        for row in _rows(images, "metadata", ("dicom_id", "ViewPosition"))
    }
    labels = _labels(images, studies)
    examples: list[ReportExample] = []
    dropped: Counter[str] = Counter()
    for study_id, study in studies.items():
        dicom = _frontal(study_id, study, views)
        sections = read_sections(_report(reports / f"{study.folder(study_id)}.txt", study_id))
        if dicom is None or not sections.findings:
            dropped["no frontal view" if dicom is None else "no findings"] += 1
            continue
        path = images / study.folder(study_id) / f"{dicom}.jpg"
        if not path.is_file():
            raise FileNotFoundError(
                f"the image {dicom}.jpg of study s{study_id} is absent; expected {_LAYOUT}"
            )
        examples.append(
            ReportExample(
                study_id=f"s{study_id}",
                image_paths=(path,),
                findings=sections.findings,
                impression=sections.impression,
                split=split,
                patient=patient_hash("mimic-cxr", study.subject),
                labels=labels.get(study_id, {}),
            )
        )
    return Reading(tuple(examples), dict(dropped))


def _studies(images: Path, split: str) -> dict[str, _Study]:
    """The studies of a split by number."""
    studies: dict[str, _Study] = {}
    parts: dict[str, str] = {}
    for row in _rows(images, "split", ("dicom_id", "study_id", "subject_id", "split")):
        study_id = row["study_id"]
        if not (study_id.isdigit() and row["subject_id"].isdigit()) or row["split"] not in get_args(
            MimicSplit
        ):
            raise ValueError(f"{_TABLE.format('split')}: image {row['dicom_id']} has a malformed row")
        if parts.setdefault(study_id, row["split"]) != row["split"]:
            raise ValueError(f"{_TABLE.format('split')}: study s{study_id} is in two splits")
        if row["split"] == split:
            study = studies.setdefault(study_id, _Study(row["subject_id"], []))
            if study.subject != row["subject_id"]:
                raise ValueError(f"{_TABLE.format('split')}: study s{study_id} has two patients")
            study.dicoms.append(row["dicom_id"])
    return studies


def _frontal(study_id: str, study: _Study, views: dict[str, str]) -> str | None:
    """The study's first PA image, else its first AP image, else None."""
    unknown = [dicom for dicom in study.dicoms if dicom not in views]
    if unknown:
        raise ValueError(f"{_TABLE.format('metadata')}: lacks image {unknown[0]} of study s{study_id}")
    frontal = [dicom for view in _VIEWS for dicom in study.dicoms if views[dicom] == view]
    return frontal[0] if frontal else None


def _labels(images: Path, studies: dict[str, _Study]) -> dict[str, dict[str, float]]:
    """CheXpert labels of the studies; empty cells (not mentioned) are left out."""
    labels: dict[str, dict[str, float]] = {}
    for row in _rows(images, "chexpert", ("subject_id", "study_id")):
        if row["study_id"] not in studies:
            continue
        cells = {name: cell for name, cell in row.items() if name not in ("subject_id", "study_id") and cell}
        try:
            labels[row["study_id"]] = {name: float(cell) for name, cell in cells.items()}
        except ValueError as error:
            raise ValueError(f"{_TABLE.format('chexpert')}: study s{row['study_id']}: {error}") from error
    return labels


def _rows(images: Path, table: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a table, plain or gzipped."""
    path = images / _TABLE.format(table)
    packed = path.with_name(f"{path.name}.gz")
    if not path.is_file() and not packed.is_file():
        raise FileNotFoundError(f"{path} (or .gz) is absent; expected {_LAYOUT}")
    with path.open(newline="") if path.is_file() else gzip.open(packed, "rt", newline="") as file:
        reader = csv.DictReader(file, restval="")
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise ValueError(f"{path.name}: expected the columns {columns}, {absent} are absent")
        for row in reader:
            if None in row:
                raise ValueError(f"{path.name}: line {reader.line_num} has more cells than columns")
            yield row


def _report(path: Path, study_id: str) -> str:
    """The text of a report."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the report of study s{study_id} is absent; expected files/p<NN>/p<patient>/s<study>.txt"
            " as mimic-cxr-reports.zip unpacks them"
        ) from None  # the path holds the patient's number
    except UnicodeDecodeError as error:
        raise ValueError(f"the report of study s{study_id} is no UTF-8 text: {error}") from error
