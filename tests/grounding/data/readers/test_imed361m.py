import json
import os

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from grounding.data.readers.imed361m import Imed361M
from grounding.data.records import UnitError

SHAPE = (3, 4, 5)
LABEL = "label/x___ABD_001_100.(3, 4, 5, 1).npz"
PAIR = {"image": "image/ABD_001_100.png", "label": LABEL, "imask": "imask/x___ABD_001_100.npy"}
LABELS = {"0": "background", "1": "spleen", "2": "kidney_right", "3": "kidney_left"}


def masks():
    values = np.zeros(SHAPE, np.uint8)
    values[0, 1, 1:4] = 1
    values[2, 3, 0] = 1
    return values


def write_index(root, **parts):
    content = {"name": "BTCV", "modality": {"0": "ct"}, "labels": LABELS, "training": [PAIR], "test": []}
    (root / "dataset.json").write_text(json.dumps(content | parts))


@pytest.fixture
def root(tmp_path):
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full(SHAPE[1:], 90, np.uint8)).save(tmp_path / PAIR["image"])
    sparse.save_npz(tmp_path / LABEL, sparse.csr_matrix(masks().reshape(3, -1)))
    write_index(tmp_path)
    return tmp_path


def read_one(root, **options):
    reader = Imed361M(root, **options)
    (unit,) = reader.units()
    assert json.loads(json.dumps(unit.payload)) == unit.payload
    (image,) = reader.read(unit)
    return image


def test_channels_are_the_labels_without_the_background(root):
    image = read_one(root)
    assert [region.label for region in image.regions] == ["spleen", "kidney_left"]
    assert np.array_equal(image.regions[0].mask, masks()[0] > 0)
    assert np.array_equal(image.regions[1].mask, masks()[2] > 0)
    assert image.annotated == ("spleen", "kidney_left")
    assert (image.key, image.size, image.modality, image.split) == (
        "training/image/ABD_001_100.png",
        (4, 5),
        "CT",
        "train",
    )
    assert (image.patient, image.series, image.slice_index) == ("ABD_001", "ABD_001", 100)
    assert (image.axis, image.orientation) == (None, None)


def test_an_exhaustive_set_annotates_all_its_labels(root):
    assert read_one(root, exhaustive=True).annotated == ("spleen", "kidney_right", "kidney_left")


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix])
@pytest.mark.parametrize("rows", [3, 12])
def test_kinds_and_foldings_of_the_matrix(root, kind, rows):
    """The published loader reshapes whatever matrix it finds."""
    sparse.save_npz(root / LABEL, kind(masks().reshape(rows, -1)))
    assert np.array_equal(read_one(root).regions[0].mask, masks()[0] > 0)


def test_a_name_may_leave_the_shape_out(root):
    (root / LABEL).rename(root / "label" / "a.npz")
    write_index(root, training=[], test=[{"image": PAIR["image"], "label": "label/a.npz"}])
    image = read_one(root)
    assert (len(image.regions), image.split) == (2, "test")


def corrupt_indices(path):
    """A matrix whose indices point far outside of it."""
    matrix = sparse.csr_matrix(masks().reshape(3, -1))
    arrays = {"format": b"csr", "shape": np.array((3, 20)), "data": matrix.data, "indptr": matrix.indptr}
    np.savez(path, indices=matrix.indices + 10_000_000, **arrays)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("text"), "is no sparse npz of scipy, or damaged"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "or damaged"),
        (lambda path: np.savez(path, a=masks()), "is no sparse npz of scipy"),
        (lambda path: np.savez(path, data=np.array([{}], dtype=object)), "is no sparse npz"),
        (corrupt_indices, "is no sparse npz of scipy, or damaged"),
        (
            lambda path: sparse.save_npz(path, sparse.csr_matrix((3, 21))),
            "holds a matrix of 3 x 21, expected 3",
        ),
        (lambda path: sparse.save_npz(path, sparse.bsr_matrix((3, 20))), "of kind 'bsr'; save it as csr"),
        (lambda path: sparse.save_npz(path, sparse.csr_matrix((3, 20), dtype=complex)), "matrix of numbers"),
    ],
)
def test_broken_masks_are_told(root, break_it, message):
    break_it(root / LABEL)
    with pytest.raises(UnitError, match=message) as caught:
        read_one(root)
    assert "ABD_001_100" in str(caught.value)


def test_masks_of_another_size_or_set_are_told(root):
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(root / PAIR["image"])
    with pytest.raises(UnitError, match=r"its name says \(classes, height, width\) \(3, 4, 5\).*\(3, 5, 4\)"):
        read_one(root)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": {}}, "expected names under 'labels'"),
        ({"labels": {"1": 5}}, "expected names under 'labels'"),
        ({"training": {"a": 1}}, r"expected an array \[\.\.\.\] under 'training'"),
        ({"training": [3]}, "training/0: expected 'image' and 'label'"),
        ({"training": [{"image": "image/ABD_001_100.png"}]}, "expected 'image' and 'label'"),
        ({"training": [{"image": "../a.png", "label": LABEL}]}, "refers to the file"),
        ({"training": [{"image": "\ud800", "label": LABEL}]}, "cannot be read|refers to the file"),
    ],
)
def test_a_broken_index_is_told(root, parts, message):
    write_index(root, **parts)
    with pytest.raises(UnitError, match=message):
        read_one(root)


def test_a_missing_index_is_told(tmp_path):
    with pytest.raises(UnitError, match=r"dataset\.json: cannot be read"):
        list(Imed361M(tmp_path).units())
