"""The VQA-RAD reader, on small files in the official layout and on the real data where it is."""

import json
from pathlib import Path

import pytest
from PIL import Image

from llm.data.vqa_rad import read_vqa_rad


def record(qid: int, image: str, **changes: object) -> dict[str, object]:
    base = {
        "qid": qid,
        "image_name": image,
        "image_organ": "CHEST",
        "answer": "Yes",
        "answer_type": "CLOSED",
        "question_type": "PRES",
        "question": "Is it there?",
    }
    return base | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("L", (8, 8)).save(tmp_path / "images" / name)
    train = [
        record(1, "a.jpg", answer=3, answer_type="OPEN", question="  How many  masses? "),
        record(2, "a.jpg", answer_type="CLOSED ", question_type="PRSE, ATRIB"),
        record(3, "b.jpg"),
    ]
    (tmp_path / "trainset.json").write_text(json.dumps(train))
    (tmp_path / "testset.json").write_text(json.dumps([record(4, "a.jpg"), record(5, "b.jpg")]))
    split = {
        "images": {"train": ["a.jpg"], "val": [], "test": ["b.jpg"]},
        "qids": {"train": [1, 2, 4], "val": [], "test": [3, 5]},
    }
    (tmp_path / "image_disjoint_split.json").write_text(json.dumps(split))
    return tmp_path


def test_official_split_cleans_the_known_flaws(root: Path) -> None:
    first, second, third = read_vqa_rad(root, "official-train")
    assert (first.qid, first.question, first.answer, first.answer_type) == (
        "1",
        "How many masses?",
        "3",
        "OPEN",
    )
    assert (second.answer_type, second.question_type) == ("CLOSED", "ATTRIB, PRES")
    assert third.image_path == root / "images" / "b.jpg"


def test_disjoint_split_draws_from_both_files(root: Path) -> None:
    assert [e.qid for e in read_vqa_rad(root, "disjoint-train")] == ["1", "2", "4"]
    assert [e.qid for e in read_vqa_rad(root, "disjoint-test")] == ["3", "5"]
    assert read_vqa_rad(root, "disjoint-val") == []


def test_unknown_split_names_the_choices(root: Path) -> None:
    with pytest.raises(ValueError, match="disjoint-val"):
        read_vqa_rad(root, "test")  # type: ignore[arg-type]


def test_absent_image_is_an_error(root: Path) -> None:
    (root / "images" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        read_vqa_rad(root, "official-test")


def test_question_of_the_split_in_no_file_is_an_error(root: Path) -> None:
    (root / "testset.json").write_text("[]")
    with pytest.raises(ValueError, match="'4'"):
        read_vqa_rad(root, "disjoint-train")


def test_real_splits_have_the_published_sizes(data_dir: Path) -> None:
    root = data_dir / "vqa" / "vqa_rad"
    sizes = {
        "official-train": 3064,
        "official-test": 451,
        "disjoint-train": 2825,
        "disjoint-val": 170,
        "disjoint-test": 520,
    }
    splits = {split: read_vqa_rad(root, split) for split in sizes}  # type: ignore[arg-type]
    assert {split: len(examples) for split, examples in splits.items()} == sizes
    images = [{e.image_path for e in splits[f"disjoint-{part}"]} for part in ("train", "val", "test")]
    assert not (images[0] & images[1] or images[0] & images[2] or images[1] & images[2])
