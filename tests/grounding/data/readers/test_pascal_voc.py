"""Pascal VOC: corners that count from 1, parts, splits, and XML that cannot reach outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.readers.pascal_voc import PascalVoc, parse_xml
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("smears", modality="SM")
XML = """<annotation><folder>x</folder><filename>{name}</filename><path>/home/someone/x.png</path>
<size><width>{width}</width><height>6</height><depth>3</depth></size><segmented>0</segmented>
<object><name>cell</name><pose>Frontal</pose><difficult>1</difficult>
 <bndbox><xmin>{xmin}</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox>
 <part><name>nucleus</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></part>
</object></annotation>"""


def write(root, key="a", text=None, **changes):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    text = text or XML.format(**{"name": f"{key}.png", "width": 8, "xmin": 1} | changes)
    (root / "Annotations" / f"{key}.xml").write_text(text)
    Image.new("L", (8, 6), 90).save(root / "JPEGImages" / f"{key}.png")
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_the_first_pixel_is_one_and_the_last_belongs_to_the_box(tmp_path):
    (image,) = read(PascalVoc(write(tmp_path), INFO, labels=("cell", "platelet")))
    cell, nucleus = image.regions
    assert cell.box.tolist() == [0, 1, 4, 6]  # columns 1..4 and rows 2..6 of VOC
    assert nucleus.box.tolist() == [1, 2, 2, 3]  # one pixel
    assert cell.attributes == {"pose": "Frontal", "difficult": "1"} and nucleus.attributes == {"part_of": 0}
    assert (image.key, image.file_name, image.size, image.modality) == ("a", "a.png", (6, 8), "SM")
    assert image.annotated == ("cell", "platelet") and image.attributes == {"folder": "x", "segmented": "0"}


def test_corners_that_count_from_zero_stay(tmp_path):
    (image,) = read(PascalVoc(write(tmp_path), INFO, one_based=False))
    assert image.regions[0].box.tolist() == [1, 2, 4, 6] and image.annotated == ()


def test_official_splits(tmp_path):
    for key, split in (("a", "val"), ("b", "train"), ("c", None)):
        write(tmp_path, key)
        if split:
            (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{key}\n")
    assert {image.key: image.split for image in read(PascalVoc(tmp_path, INFO))} == {
        "a": "val", "b": "train", "c": None,
    }  # fmt: skip


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("text", [BOMB, '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'])
def test_document_types_are_refused(text, encoding):
    with pytest.raises(UnitError, match="declares a document type or entity"):
        parse_xml(text.encode(encoding), "a.xml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 9}, r"a\.png: has 6 x 8 pixels .* made for 6 x 9; use the original"),
        ({"width": "x"}, r"a\.xml: declares height '6' and width 'x'"),
        ({"xmin": "nan"}, r"a\.xml: expected the bndbox of 'cell' to be finite numbers"),
        ({"xmin": ""}, "to be finite numbers"),
        ({"xmin": 7}, "negative width or height"),
        ({"name": "b.png"}, r"b\.png: expected this picture below"),
        ({"name": "../../b.png"}, "outside of it"),
        ({"text": "<annotation>"}, r"a\.xml: is no XML, or truncated"),
        ({"text": "<html/>"}, "expected <annotation>, got <html>"),
        ({"text": " "}, "is empty; copy it again"),
        ({"text": XML.replace("<name>cell</name>", "")}, "expected the name of an object to be text"),
    ],
)
def test_malformed_files_say_what_to_do(tmp_path, changes, says):
    if XML.splitlines()[0] in (changes.get("text") or ""):
        changes = {"text": changes["text"].format(name="a.png", width=8, xmin=1)}
    with pytest.raises(UnitError, match=says):
        read(PascalVoc(write(tmp_path, **changes), INFO))


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(UnitError, match="give the folder above Annotations and JPEGImages"):
        list(PascalVoc(tmp_path, INFO).units())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="<>/a&!-[]'\" =x", max_size=40).map(str.encode))
def test_any_bytes_are_xml_or_a_unit_error(data):
    try:
        assert parse_xml(data, "x").tag
    except UnitError:
        pass


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 500), st.integers(1, 500))
def test_pixels_counted_either_way_cover_the_same(x, y, width, height):
    """A box over whole pixels x..x+width-1 of an array is x+1..x+width in VOC."""
    text = f"<o><name>a</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
    text += f"<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></o>"
    region = PascalVoc(None, INFO)._region(parse_xml(text.encode(), "x"), "x", {})
    assert np.array_equal(region.box, [x, y, x + width, y + height])
