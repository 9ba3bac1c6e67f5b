"""VQA-RAD in the authors' form and the hub's, on small files in their layouts."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from llm.data.path_vqa import read_path_vqa
from llm.data.vqa_rad import read_vqa_rad_hub, read_vqa_rad_public


def picture(grey: int, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((4, 6), grey, dtype=np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


def write_shard(path: Path, rows: list[tuple[bytes | None, str | None, str | None]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "image": [{"bytes": image, "path": None} for image, _, _ in rows],
        "question": [question for _, question, _ in rows],
        "answer": [answer for _, _, answer in rows],
    }
    pq.write_table(pa.table(table), path)


def public_record(qid: int, phrase_type: str, **changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "qid": qid,
        "phrase_type": phrase_type,
        "image_name": "a.jpg",
        "image_organ": "CHEST",
        "question": "Is it there?",
        "question_type": "PRES",
        "answer": "No",
        "answer_type": "CLOSED ",
        "evaluation": "not evaluated",
    }
    return base | changes


@pytest.fixture
def public(tmp_path: Path) -> Callable[[list[dict[str, object]]], Path]:
    def write(records: list[dict[str, object]]) -> Path:
        (tmp_path / "VQA_RAD Image Folder").mkdir(exist_ok=True)
        (tmp_path / "VQA_RAD Image Folder" / "a.jpg").write_bytes(picture(3, "JPEG"))
        (tmp_path / "VQA_RAD Dataset Public.json").write_text(json.dumps(records))
        return tmp_path

    return write


def test_public_form_splits_by_phrase_type(public: Callable[[list[dict[str, object]]], Path]) -> None:
    root = public(
        [
            public_record(1, "freeform", answer=2, answer_type="OPEN"),
            public_record(2, "test_freeform"),
            public_record(3, "para", answer=" "),
            public_record(4, "test_para", question_type="PRSE, ATRIB"),
        ]
    )
    train, test = read_vqa_rad_public(root, "train"), read_vqa_rad_public(root, "test")
    assert [(e.qid, e.answer, e.origin) for e in train] == [("1", "2", "freeform")]
    assert train.dropped == {"no answer": 1}
    assert [(e.qid, e.question_type, e.answer_type, e.origin) for e in test] == [
        ("2", "PRES", "CLOSED", "freeform"),
        ("4", "ATTRIB, PRES", "CLOSED", "para"),
    ]
    assert test.dropped == {}
    assert test.examples[0].image_path == root / "VQA_RAD Image Folder" / "a.jpg"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer_type": "MAYBE"}, "question 7"),
        ({"answer_type": None}, "record 7"),
        ({"image_name": "../secret.jpg"}, "record 7"),
    ],
)
def test_malformed_public_records_are_named(
    public: Callable[[list[dict[str, object]]], Path], change: dict[str, object], said: str
) -> None:
    root = public([public_record(7, "para", **change)])
    with pytest.raises(ValueError, match=said):
        read_vqa_rad_public(root, "train")


def test_absent_public_file_tells_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="VQA_RAD Image Folder"):
        read_vqa_rad_public(tmp_path, "train")


def test_hub_form_writes_each_image_once(tmp_path: Path) -> None:
    rows = [
        (picture(1), " Is it  there? ", "yes"),
        (picture(1), "Where?", "left lung"),
        (picture(2, "JPEG"), "What?", None),
        (picture(2, "JPEG"), "Which?", "MRI"),
    ]
    write_shard(tmp_path / "data" / "train-00000-of-00001-0a1b.parquet", rows)
    read = read_vqa_rad_hub(tmp_path, "train", tmp_path / "images")
    assert [(e.qid, e.question, e.answer, e.answer_type) for e in read] == [
        ("train-0", "Is it there?", "yes", "CLOSED"),
        ("train-1", "Where?", "left lung", "OPEN"),
        ("train-3", "Which?", "MRI", "OPEN"),
    ]
    assert read.dropped == {"no answer": 1}
    paths = [e.image_path for e in read]
    assert paths[0] == paths[1] != paths[2]
    assert (paths[0].read_bytes(), paths[2].suffix) == (picture(1), ".jpg")
    assert sorted((tmp_path / "images").iterdir()) == sorted({paths[0], paths[2]})


def test_hub_form_needs_all_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "data" / "test-00001-of-00002.parquet", [(picture(1), "What?", "CT")])
    with pytest.raises(FileNotFoundError, match="1 of 2; `medglip data fetch vqa-rad`"):
        read_vqa_rad_hub(tmp_path, "test", tmp_path / "images")
    with pytest.raises(FileNotFoundError, match="train-00000"):
        read_vqa_rad_hub(tmp_path, "train", tmp_path / "images")


def test_hub_rows_without_a_readable_image_are_named(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "data" / "train-00000-of-00001.parquet",
        [(picture(1), "What?", "CT"), (b"no picture", "What?", "CT")],
    )
    with pytest.raises(ValueError, match="row train-1"):
        read_vqa_rad_hub(tmp_path, "train", tmp_path / "images")


def test_hub_file_of_other_columns_or_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(ValueError, match="expected the columns"):
        read_vqa_rad_hub(tmp_path, "train", tmp_path / "images")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="no whole parquet"):
        read_vqa_rad_hub(tmp_path, "train", tmp_path / "images")


def test_path_vqa_reads_its_shards_in_order(tmp_path: Path) -> None:
    for number in range(2):
        write_shard(
            tmp_path / "data" / f"validation-0000{number}-of-00002-ab{number}.parquet",
            [(picture(number), f"question {number}?", "no")],
        )
    read = read_path_vqa(tmp_path, "validation", tmp_path / "images")
    assert [(e.qid, e.question) for e in read] == [
        ("validation-0", "question 0?"),
        ("validation-1", "question 1?"),
    ]


def test_pickled_path_vqa_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "qas" / "train").mkdir(parents=True)
    (tmp_path / "qas" / "train" / "train_qa.pkl").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"train_qa\.pkl.*medglip data fetch path-vqa"):
        read_path_vqa(tmp_path, "train", tmp_path / "images")


def test_absent_path_vqa_and_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="medglip data fetch path-vqa"):
        read_path_vqa(tmp_path, "train", tmp_path / "images")
    with pytest.raises(ValueError, match="validation"):
        read_path_vqa(tmp_path, "val", tmp_path / "images")  # type: ignore[arg-type]
