"""YOLO: fractions to pixels, polygons, splits of data.yaml, and lines that cannot be right."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.yolo import Yolo, _region
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("polyps", modality="ES")


def write(
    root, lines="0 0.5 0.5 0.25 0.5\n", yaml="train: images/train\nval: images/val\nnames: [polyp, tool]\n"
):
    (root / "data.yaml").write_text(yaml)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / "images" / split / f"{split}.png")
    (root / "labels" / "train" / "train.txt").write_text(lines)
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_fractions_become_pixels(tmp_path):
    image, background = read(Yolo(write(tmp_path), INFO))
    (region,) = image.regions
    assert region.label == "polyp" and region.box.tolist() == [3, 1.5, 5, 4.5]  # centre (4, 3), 2 x 3 pixels
    assert (image.key, image.split, background.split) == ("images/train/train.png", "train", "val")
    assert background.regions == () and background.annotated == ("polyp", "tool")
    assert read(Yolo(tmp_path, INFO, exhaustive=False))[0].annotated == ()


def test_polygons_become_masks_and_boxes(tmp_path):
    image, _ = read(Yolo(write(tmp_path, "1 0.25 0 0.75 0 0.75 0.5 0.25 0.5\n\n"), INFO))
    (region,) = image.regions
    assert region.label == "tool" and region.box.tolist() == [2, 0, 6, 3]
    assert region.mask.sum() == 12 and region.mask[0, 2]
    assert region.attributes == {"polygons": [[2, 0, 6, 0, 6, 3, 2, 3]]}


@pytest.mark.parametrize(
    "yaml",
    [
        "path: ../elsewhere\ntrain: ../images/train\nval: [images/val]\nnames: {0: polyp, 1: tool}\n",
        "train: images/train\nval: val.txt\nnames:\n- polyp\n- tool\n",
        "train: images/train\nval: images\nnames: [polyp, tool]\n",
    ],
)
def test_ways_to_write_data_yaml(tmp_path, yaml):
    write(tmp_path, yaml=yaml)
    (tmp_path / "val.txt").write_text("./images/val/val.png\n")
    assert [image.split for image in read(Yolo(tmp_path, INFO))] == ["train", "val"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2 0.5 0.5 0.2 0.2", r"train\.txt, line 1: uses class '2', data\.yaml has 0, 1; correct one"),
        ("0 0.5 0.5 0.2", "expected class cx cy w h, or class and at least 3 points x y, got 3 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", "got 5 numbers"),
        ("0 0.5 nan 0.2 0.2", "to be finite numbers"),
        ("0 0.5 half 0.2 0.2", "to be finite numbers"),
        ("0 0.5 0.5 -0.2 0.2", "width and height of at least 0"),
        ("0 320 240 100 100", "are they pixels?"),
    ],
)
def test_malformed_lines_say_what_to_do(tmp_path, line, says):
    with pytest.raises(UnitError, match=says):
        read(Yolo(write(tmp_path, line), INFO))


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("", r"data\.yaml: is empty"),
        ("names: [a", r"data\.yaml: is no YAML"),
        ("5", r"data\.yaml: expected a mapping"),
        ("train: images/train\n", r"data\.yaml has no names"),
        ("train: images/none\nnames: [a]\n", "names 'images/none', but .* is not there; correct it"),
        ("train: /etc\nnames: [a]\n", "outside of it"),
    ],
)
def test_malformed_data_yaml_says_what_to_do(tmp_path, yaml, says):
    with pytest.raises(UnitError, match=says):
        read(Yolo(write(tmp_path, yaml=yaml), INFO))


def test_without_data_yaml_or_labels(tmp_path):
    with pytest.raises(UnitError, match=r"expected data\.yaml there"):
        list(Yolo(tmp_path, INFO).units())
    root = write(tmp_path)
    (root / "labels" / "train" / "train.txt").unlink()
    (root / "labels" / "train").rmdir()
    with pytest.raises(UnitError, match="has no labels/ beside its images/"):
        list(Yolo(root, INFO).units())


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789.- nae", max_size=30))
def test_any_line_is_a_region_or_a_unit_error(line):
    if line.strip():
        try:
            assert _region(line.split(), {"0": "a", "1": "b"}, (6, 8), "x").label in "ab"
        except UnitError:
            pass
