"""ODVG jsonl: detection and grounding lines, joined by picture, and lines that contradict themselves."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.odvg import Odvg, phrase_of
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("beach", modality="DX")
CAPTION = "Two surfers walking down the shore. sand on the beach."


def line(**content):
    return {"filename": "a.jpg", "height": 6, "width": 8} | content


def detection(*instances):
    return line(detection={"instances": list(instances)})


def grounding(*regions, caption=CAPTION):
    return line(grounding={"caption": caption, "regions": list(regions)})


def write(root, *lines, label_map=None, name="train.jsonl"):
    (root / "images").mkdir(parents=True, exist_ok=True)
    for picture in ("a.jpg", "b.jpg"):
        Image.new("L", (8, 6), 90).save(root / "images" / picture)
    texts = [text if isinstance(text, str) else json.dumps(text) for text in lines]
    (root / name).write_text("\n".join(texts) + "\n")
    if label_map is not None:
        (root / "label_map.json").write_text(json.dumps(label_map))
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_detection_lines(tmp_path):
    root = write(
        tmp_path,
        detection(
            {"bbox": [1, 2, 3.5, 4], "label": 1, "category": "mass"}, {"bbox": [0, 0, 1, 1], "label": 0}
        ),
        detection() | {"filename": "b.jpg"},
        label_map={"0": "nodule", "1": "mass"},
    )
    image, empty = read(Odvg(root, INFO))
    assert [(r.label, r.box.tolist()) for r in image.regions] == [
        ("mass", [1, 2, 3.5, 4]),
        ("nodule", [0, 0, 1, 1]),
    ]
    assert image.annotated == empty.annotated == ("nodule", "mass") and empty.regions == ()
    assert (image.key, image.split, image.size) == ("train/a.jpg", "train", (6, 8))
    assert read(Odvg(root, INFO, exhaustive=False))[0].annotated == ()


def test_grounding_lines(tmp_path):
    regions = [
        {"bbox": [1, 1, 3, 3], "phrase": "Two surfers", "tokens_positive": [[0, 3], [4, 11]]},
        {"bbox": [[2, 2, 4, 4], [0, 0, 2, 2]], "phrase": "beach", "tokens_positive": [[48, 53]]},
    ]
    root = write(tmp_path, grounding(*regions), grounding(regions[0], caption="Two surfers again"))
    (image,) = read(Odvg(root, INFO))
    assert [region.label for region in image.regions] == ["Two surfers", "beach", "beach", "Two surfers"]
    assert image.regions[2].box.tolist() == [0, 0, 2, 2] and image.annotated == ()
    assert image.regions[1].attributes == {
        "phrase": "beach",
        "tokens_positive": [[48, 53]],
        "caption": CAPTION,
    }
    assert image.regions[3].attributes["caption"] == "Two surfers again"


def test_phrases_are_cut_from_captions():
    assert phrase_of(CAPTION, [[0, 3], [4, 11]], "x") == "Two surfers"
    assert phrase_of(CAPTION, [[48, 53]], "x") == "beach"


def test_a_broken_line_fails_alone(tmp_path):
    good = detection({"bbox": [0, 0, 1, 1], "category": "mass"})
    reader = Odvg(write(tmp_path, '{"filename": "a.jpg"', good, {"height": 3}, {"filename": "c.jpg"}), INFO)
    messages, images = [], []
    for unit in reader.units():
        try:
            images += reader.read(unit)
        except UnitError as error:
            messages.append(str(error))
    assert len(images) == 1 and images[0].regions[0].label == "mass"
    assert [message.split(": ")[0].rpartition(", ")[2] for message in messages] == [
        "line 1",
        "line 3",
        "line 4",
    ]
    assert "truncated" in messages[0] and "filename" in messages[1] and "neither" in messages[2]


BOX = [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (detection({"bbox": BOX, "label": 7}), "uses label 7, which label_map.json lacks; add it"),
        (
            detection({"bbox": BOX, "label": 0, "category": "mass"}),
            "calls label 0 'mass', label_map.json 'nodule'",
        ),
        (detection({"bbox": [0, 0, 1], "label": 0}), "expected bbox to be 4 finite numbers"),
        (detection({"bbox": [0, 0, float("nan"), 1], "label": 0}), "expected bbox to be 4 finite numbers"),
        (detection({"bbox": [3, 0, 1, 1], "label": 0}), "negative width or height"),
        (line(detection={"instances": 4}), r"expected a list of objects at detection\.instances"),
        (line(detection=[]), r"expected a list of objects at detection\.instances"),
        (grounding({"bbox": BOX, "phrase": "x", "tokens_positive": [[50, 99]]}), "is outside of its caption"),
        (grounding({"bbox": BOX}), "expected a phrase to be text, got None"),
        (grounding({"bbox": BOX, "tokens_positive": 5}), "expected tokens_positive"),
        (detection() | {"height": 7}, "made for 7 x 8; use the original"),
        (detection() | {"filename": "c.jpg"}, r"c\.jpg: expected this picture below"),
    ],
)
def test_malformed_lines_say_what_to_do(tmp_path, record, says):
    with pytest.raises(UnitError, match=says):
        read(Odvg(write(tmp_path, record, label_map={"0": "nodule"}), INFO))


def test_files_that_are_not_there_or_wrong(tmp_path):
    with pytest.raises(UnitError, match=r"expected \*\.jsonl there"):
        list(Odvg(tmp_path, INFO).units())
    write(tmp_path, detection(), label_map=[1])
    with pytest.raises(UnitError, match="expected an object from numbers to names, got list"):
        list(Odvg(tmp_path, INFO).units())
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "label_map.json").unlink()
    with pytest.raises(UnitError, match=r"train\.jsonl: is empty"):
        list(Odvg(tmp_path, INFO).units())


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=10), st.none() | st.lists(st.lists(st.integers(-3, 12), max_size=3), max_size=3))
def test_any_spans_give_words_or_a_unit_error(caption, spans):
    try:
        assert isinstance(phrase_of(caption, spans, "x"), str)
    except UnitError:
        pass
