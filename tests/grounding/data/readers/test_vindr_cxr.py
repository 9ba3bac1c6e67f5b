"""VinDr-CXR: what three readers drew becomes one box, by hand; DICOM and PNG; csv files that do not fit."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from grounding.data.readers.vindr_cxr import VinDrCxr, clusters, read_csv
from grounding.data.records import DatasetInfo, UnitError

INFO = DatasetInfo("vindr-cxr")
HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
ROWS = [
    "a,Cardiomegaly,3,R10,10,10,30,30",
    "a,Cardiomegaly,3,R8,12,10,32,30",
    "a,Cardiomegaly,3,R9,11,13,31,33",
    "a,Nodule/Mass,8,R8,50,5,54,9",
    "b,No finding,14,R8,,,,",
    "b,No finding,14,R9,,,,",
]


def write(root, rows=tuple(ROWS), header=HEADER, index="train.csv", folder="train"):
    (root / index).parent.mkdir(parents=True, exist_ok=True)
    (root / index).write_text("\n".join([header, *rows]) + "\n")
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("L", (60, 40), 90).save(root / folder / f"{name}.png")
    return root


def read(reader):
    return [image for unit in reader.units() for image in reader.read(unit)]


def test_readers_that_agree_become_one_box(tmp_path):
    image, negative = read(VinDrCxr(write(tmp_path), INFO))
    heart, nodule = image.regions
    assert heart.label == "Cardiomegaly" and heart.box.tolist() == [11, 11, 31, 31]  # the mean of three
    assert (heart.attributes["readers"], heart.attributes["of_readers"]) == (3, 3)
    assert heart.attributes["drawn"][1] == {"rad_id": "R8", "box": [12, 10, 32, 30]}
    assert (nodule.attributes["readers"], nodule.attributes["of_readers"]) == (1, 3)
    assert image.attributes == {"rad_ids": ["R10", "R8", "R9"]}
    assert negative.regions == () and negative.annotated == image.annotated == ("Cardiomegaly", "Nodule/Mass")
    assert (image.key, image.split, image.modality, image.size) == ("train/a", "train", "DX", (40, 60))


def test_physionets_test_boxes_are_a_consensus_already(tmp_path):
    rows = ["a,Cardiomegaly,10,10,30,30", "a,Cardiomegaly,11,10,31,30", "b,No finding,,,,"]
    header = "image_id,class_name,x_min,y_min,x_max,y_max"
    write(tmp_path, rows, header, "annotations/annotations_test.csv", "test")
    image, negative = read(VinDrCxr(tmp_path, INFO))
    assert len(image.regions) == 2 and image.regions[0].attributes == {}
    assert (image.split, negative.regions) == ("test", ())


def box(x1, y1, x2, y2):
    return np.array([x1, y1, x2, y2], dtype=np.float64)


def test_one_reader_is_counted_once_and_overlap_decides():
    two = clusters([("A", box(0, 0, 10, 10)), ("A", box(1, 0, 11, 10))], 0.4)
    assert [len(c.rows) for c in two] == [1, 1]
    # IoU of shifted squares: 6 / 14 = 0.43 joins, 5 / 15 = 0.33 does not
    assert len(clusters([("A", box(0, 0, 10, 10)), ("B", box(4, 0, 14, 10))], 0.4)) == 1
    assert len(clusters([("A", box(0, 0, 10, 10)), ("B", box(5, 0, 15, 10))], 0.4)) == 2
    drawn = [("A", box(0, 0, 10, 10)), ("A", box(2, 0, 12, 10)), ("B", box(3, 0, 13, 10))]
    (best,) = [cluster for cluster in clusters(drawn, 0.4) if len(cluster.rows) == 2]
    assert best.mean.tolist() == [2.5, 0, 12.5, 10]


BOXES = st.tuples(
    st.sampled_from("ABC"), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(BOXES, max_size=8), st.randoms())
def test_no_box_is_lost_and_the_order_does_not_matter(drawn, random):
    boxes = [(who, box(x, y, x + w, y + h)) for who, x, y, w, h in drawn]
    found = clusters(boxes, 0.4)
    assert sum(len(c.rows) for c in found) == len(boxes)
    assert all(len({who for who, _ in c.rows}) == len(c.rows) for c in found)
    shuffled = random.sample(boxes, len(boxes))
    assert [c.mean.tolist() for c in clusters(shuffled, 0.4)] == [c.mean.tolist() for c in found]


def write_dicom(path, pixels):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data = pydicom.Dataset()
    data.file_meta, data.SOPClassUID = meta, meta.MediaStorageSOPClassUID
    data.SOPInstanceUID, data.Modality, data.PatientID = meta.MediaStorageSOPInstanceUID, "DX", "secret"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing = [0.2, 0.3]
    data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def test_dicom_pictures(tmp_path):
    write(tmp_path)
    (tmp_path / "train" / "a.png").unlink()
    write_dicom(tmp_path / "train" / "a.dicom", np.arange(2400).reshape(40, 60))
    image = read(VinDrCxr(tmp_path, INFO))[0]
    assert image.size == (40, 60) and image.spacing_mm == (0.2, 0.3)
    assert image.picture.startswith(b"\x89PNG") and b"secret" not in image.picture
    (tmp_path / "train" / "a.dicom").write_bytes(b"\0" * 128 + b"DICM and no more")
    with pytest.raises(UnitError, match=r"a\.dicom"):
        read(VinDrCxr(tmp_path, INFO))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,Mass,8,R8,50,5,500,9", r"beyond the picture of \(40, 60\) .* use pictures of its size"),
        ("a,Mass,8,R8,54,5,50,9", "negative width or height"),
        ("a,Mass,8,R8,,,,", "expected the box of 'Mass' to be finite numbers"),
        ("a,Mass,8,R8,nan,5,50,9", "expected the box of 'Mass' to be finite numbers"),
        ("a,Mass,8,R8,5", "rows of another length than its header; it is truncated"),
        ("c,Mass,8,R8,5,5,50,9", r"c\.jpeg: expected this picture below .* in one of train"),
        ("../../c,Mass,8,R8,5,5,50,9", "outside of it"),
    ],
)
def test_malformed_rows_say_what_to_do(tmp_path, row, says):
    with pytest.raises(UnitError, match=says):
        read(VinDrCxr(write(tmp_path / "x", [row]), INFO))


def test_sizes_of_the_csv_are_checked(tmp_path):
    header = f"{HEADER},width,height"
    with pytest.raises(UnitError, match="made for 400 x 600; use the original"):
        read(VinDrCxr(write(tmp_path, ["a,Mass,8,R8,5,5,50,9,600,400"], header), INFO))


def test_files_that_are_not_there_or_wrong(tmp_path):
    with pytest.raises(UnitError, match=r"expected one of .*train\.csv.* there"):
        list(VinDrCxr(tmp_path, INFO).units())
    for text, says in (
        ("", "is empty"),
        (HEADER, "expected rows below its header"),
        ('a\n"b', "no csv, or trunc"),
    ):
        (tmp_path / "train.csv").write_text(text)
        with pytest.raises(UnitError, match=rf"train\.csv: .*{says}"):
            list(VinDrCxr(tmp_path, INFO).units())
    (tmp_path / "train.csv").write_text("image_id,class_name\na,Mass\n")
    with pytest.raises(UnitError, match=r"lacks the columns \['x_max', 'x_min', 'y_max', 'y_min'\]"):
        list(VinDrCxr(tmp_path, INFO).units())


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet='ab,"\n\r\0', max_size=20))
def test_any_text_is_rows_or_a_unit_error(text):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_text(text)
        try:
            assert read_csv(path)
        except UnitError:
            pass
