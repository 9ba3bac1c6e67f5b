import json
import os
import pickle
import shutil
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image

from grounding.data.readers.volume_layouts import CaseFolders
from grounding.data.readers.volumes import (
    Brats2021,
    Brats2023,
    Decathlon,
    Kits2019,
    Kits2023,
    TotalSegmentator,
    VolumeReader,
)
from grounding.data.records import DatasetInfo, UnitError
from grounding.windowing import ct_window

SHAPE = (8, 6, 4)  # voxels towards the patient's right, front and top
RAS = np.diag([2.0, 3.0, 5.0, 1.0])


def organs():
    """Label 1 (liver) lies right and in front, label 2 (spleen) left and behind, both below the top slice."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:7, 4:6, 0:3] = 1
    labels[1:3, 0:2, 1:3] = 2
    return labels


def scan():
    """Air at -1000, soft tissue at 0, the liver brighter than the spleen."""
    values = np.zeros(SHAPE, np.int16)
    values[:, :, 3] = -1000
    return values + organs().astype(np.int16) * 50


def save(path, values, axes="RAS", affine=RAS):
    """A volume given in RAS order, stored in another."""
    path.parent.mkdir(exist_ok=True, parents=True)
    image = nib.Nifti1Image(values, affine)
    nib.save(image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))), path)
    return path


def kits(root, axes="RAS", labels=None):
    save(root / "case_00000/imaging.nii.gz", scan(), axes)
    save(root / "case_00000/segmentation.nii.gz", organs() if labels is None else labels, axes)
    return root


def read_all(reader):
    units = list(reader.units())
    assert all(json.loads(json.dumps(unit.payload))["key"] == unit.key for unit in units)
    return {image.key: image for unit in units for image in reader.read(unit)}


def pixels(image):
    with Image.open(BytesIO(image.picture)) as picture:
        return np.asarray(picture)


def corners(mask):
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "SRA", "PIR"])
def test_the_patients_right_is_on_the_pictures_left(tmp_path, axes):
    images = read_all(Kits2023(kits(tmp_path, axes), axes=("axial",)))
    assert list(images) == [f"case_00000/axial/{index:04d}" for index in range(4)]
    image = images["case_00000/axial/0001"]
    liver, spleen = image.regions  # by value: kidney and tumour in this layout
    # columns run from right (x = 7) to left, rows from front (y = 5) to back
    assert corners(liver.mask) == (0, 1, 1, 2)
    assert corners(spleen.mask) == (4, 5, 5, 6)
    grey = pixels(image)
    assert len(set(grey[liver.mask])) == len(set(grey[spleen.mask])) == 1
    assert grey[spleen.mask].max() > grey[liver.mask].max() > grey[~(liver.mask | spleen.mask)].max()
    assert (image.axis, image.orientation, image.spacing_mm) == ("axial", ("L", "P"), (3.0, 2.0))
    assert (image.slice_index, image.series) == (1, "case_00000/axial")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_coronal_and_sagittal_slices(tmp_path, axes):
    images = read_all(Kits2023(kits(tmp_path, axes), axes=("coronal", "sagittal")))
    coronal = images["case_00000/coronal/0005"]
    assert (coronal.size, coronal.orientation, coronal.spacing_mm) == ((4, 8), ("L", "F"), (5.0, 2.0))
    assert corners(coronal.regions[0].mask) == (1, 3, 1, 2)  # rows run from top (z = 3) to bottom
    sagittal = images["case_00000/sagittal/0002"]
    assert (sagittal.size, sagittal.orientation, sagittal.spacing_mm) == ((4, 6), ("P", "F"), (5.0, 3.0))
    assert corners(sagittal.regions[0].mask) == (1, 2, 4, 5)
    assert len(images) == 6 + 8


def test_what_a_slice_says_of_its_case(tmp_path):
    images = read_all(Kits2023(kits(tmp_path), axes=("axial",)))
    top = images["case_00000/axial/0003"]
    assert (top.regions, top.annotated) == ((), ("kidney", "kidney tumor", "kidney cyst"))
    assert [region.label for region in images["case_00000/axial/0002"].regions] == ["kidney", "kidney tumor"]
    assert (top.modality, top.patient, top.file_name) == ("CT", "case_00000", "case_00000/imaging.nii.gz")
    assert top.split is None and top.attributes == {}


def test_stride_axes_and_options(tmp_path):
    images = read_all(Kits2023(kits(tmp_path), stride=3))
    assert [key.partition("/")[2] for key in images] == [
        *(f"axial/{index:04d}" for index in (0, 3)),
        *(f"coronal/{index:04d}" for index in (0, 3)),
        *(f"sagittal/{index:04d}" for index in (0, 3, 6)),
    ]
    with pytest.raises(
        ValueError, match=r"axes must be some of axial, coronal, sagittal, got \('oblique',\)"
    ):
        Kits2023(tmp_path, axes=("oblique",))
    with pytest.raises(ValueError, match="stride must be 1 or more"):
        Kits2023(tmp_path, stride=0)


def test_readers_travel_to_other_processes(tmp_path):
    for kind in (TotalSegmentator, Brats2021, Brats2023, Kits2019, Kits2023, Decathlon):
        reader = kind(tmp_path)
        assert pickle.loads(pickle.dumps(reader)) == reader


def test_windows_of_ct_go_by_body_region(tmp_path):
    reader = Kits2023(kits(tmp_path), axes=("axial",))
    image = read_all(reader)["case_00000/axial/0000"]
    assert image.window == (40, 400)
    assert pixels(image)[3, 5] == 102  # 0 HU: (0 - 40) / 400 + 1/2 = 0.4 of 255
    assert read_all(Kits2023(tmp_path, window=(0, 100)))["case_00000/axial/0000"].window == (0, 100)
    assert [
        ct_window(region).width for region in ("head and neck", "lung", "thorax", "limbs", "pelvis", None)
    ] == [
        80,
        1500,
        350,
        1800,
        400,
        400,
    ]


def test_totalsegmentator(tmp_path):
    save(tmp_path / "s0001/ct.nii.gz", scan(), "LAS")
    for name, values in (("spleen", organs() == 2), ("liver", organs() == 1), ("heart", organs() > 9)):
        save(tmp_path / f"s0001/segmentations/{name}.nii.gz", values.astype(np.uint8), "LAS")
    (tmp_path / "meta.csv").write_text("image_id;split\ns0001;train\n")
    images = read_all(TotalSegmentator(tmp_path, axes=("axial",)))
    image = images["s0001/axial/0001"]
    assert [region.label for region in image.regions] == ["liver", "spleen"]
    assert corners(image.regions[0].mask) == (0, 1, 1, 2)
    assert image.annotated == ("heart", "liver", "spleen")
    assert (image.patient, image.modality, image.window) == ("s0001", "CT", (40, 400))


@pytest.mark.parametrize(
    ("reader", "case", "separator", "sequences", "value"),
    [
        (Brats2021, "BraTS2021_00003", "_", ("t1", "t1ce", "t2", "flair"), 4),
        (Brats2023, "BraTS-GLI-00003-001", "-", ("t1n", "t1c", "t2w", "t2f"), 3),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_brats(tmp_path, reader, case, separator, sequences, value, suffix):
    for number, sequence in enumerate(sequences):
        save(tmp_path / case / f"{case}{separator}{sequence}{suffix}", scan() + number * 1000)
    labels = organs()
    labels[labels == 2] = value
    save(tmp_path / case / f"{case}{separator}seg{suffix}", labels)
    images = read_all(reader(tmp_path, axes=("axial",)))
    assert len(images) == 16
    image = images[f"{case}/{sequences[3]}/axial/0001"]
    labels = [region.label for region in image.regions]
    assert labels == ["necrotic tumor core", "enhancing tumor"]
    assert image.annotated == ("necrotic tumor core", "peritumoral edema", "enhancing tumor")
    assert image.patient == ("BraTS-GLI-00003" if separator == "-" else case)
    assert (image.modality, image.attributes) == ("MR", {"sequence": sequences[3]})
    assert image.window is not None and image.window[0] > 2000  # of this sequence's own values


def decathlon(root, channels=("FLAIR", "T1w"), **changes):
    volume = np.stack([scan() + number * 1000 for number in range(len(channels))], axis=-1)
    save(root / "imagesTr/BRATS_001.nii.gz", volume if len(channels) > 1 else volume[..., 0])
    save(root / "labelsTr/BRATS_001.nii.gz", organs())
    content = {
        "name": "BRATS",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor"},
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
        "test": ["./imagesTs/BRATS_002.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content | changes))
    return root


def test_decathlon_with_channels(tmp_path):
    images = read_all(Decathlon(decathlon(tmp_path), axes=("axial",)))
    flair, t1 = (images[f"BRATS_001/{name}/axial/0001"] for name in ("FLAIR", "T1w"))
    assert [region.label for region in t1.regions] == ["edema", "non-enhancing tumor"]
    assert t1.annotated == ("edema", "non-enhancing tumor")
    assert (t1.modality, t1.patient, t1.split) == ("MR", "BRATS_001", "train")
    assert t1.window[0] == flair.window[0] + 1000
    assert np.array_equal(pixels(t1), pixels(flair))


def test_decathlon_of_ct(tmp_path):
    images = read_all(Decathlon(decathlon(tmp_path, channels=("CT",)), axes=("axial",)))
    assert images["BRATS_001/axial/0000"].modality == "CT"
    assert images["BRATS_001/axial/0000"].window == (40, 400)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {}}, "under 'modality'; is it a Decathlon task"),
        ({"labels": {"background": 0, "liver": 1}}, "under 'labels', got 'background': 0"),
        ({"training": []}, "expected a list of images and labels under 'training'"),
        ({"training": [{"image": "a"}]}, "entry 0 of 'training' is .*, expected image and label"),
        ({"training": [{"image": "../a.nii", "label": "b"}]}, "refers to the file"),
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "T2w"}}, r"expected channel 2 \(T2w\), it has 2"),
        ({"labels": {"0": "background", "1": "edema"}}, "holds the value 2, expected 0 or 1 edema"),
    ],
)
def test_a_broken_decathlon_task_is_told(tmp_path, changes, message):
    with pytest.raises(UnitError, match=message):
        read_all(Decathlon(decathlon(tmp_path, **changes)))


def rewrite(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


LABELS = "case_00000/segmentation.nii.gz"
IMAGE = "case_00000/imaging.nii.gz"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: (root / LABELS).unlink(), r"segmentation\.nii\.gz: cannot be read"),
        (lambda root: (root / IMAGE).unlink(), r"imaging\.nii\.gz: cannot be read"),
        (lambda root: (root / IMAGE).write_bytes(b""), "is empty; copy it again"),
        (lambda root: (root / LABELS).write_text("text"), "is no NIfTI volume whatever its name says"),
        (lambda root: halve(root / IMAGE), r"imaging\.nii\.gz: "),
        (lambda root: halve(root / LABELS), r"segmentation\.nii\.gz: "),
        (lambda root: save(root / LABELS, organs()[1:]), r"has the shape \(7, 6, 4\), its image \(8, 6, 4\)"),
        (lambda root: save(root / LABELS, organs()[..., None].repeat(2, -1)), "and 2 rounds, its image"),
        (lambda root: save(root / LABELS, organs() * 3), "holds the value 6, expected 0 or 1 kidney"),
        (lambda root: save(root / LABELS, organs() + 0.5), r"holds the value 0\.5, expected 0 or"),
        (lambda root: save(root / LABELS, organs() * np.float32("nan")), "holds the value nan, expected 0"),
        (lambda root: save(root / LABELS, organs(), affine=np.diag([2.0, 3, 4, 1])), "its voxels run"),
        (lambda root: save(root / LABELS, organs(), axes="LPS"), "left and right could be swapped"),
    ],
)
def test_broken_cases_are_told_with_their_file(tmp_path, break_it, message):
    reader = Kits2023(kits(tmp_path))
    break_it(tmp_path)
    (unit,) = reader.units()
    images = reader.read(unit)
    with pytest.raises(UnitError, match=message) as caught:
        next(images)  # before a single slice is given away
    assert "case_00000" in str(caught.value)


def test_a_map_without_a_stated_orientation_does_not_fit_an_image_with_one(tmp_path):
    kits(tmp_path)
    bare = nib.Nifti1Image(organs(), None)
    bare.header.set_zooms((2, 3, 5))
    nib.save(bare, tmp_path / LABELS)
    with pytest.raises(UnitError, match=r"left and right could be swapped|says how the patient lies"):
        read_all(Kits2023(tmp_path))


def test_without_any_orientation_axis_and_sides_stay_open(tmp_path):
    for name, values in ((IMAGE, scan()), (LABELS, organs())):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        bare = nib.Nifti1Image(values, None)
        bare.header.set_zooms((2, 3, 5))
        nib.save(bare, tmp_path / name)
    image = read_all(Kits2023(tmp_path, axes=("axial",)))["case_00000/axial/0001"]
    assert (image.axis, image.orientation, len(image.regions)) == (None, None, 2)


def test_a_label_of_another_version_of_the_set_is_told(tmp_path):
    kits(tmp_path, labels=organs() + (organs() == 2))
    image = read_all(Kits2023(tmp_path))["case_00000/axial/0001"]
    assert [region.label for region in image.regions] == ["kidney", "kidney cyst"]
    with pytest.raises(UnitError, match="holds the value 3, expected 0 or 1 kidney, 2 kidney tumor; is it"):
        read_all(Kits2019(tmp_path))


def test_a_damaged_archive_is_told_by_its_checksum(tmp_path):
    kits(tmp_path)

    def spoil(content):
        content[-8] ^= 0xFF  # the checksum of the unpacked data

    rewrite(tmp_path / IMAGE, spoil)
    with pytest.raises(UnitError, match=r"imaging\.nii\.gz: cannot be decoded \(.*incorrect data check"):
        read_all(Kits2023(tmp_path))


def test_volumes_of_8_bits_are_shown_as_they_are(tmp_path):
    save(tmp_path / IMAGE, organs() * 100)
    save(tmp_path / LABELS, organs())
    image = read_all(Kits2023(tmp_path, axes=("axial",)))["case_00000/axial/0001"]
    assert image.window is None
    assert set(pixels(image)[image.regions[1].mask]) == {200}


def test_scaled_values_are_hounsfield_units(tmp_path):
    kits(tmp_path)
    image = nib.Nifti1Image((scan() + 1024).astype(np.uint16), RAS)
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / IMAGE)
    stored = nib.load(tmp_path / IMAGE)
    assert np.array_equal(stored.get_fdata(), scan()), "nibabel wrote what was meant"
    image = read_all(Kits2023(tmp_path, axes=("axial",)))["case_00000/axial/0000"]
    assert pixels(image)[3, 5] == 102


def test_a_flat_volume_has_only_the_slices_that_are_pictures(tmp_path):
    save(tmp_path / IMAGE, scan()[:, :, :1])
    save(tmp_path / LABELS, organs()[:, :, :1])
    assert list(read_all(Kits2023(tmp_path))) == ["case_00000/axial/0000"]
    with pytest.raises(UnitError, match=r"has the shape \(8, 6, 1\), so no coronal slice"):
        read_all(Kits2023(tmp_path, axes=("coronal",)))


def test_a_layout_of_ones_own(tmp_path):
    """Values of the label map may be numbers, as YAML reads them."""
    save(tmp_path / "p1/p1_t2.nii", scan())
    save(tmp_path / "p1/p1_roi.nii", organs())
    layout = CaseFolders(
        "p*", {"": "{case}_t2"}, "MR", label_map="{case}_roi", names={1: "gland", 2: "tumour"}
    )
    images = read_all(VolumeReader(tmp_path, DatasetInfo("own"), layout, axes=("axial",)))
    assert [region.label for region in images["p1/axial/0001"].regions] == ["gland", "tumour"]


def test_missing_maps_and_cases_are_told(tmp_path):
    with pytest.raises(UnitError, match=r"expected case folders named s\[0-9\]\* in it, found none"):
        list(TotalSegmentator(tmp_path).units())
    save(tmp_path / "s0001/ct.nii.gz", scan())
    with pytest.raises(UnitError, match=r"s0001: expected label maps beside s0001/ct\.nii\.gz, found none"):
        read_all(TotalSegmentator(tmp_path))
    shutil.rmtree(tmp_path / "s0001")
    with pytest.raises(UnitError, match=r"dataset\.json: cannot be read"):
        list(Decathlon(tmp_path).units())
