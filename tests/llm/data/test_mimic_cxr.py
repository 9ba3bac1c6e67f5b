"""The MIMIC-CXR reader on made-up studies in PhysioNet's layout. The numbers are no patients'."""

import csv
import gzip
from pathlib import Path

import pytest

from llm.data.mimic_cxr import read_mimic_cxr
from llm.data.reports import patient_hash

REPORT = " FINDINGS: The lungs are clear.\n\n IMPRESSION: Normal.\n"

STUDIES = [  # dicom, study, subject, split, view
    ("d1", "50000001", "10000001", "train", "LATERAL"),
    ("d2", "50000001", "10000001", "train", "AP"),
    ("d3", "50000001", "10000001", "train", "PA"),
    ("d4", "50000002", "10000001", "train", "AP"),
    ("d5", "50000002", "10000001", "train", "AP"),
    ("d6", "50000003", "10000001", "train", "LL"),
    ("d7", "50000004", "12000002", "train", "PA"),
    ("d8", "50000005", "12000003", "test", "PA"),
]


def write_table(
    root: Path, name: str, header: list[str], rows: list[list[str]], packed: bool = False
) -> None:
    path = root / f"mimic-cxr-2.0.0-{name}.csv"
    with gzip.open(f"{path}.gz", "wt", newline="") if packed else path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_split(root: Path, studies: list[tuple[str, str, str, str, str]]) -> None:
    rows = [[dicom, study, subject, split] for dicom, study, subject, split, _ in studies]
    write_table(root, "split", ["dicom_id", "study_id", "subject_id", "split"], rows)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, reports = tmp_path / "mimic-cxr-jpg", tmp_path / "mimic-cxr-reports"
    for dicom, study, subject, _, _ in STUDIES:
        patient = Path("files", f"p{subject[:2]}", f"p{subject}")
        (images / patient / f"s{study}").mkdir(parents=True, exist_ok=True)
        (images / patient / f"s{study}" / f"{dicom}.jpg").touch()
        (reports / patient).mkdir(parents=True, exist_ok=True)
        text = " IMPRESSION: Normal.\n" if study == "50000004" else REPORT
        (reports / patient / f"s{study}.txt").write_text(text)
    write_split(images, STUDIES)
    views = [[dicom, subject, study, view] for dicom, study, subject, _, view in STUDIES]
    header = ["dicom_id", "subject_id", "study_id", "ViewPosition"]
    write_table(images, "metadata", header, views, packed=True)
    labels = [["10000001", "50000001", "1.0", "", "-1.0"], ["12000003", "50000005", "0.0", "", ""]]
    write_table(images, "chexpert", ["subject_id", "study_id", "Edema", "Fracture", "Pneumonia"], labels)
    return images, reports


def test_one_frontal_image_a_study_pa_first(folders: tuple[Path, Path]) -> None:
    read = read_mimic_cxr(*folders, "train")
    assert [(e.study_id, [p.name for p in e.image_paths]) for e in read] == [
        ("s50000001", ["d3.jpg"]),
        ("s50000002", ["d4.jpg"]),
    ]
    assert read.dropped == {"no frontal view": 1, "no findings": 1}


def test_sections_labels_and_hash(folders: tuple[Path, Path]) -> None:
    first, second = read_mimic_cxr(*folders, "train")
    assert (first.findings, first.impression, first.split) == ("The lungs are clear.", "Normal.", "train")
    assert first.labels == {"Edema": 1.0, "Pneumonia": -1.0}
    assert second.labels == {}
    assert first.patient == second.patient == patient_hash("mimic-cxr", "10000001")
    (test,) = read_mimic_cxr(*folders, "test")
    assert test.patient != first.patient
    assert "12000003" not in "".join((test.study_id, str(test.patient), test.findings, test.impression))
    assert len(read_mimic_cxr(*folders, "validate")) == 0


def test_absent_report_and_image_name_the_study_but_no_patient(folders: tuple[Path, Path]) -> None:
    images, reports = folders
    next(images.rglob("d8.jpg")).unlink()
    with pytest.raises(FileNotFoundError, match="s50000005") as image_error:
        read_mimic_cxr(images, reports, "test")
    next(reports.rglob("s50000005.txt")).unlink()
    with pytest.raises(FileNotFoundError, match="s50000005") as report_error:
        read_mimic_cxr(images, reports, "test")
    assert "12000003" not in f"{image_error.value} {report_error.value}"
    assert report_error.value.__suppress_context__


@pytest.mark.parametrize("table", ["split", "metadata", "chexpert"])
def test_absent_table_tells_the_layout(folders: tuple[Path, Path], table: str) -> None:
    for path in folders[0].glob(f"*{table}.csv*"):
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{table}\.csv \(or \.gz\) is absent; expected MIMIC-CXR-JPG"
    ):
        read_mimic_cxr(*folders, "train")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("d9", "50000001", "10000001", "test", "PA"), "s50000001 is in two splits"),
        (("d9", "50000001", "10000009", "train", "PA"), "s50000001 has two patients"),
        (("d9", "50000009", "10000009", "dev", "PA"), "image d9"),
        (("d9", "../50000009", "10000009", "train", "PA"), "image d9"),
        (("d9", "50000001", "10000001", "train", "PA"), "lacks image d9 of study s50000001"),
    ],
)
def test_contradictions_are_named(
    folders: tuple[Path, Path], row: tuple[str, str, str, str, str], said: str
) -> None:
    write_split(folders[0], [*STUDIES, row])
    with pytest.raises(ValueError, match=said):
        read_mimic_cxr(*folders, "train")


def test_malformed_tables_are_named(folders: tuple[Path, Path]) -> None:
    images, reports = folders
    write_table(images, "chexpert", ["subject_id", "study_id", "Edema"], [["10000001", "50000001", "yes"]])
    with pytest.raises(ValueError, match=r"chexpert.*s50000001"):
        read_mimic_cxr(images, reports, "train")
    write_table(images, "split", ["dicom_id", "study_id"], [])
    with pytest.raises(ValueError, match="subject_id"):
        read_mimic_cxr(images, reports, "train")
    write_table(
        images, "split", ["dicom_id", "study_id", "subject_id", "split"], [["a", "1", "1", "train", "x"]]
    )
    with pytest.raises(ValueError, match="line 2"):
        read_mimic_cxr(images, reports, "train")


def test_report_that_is_no_text_names_the_study(folders: tuple[Path, Path]) -> None:
    next(folders[1].rglob("s50000005.txt")).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="s50000005"):
        read_mimic_cxr(*folders, "test")


def test_unknown_split_names_the_choices(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="validate"):
        read_mimic_cxr(*folders, "val")  # type: ignore[arg-type]
