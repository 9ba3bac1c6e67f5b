"""The SLAKE reader and its oracle regions, on small files in the official layout and on the real text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llm.data.slake import read_mask_codes, read_slake, slake_box_regions, slake_mask_regions


def record(qid: int, number: int = 1, **changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "img_id": number,
        "img_name": f"xmlab{number}/source.jpg",
        "question": "Where is the liver?",
        "answer": "Left",
        "q_lang": "en",
        "location": "Abdomen",
        "modality": "CT",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Position",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }
    return base | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images of height 6 and width 8: one with a liver and two kidneys, one with nothing."""
    for number in (1, 2):
        (tmp_path / "imgs" / f"xmlab{number}").mkdir(parents=True)
        Image.new("L", (8, 6)).save(tmp_path / "imgs" / f"xmlab{number}" / "source.jpg")
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:3, 2:5] = 70
    mask[4, 7] = 135
    mask[0, 0] = 9  # listed nowhere
    Image.fromarray(mask).convert("RGB").save(tmp_path / "imgs" / "xmlab1" / "mask.png")
    Image.new("L", (8, 6)).save(tmp_path / "imgs" / "xmlab2" / "mask.png")
    boxes = [{"Liver": [2, 1, 3, 2]}, {"Kidney": [0.5, 0, 2, 6]}, {"Liver": [6, 4, 2, 2]}]
    (tmp_path / "imgs" / "xmlab1" / "detection.json").write_text(json.dumps(boxes))
    (tmp_path / "imgs" / "xmlab2" / "detection.json").write_text("[]")
    (tmp_path / "mask.txt").write_text("70:Liver\n135:Left Kidney\n")
    train = [
        record(1),
        record(2, q_lang="zh", question="?"),
        record(3, 2, answer=" ", answer_type="CLOSED"),
        record(4, 2, answer="No", answer_type="closed ", base_type="kvqa"),
    ]
    (tmp_path / "train.json").write_text(json.dumps(train))
    (tmp_path / "validation.json").write_text(json.dumps([record(5)]))
    (tmp_path / "test.json").write_text(json.dumps([record(6)]))
    return tmp_path


def test_english_questions_and_what_was_left_out(root: Path) -> None:
    read = read_slake(root, "train")
    assert [e.qid for e in read] == ["1", "4"]
    assert read.dropped == {"not English": 1, "no answer": 1}
    first, last = read
    assert first.image_path == root / "imgs" / "xmlab1" / "source.jpg"
    assert (first.question_type, first.organ, first.modality, first.origin) == (
        "Position",
        "Abdomen",
        "CT",
        "vqa",
    )
    assert (last.answer_type, last.origin) == ("CLOSED", "kvqa")


def test_validation_has_two_names(root: Path) -> None:
    assert [e.qid for e in read_slake(root, "validate")] == ["5"]
    (root / "validation.json").rename(root / "validate.json")
    assert [e.qid for e in read_slake(root, "validate")] == ["5"]


def test_boxes_become_regions_of_each_question(root: Path) -> None:
    regions = slake_box_regions(read_slake(root, "train"))
    assert regions["1"].boxes.tolist() == [[2, 1, 5, 3], [0.5, 0, 2.5, 6], [6, 4, 8, 6]]
    assert regions["1"].phrases == ("Liver", "Kidney", "Liver")
    assert regions["1"].asked == ("Liver", "Kidney")
    assert regions["1"].image_size == (6, 8)
    assert regions["1"].scores.tolist() == [1, 1, 1]
    assert len(regions["4"]) == 0
    assert regions["4"].image_size == (6, 8)


def test_masks_become_regions_with_tight_boxes(root: Path) -> None:
    codes = read_mask_codes(root)
    assert codes == {70: "Liver", 135: "Left Kidney"}
    regions = slake_mask_regions(root / "imgs" / "xmlab1" / "source.jpg", codes)
    assert regions.phrases == ("Liver", "Left Kidney")
    assert regions.boxes.tolist() == [[2, 1, 5, 3], [7, 4, 8, 5]]
    assert regions.masks is not None
    assert regions.masks.sum(axis=(1, 2)).tolist() == [6, 1]
    assert len(slake_mask_regions(root / "imgs" / "xmlab2" / "source.jpg", codes)) == 0


@pytest.mark.parametrize("text", ["[[1, 2]]", '[{"Liver": [1, 2, 3]}]', '[{"Liver": [5, 5, -2, 1]}]', "{}"])
def test_malformed_boxes_are_named(root: Path, text: str) -> None:
    (root / "imgs" / "xmlab1" / "detection.json").write_text(text)
    with pytest.raises(ValueError, match=r"xmlab1/detection\.json"):
        slake_box_regions(read_slake(root, "train"))


def test_masks_of_another_size_or_in_colour_are_named(root: Path) -> None:
    image = root / "imgs" / "xmlab1" / "source.jpg"
    Image.new("L", (6, 8)).save(image.with_name("mask.png"))
    with pytest.raises(ValueError, match=r"mask\.png is \(8, 6\)"):
        slake_mask_regions(image, {})
    Image.new("RGB", (8, 6), (70, 0, 0)).save(image.with_name("mask.png"))
    with pytest.raises(ValueError, match="grey values"):
        slake_mask_regions(image, {})


@pytest.mark.parametrize("text", ["70 Liver", "x:Liver", "70:", "70:Liver\n70:Heart"])
def test_malformed_mask_codes_are_named(root: Path, text: str) -> None:
    (root / "mask.txt").write_text(text)
    with pytest.raises(ValueError, match=r"mask\.txt:[12]"):
        read_mask_codes(root)


@pytest.mark.parametrize(
    "change", [{"answer_type": "X"}, {"answer_type": 3}, {"img_name": "../x.jpg"}, {"question": ""}]
)
def test_malformed_records_are_named(root: Path, change: dict[str, object]) -> None:
    (root / "test.json").write_text(json.dumps([record(61, **change)]))
    with pytest.raises(ValueError, match="61"):
        read_slake(root, "test")


def test_absent_field_unknown_split_and_repeated_question(root: Path) -> None:
    broken = record(61)
    del broken["modality"]
    (root / "test.json").write_text(json.dumps([broken]))
    with pytest.raises(ValueError, match="61 lacks the field 'modality'"):
        read_slake(root, "test")
    (root / "test.json").write_text(json.dumps([record(6), record(6)]))
    with pytest.raises(ValueError, match="question 6"):
        read_slake(root, "test")
    with pytest.raises(ValueError, match="validate"):
        read_slake(root, "val")  # type: ignore[arg-type]


def test_absent_images_are_an_error_unless_only_text_is_wanted(root: Path) -> None:
    shutil.rmtree(root / "imgs")
    with pytest.raises(FileNotFoundError, match=r"imgs/xmlab<N>/source\.jpg"):
        read_slake(root, "test")
    assert len(read_slake(root, "test", images=False)) == 1


def test_real_text_has_the_published_counts(data_dir: Path, tmp_path: Path) -> None:
    counts, qids = {}, set()
    for split in ("train", "validate", "test"):
        shutil.copy(data_dir / "vqa" / "slake_text" / f"{split}_en.json", tmp_path / f"{split}.json")
        read = read_slake(tmp_path, split, images=False)  # type: ignore[arg-type]
        counts[split] = (len(read), dict(read.dropped))
        qids |= {e.qid for e in read}
    assert counts == {"train": (4918, {"no answer": 1}), "validate": (1053, {}), "test": (1061, {})}
    assert len(qids) == 4918 + 1053 + 1061
