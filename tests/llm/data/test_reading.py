"""What the readers share."""

from pathlib import Path

import pytest

from llm.data.reading import Reading, check_unique, join_inside, load_records, need_files, one_line
from llm.data.reports import ReportExample, patient_hash
from llm.data.vqa import VQAExample, answer_type_of


def test_reading_is_sized_and_iterates() -> None:
    reading = Reading(("a", "b"), {"no answer": 1})
    assert len(reading) == 2
    assert list(reading) == ["a", "b"]


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "x/../../a.jpg", " "])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="record 7"):
        join_inside(tmp_path, name, "record 7")


def test_absent_files_are_counted_and_the_layout_told(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(FileNotFoundError, match=r"2 files are absent, such as .*/a; expected the layout"):
        need_files([tmp_path / "b", tmp_path / "there", tmp_path / "a"], "the layout")


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_what_is_no_list_of_records_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json"):
        load_records(tmp_path / "x.json", "the layout")


def test_repeated_names_are_refused() -> None:
    with pytest.raises(ValueError, match="question 3 occurs more than once"):
        check_unique(["1", "3", "3"], "question")


def test_one_line() -> None:
    assert (one_line("  a\n b "), one_line(None), one_line(3)) == ("a b", "", "3")


@pytest.mark.parametrize(
    ("answer", "kind"), [("Yes", "CLOSED"), ("no.", "CLOSED"), ("not seen", "OPEN"), ("left", "OPEN")]
)
def test_answer_type(answer: str, kind: str) -> None:
    assert answer_type_of(answer) == kind


def test_what_the_source_does_not_say_is_empty() -> None:
    example = VQAExample("1", Path("a.png"), "Is it?", "yes", "CLOSED")
    assert (example.question_type, example.organ, example.modality, example.origin) == ("", "", "", "")


def test_patients_become_hashes() -> None:
    assert (
        patient_hash("set", "10000032")
        == patient_hash("set", "10000032")
        != patient_hash("other", "10000032")
    )
    assert "10000032" not in patient_hash("set", "10000032")


def test_report_needs_an_image_and_findings() -> None:
    with pytest.raises(ValueError, match="study s1"):
        ReportExample("s1", (), "Clear.", "", "train")
    with pytest.raises(ValueError, match="study s1"):
        ReportExample("s1", (Path("a.jpg"),), "", "Clear.", "train")
    assert hash(ReportExample("s1", (Path("a.jpg"),), "Clear.", "", "train", labels={"Edema": 0.0}))
