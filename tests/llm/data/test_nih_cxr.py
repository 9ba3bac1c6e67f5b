"""NIH labels: the reader, balanced questions, reports that say exactly their labels."""

import csv
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.types import Regions
from llm.data.nih_cxr import LABELS, LabelledXray, read_nih_cxr
from llm.data.nih_text import NO_FINDING, labels_stated, nih_questions, nih_report, nih_reports, report_answer

COLUMNS = ("file_name", "patient_id", "view", "split", "no_finding", *LABELS)


def record(name, patient, split="train", labels=(), **changes):
    values = {label: str(int(label in labels)) for label in LABELS}
    fixed = {"file_name": name, "patient_id": patient, "view": "PA", "split": split}
    return fixed | {"no_finding": str(int(not labels))} | values | changes


@pytest.fixture
def write(tmp_path):
    (tmp_path / "images").mkdir()

    def write(*records, columns=COLUMNS):
        for one in records:
            Image.new("L", (20, 30)).save(tmp_path / "images" / one["file_name"])
        with (tmp_path / "labels.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, columns, extrasaction="ignore")
            table.writeheader()
            table.writerows(records)
        return tmp_path

    return write


def lungs(image, phrases):
    height, width = image.size
    boxes = np.array([[0, 0, width / 2, height], [width / 2, 0, width, height]], dtype=np.float32)
    return Regions(boxes, np.array([0.9, 0.8]), np.array([0, 1]), tuple(phrases), image.size)


def test_a_split_is_read_with_its_labels_in_order(write):
    root = write(
        record("7_1.png", "7", labels=("Pneumonia", "Effusion")),
        record("8_1.png", "8", split="val"),
        record("7_2.png", "7"),
    )
    first, second = read_nih_cxr(root, "train")
    assert first.labels == ("Effusion", "Pneumonia")
    assert second.labels == ()
    assert first.group == second.group != read_nih_cxr(root, "val").examples[0].group
    assert "7" not in (first.group, first.key)


def test_contradicting_records_are_counted(write):
    read = read_nih_cxr(write(record("a.png", "1", no_finding="0"), record("b.png", "2")), "train")
    assert (len(read), dict(read.dropped)) == (1, {"labels contradict no_finding": 1})


def test_what_is_wrong_is_named(write):
    root = write(record("a.png", "1", Mass="2"))
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        read_nih_cxr(root, "train")
    with pytest.raises(ValueError, match="choose one of train, val"):
        read_nih_cxr(root, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lacks the columns \['view'\]"):
        read_nih_cxr(write(columns=[c for c in COLUMNS if c != "view"]), "train")
    (root / "labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.csv is absent"):
        read_nih_cxr(root, "train")


def xray(number, *labels, view="PA"):
    return LabelledXray(f"key{number}", f"{number}.png", labels, view, f"group{number}")


def test_yes_and_no_are_equally_frequent_for_each_label():
    xrays = [xray(k, *(("Mass",) if k < 3 else ()), *(("Edema",) if k % 2 else ())) for k in range(20)]
    said = defaultdict(Counter)
    for item in nih_questions(xrays):
        said[item.qid.split("/")[1]][item.answer] += 1
    assert said["Mass"] == {"yes": 3, "no": 3}
    assert said["Edema"] == {"yes": 10, "no": 10}
    assert said["normal"]["yes"] == said["normal"]["no"]
    assert "Hernia" not in said


def test_answers_are_the_labels():
    xrays = {f"key{k}": xray(k, *((LABELS[k % 14],) if k % 3 else ())) for k in range(60)}
    for item in nih_questions(xrays.values(), seed=5):
        what, key = item.qid.split("/")[1:]
        labels = xrays[key].labels
        truth = {"view": "PA", "normal": "no" if labels else "yes"}.get(
            what, "yes" if what in labels else "no"
        )
        assert item.answer == truth


def test_a_report_by_hand():
    regions = Regions(
        np.array([[0, 0, 5, 9], [5, 0, 9, 9]]),
        np.array([0.9, 0.8]),
        np.array([0, 1]),
        ("right lung", "left lung"),
        (9, 9),
    )
    report = nih_report(xray(1, "Cardiomegaly", "Effusion"), regions)
    assert report_answer(report) == (
        "Findings: The heart is enlarged. Pleural effusion [R1] [R2]. No pneumothorax [R1] [R2]."
        " No consolidation [R1] [R2]. Impression: Cardiomegaly and pleural effusion."
    )
    assert [finding.grounded for finding in report.findings] == [False, True, True, True]


def test_a_normal_report_without_regions_is_ungrounded():
    report = nih_report(xray(1), None)
    assert report.impression == NO_FINDING
    assert report.findings[0].sentence == "The lungs are clear."
    assert not any(finding.grounded for finding in report.findings)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(LABELS)))
def test_a_report_states_exactly_its_labels(labels):
    report = nih_report(xray(1, *(label for label in LABELS if label in labels)), None)
    assert labels_stated(report_answer(report)) == labels
    findings = " ".join(finding.sentence for finding in report.findings)
    assert labels_stated(findings) == labels_stated(f"Impression: {report.impression}") == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("No pleural effusion or pneumothorax.", set()),
        ("Enlarged heart. No edema.", {"Cardiomegaly"}),
        ("The heart is not enlarged.", set()),
        ("Multiple nodules; massive effusion.", {"Nodule", "Effusion"}),
    ],
)
def test_free_text_is_read_sentence_by_sentence(text, labels):
    assert labels_stated(text) == labels


def test_reports_take_their_lungs_from_the_grounder(write):
    read = read_nih_cxr(write(record("a.png", "1", labels=("Pneumonia",))), "train")
    (item,) = nih_reports(read, lungs)
    assert item.answer.startswith("Findings: Findings of pneumonia [R1] [R2].")
    assert item.region_ids == (0, 1)
    assert item.regions.image_size == (30, 20)
    (plain,) = nih_reports(read)
    assert "[R" not in plain.answer
    assert plain.regions is None


def test_a_lung_found_twice_is_cited_once(write):
    read = read_nih_cxr(write(record("a.png", "1", labels=("Pneumonia",))), "train")

    def twice(image, phrases):
        boxes = np.array([[0, 0, 4, 4], [0, 0, 9, 9], [9, 0, 18, 9]], dtype=np.float32)
        return Regions(boxes, np.array([0.4, 0.7, 0.5]), np.array([0, 0, 1]), tuple(phrases), image.size)

    (item,) = nih_reports(read, twice)
    assert item.regions.phrases == ("right lung", "left lung")
    assert item.regions.scores.tolist() == pytest.approx([0.7, 0.5])


def test_real_labels(data_dir):
    root = data_dir / "classification" / "nih_cxr"
    splits = {split: read_nih_cxr(root, split) for split in ("train", "val")}
    assert {split: len(read) for split, read in splits.items()} == {"train": 726, "val": 196}
    groups = {split: {x.group for x in read} for split, read in splits.items()}
    assert not groups["train"] & groups["val"]
    said = Counter(i.answer for i in nih_questions(splits["train"]) if i.kind == "label")
    assert said["yes"] == said["no"] > 200
