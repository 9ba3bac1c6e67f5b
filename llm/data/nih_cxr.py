"""The part of NIH ChestX-ray14 (Wang et al. 2017) that carries image labels and no boxes: ``labels.csv``.

The labels were text-mined from reports by the source (about one in ten is wrong). Owns the reading; patients
become hashes. `nih_text` writes questions and reports from the labels.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from .reading import Reading, check_unique, join_inside, need_file, need_files
from .reports import patient_hash

NihSplit = Literal["train", "val"]
LABELS: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
_LAYOUT: Final = (
    "a folder with images/ and labels.csv (file_name, patient_id, view, split, and one column a label)"
)


@dataclass(frozen=True)
class LabelledXray:
    """One frontal chest X-ray.

    Attributes:
        key: Hash of the file's name, which holds the source's number of the patient.
        image_path: Image file.
        labels: The source's labels that are positive, in the order of `LABELS`; none is "No Finding".
        view: ``PA`` or ``AP``.
        group: Hash that the images of one patient share.
    """

    key: str
    image_path: Path
    labels: tuple[str, ...]
    view: str
    group: str


def read_nih_cxr(root: Path | str, split: NihSplit) -> Reading[LabelledXray]:
    """Read one split as given, in the order of the file.

    Args:
        root: Folder that holds ``labels.csv`` and ``images/``.
        split: ``train`` or ``val``; no patient is in both.

    Raises:
        FileNotFoundError: The table or an image that it names is absent.
        ValueError: The split is unknown, a column is absent, or a value is none of 0 and 1.
    """
    root = Path(root)
    if split not in get_args(NihSplit):
        raise ValueError(f"unknown NIH split {split!r}; choose one of {', '.join(get_args(NihSplit))}")
    with need_file(root / "labels.csv", _LAYOUT).open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        absent = {"file_name", "patient_id", "view", "split", "no_finding", *LABELS} - {
            *(table.fieldnames or ())
        }
        if absent:
            raise ValueError(f"{file.name} lacks the columns {sorted(absent)}; expected {_LAYOUT}")
        records = [(number, record) for number, record in enumerate(table, start=2)]
    dropped: Counter[str] = Counter()
    found = []
    for number, record in records:
        if record["split"] != split:
            continue
        values = {name: record[name] for name in (*LABELS, "no_finding")}
        if set(values.values()) - {"0", "1"}:
            raise ValueError(f"{root / 'labels.csv'}:{number}: labels must be 0 or 1, got {values}")
        labels = tuple(label for label in LABELS if values[label] == "1")
        if bool(labels) == (values["no_finding"] == "1"):
            dropped["labels contradict no_finding"] += 1
            continue
        found.append(
            LabelledXray(
                key=patient_hash("nih_cxr", record["file_name"]),
                image_path=join_inside(root / "images", record["file_name"], f"labels.csv:{number}"),
                labels=labels,
                view=record["view"].strip().upper(),
                group=patient_hash("nih_cxr", record["patient_id"]),
            )
        )
    check_unique((example.key for example in found), "image")
    need_files((example.image_path for example in found), f"all images of {_LAYOUT}")
    return Reading(tuple(found), dict(dropped))
