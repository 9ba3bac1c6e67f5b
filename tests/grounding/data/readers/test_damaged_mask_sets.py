"""Whatever happens to the files of a set: each unit is read, or refused with a `UnitError`, nothing else."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from grounding.data.readers.biomedparse import BiomedParse
from grounding.data.readers.imed361m import Imed361M
from grounding.data.readers.sa_med2d import SaMed2D
from grounding.data.readers.sam_med2d import SamMed2D
from grounding.data.readers.volumes import Brats2023, Decathlon, TotalSegmentator
from grounding.data.records import SourceImage, UnitError

SIZE = (12, 9)
NOISE = np.random.default_rng(0).integers(0, 255, SIZE, np.uint8)
INSIDE = (NOISE > 100).astype(np.uint8) * 255


def picture(path, values=NOISE):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(values).save(path)


def text(path, content):
    path.write_text(json.dumps(content))


def volume(path, values):
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 2, 3, 1])), path)


def sa_med2d(root):
    stem = "ct_00--Set--Case_1--x_0001"
    picture(root / f"images/{stem}.png")
    picture(root / f"masks/{stem}--0000_000.png", INSIDE)
    text(root / "SAMed2D_v1.json", {f"images/{stem}.png": [f"masks/{stem}--0000_000.png"]})
    text(root / "SAMed2D_v1_class_mapping_id.json", {"Set": {"liver": "0"}})
    return SaMed2D(root)


def sam_med2d(root):
    picture(root / "images/a_1_2.png")
    picture(root / "masks/a_1_2_liver_000.png", INSIDE)
    text(root / "image2label_train.json", {"images/a_1_2.png": ["masks/a_1_2_liver_000.png"]})
    text(root / "label2image_test.json", {"masks/a_1_2_liver_000.png": "images/a_1_2.png"})
    return SamMed2D(root)


def imed361m(root):
    label = "label/x___a_1_2.(2, 12, 9, 1).npz"
    picture(root / "image/a_1_2.png")
    (root / "label").mkdir()
    sparse.save_npz(root / label, sparse.csr_matrix(np.stack([INSIDE.ravel(), NOISE.ravel()])))
    pairs = [{"image": "image/a_1_2.png", "label": label}]
    labels = {"0": "background", "1": "liver", "2": "spleen"}
    text(root / "dataset.json", {"modality": {"0": "ct"}, "labels": labels, "training": pairs})
    return Imed361M(root)


def biomedparse(root):
    picture(root / "train/a_1_CT_abdomen.png")
    picture(root / "train_mask/a_1_CT_abdomen_liver.png", INSIDE)
    return BiomedParse(root)


def totalsegmentator(root):
    volume(root / "s0001/ct.nii.gz", np.stack([NOISE] * 3, axis=-1).astype(np.int16))
    for name in ("liver", "spleen"):
        volume(root / f"s0001/segmentations/{name}.nii.gz", np.stack([INSIDE] * 3, axis=-1))
    return TotalSegmentator(root, stride=2)


def brats(root):
    for name in ("t1n", "t1c", "t2w", "t2f"):
        volume(
            root / f"BraTS-1-000/BraTS-1-000-{name}.nii", np.stack([NOISE] * 3, axis=-1).astype(np.float32)
        )
    volume(root / "BraTS-1-000/BraTS-1-000-seg.nii", np.stack([INSIDE // 255] * 3, axis=-1))
    return Brats2023(root, stride=3, axes=("axial", "sagittal"))


def decathlon(root):
    volume(root / "imagesTr/a.nii.gz", np.stack([NOISE] * 4, axis=-1).reshape(12, 9, 2, 2).astype(np.int16))
    volume(root / "labelsTr/a.nii.gz", np.stack([INSIDE // 255] * 2, axis=-1))
    content = {
        "modality": {"0": "T1w", "1": "T2w"},
        "labels": {"0": "background", "1": "edema"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    text(root / "dataset.json", content)
    return Decathlon(root, stride=2)


MAKERS = (sa_med2d, sam_med2d, imed361m, biomedparse, totalsegmentator, brats, decathlon)


def outcomes(reader):
    """Images and errors of all units; anything else than a UnitError is raised."""
    found = []
    try:
        for unit in reader.units():
            json.dumps(unit.payload)
            try:
                found += list(reader.read(unit))
            except UnitError as error:
                found.append(error)
    except UnitError as error:
        found.append(error)
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_the_whole_set_is_read(tmp_path, make):
    found = outcomes(make(tmp_path))
    assert found and all(isinstance(item, SourceImage) for item in found)
    assert all(item.regions for item in found)


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_damage_gives_images_or_unit_errors(tmp_path_factory, make, data):
    root = tmp_path_factory.mktemp("set")
    reader = make(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files), label="file")
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)), label="offset")
    kind = data.draw(st.sampled_from(["cut", "zero", "noise", "swap", "text", "remove"]), label="damage")
    if kind == "remove":
        path.unlink()
    elif kind == "swap":
        other = data.draw(st.sampled_from(files), label="other")
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        tail = content[start + data.draw(st.integers(1, 64), label="length") :]
        middle = {"cut": b"", "zero": b"\0" * (len(content) - start - len(tail)), "text": b"text"}
        middle["noise"] = data.draw(st.binary(min_size=1, max_size=64), label="noise")
        path.write_bytes(content[:start] + middle[kind] + (b"" if kind in ("cut", "text") else tail))
    assert outcomes(reader)
    shutil.rmtree(root)
