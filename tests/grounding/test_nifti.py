import gzip

import nibabel as nib
import numpy as np
import pytest

from grounding.images import ImageError, open_source
from grounding.types import MedicalImage, PixelSpacing, Window


def volume():
    """(4, 5, 3) voxels towards R, A, S: the value is 100 x + 10 y + z."""
    x, y, z = np.mgrid[:4, :5, :3]
    return (100 * x + 10 * y + z).astype(np.int16)


def axial(z):
    """The slice as it should be shown: rows from front to back, columns from the patient's right to left."""
    return np.array([[100 * x + 10 * y + z for x in (3, 2, 1, 0)] for y in (4, 3, 2, 1, 0)])


RAS = np.diag([2.0, 3.0, 4.0, 1.0])


def save(path, values, affine=RAS, kind=nib.Nifti1Image, **header):
    image = kind(values, affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_axial_slices_are_radiological(tmp_path, suffix, kind):
    source = open_source(save(tmp_path / f"a{suffix}", volume(), kind=kind))
    assert list(source.views) == ["axial", "coronal", "sagittal"]
    assert source.frame_count == 3
    assert np.array_equal(source.frame(2).values, axial(2))
    image = source.render(2)
    assert (image.orientation, image.spacing) == (("L", "P"), PixelSpacing(3, 2))


def test_coronal_and_sagittal_slices(tmp_path):
    source = open_source(save(tmp_path / "a.nii", volume()))
    coronal = source.frame(1, view="coronal")
    assert coronal.values.tolist() == [[100 * x + 10 + z for x in (3, 2, 1, 0)] for z in (2, 1, 0)]
    assert (coronal.orientation, coronal.spacing) == (("L", "F"), PixelSpacing(4, 2))
    sagittal = source.frame(3, view="sagittal")
    assert sagittal.values.tolist() == [[300 + 10 * y + z for y in (4, 3, 2, 1, 0)] for z in (2, 1, 0)]
    assert (sagittal.orientation, sagittal.spacing) == (("P", "F"), PixelSpacing(4, 3))


@pytest.mark.parametrize("axes", ["LPS", "SRA", "AIL", "PIR", "RAS"])
@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_the_order_of_the_file_does_not_matter(tmp_path, axes, view):
    plain = nib.Nifti1Image(volume(), RAS)
    turns = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    nib.save(plain.as_reoriented(turns), tmp_path / "turned.nii")
    expected = open_source(save(tmp_path / "a.nii", volume())).frame(1, view=view)
    turned = open_source(tmp_path / "turned.nii").frame(1, view=view)
    assert np.array_equal(turned.values, expected.values)
    assert (turned.spacing, turned.orientation) == (expected.spacing, expected.orientation)


def test_the_middle_slice_is_the_default(tmp_path):
    path = save(tmp_path / "a.nii", volume())
    source = open_source(path)
    assert np.array_equal(source.frame().values, source.frame(1).values)
    narrow = Window(141, 10)
    middle = MedicalImage.open(path, window=narrow)
    assert middle.source_id == MedicalImage.open(path, frame=1, window=narrow).source_id
    assert middle.source_id != MedicalImage.open(path, frame=0, window=narrow).source_id
    with pytest.raises(ImageError, match=r"a\.nii: has no frame 3; choose one from 0 to 2"):
        source.render(3)
    with pytest.raises(ImageError, match="choose one of axial, coronal, sagittal"):
        source.render(view="oblique")


def test_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(volume(), RAS)
    image.header.set_slope_inter(2.0, -1000.0)
    nib.save(image, tmp_path / "a.nii")
    assert np.array_equal(open_source(tmp_path / "a.nii").frame(0).values, 2.0 * axial(0) - 1000)


def test_windows_come_from_the_header_the_modality_or_the_data(tmp_path):
    plain = save(tmp_path / "a.nii", volume())
    assert MedicalImage.open(plain, modality="CT").window == Window(40, 400)
    assert MedicalImage.open(plain, window=Window(10, 20)).window == Window(10, 20)
    from_data = MedicalImage.open(plain).window
    assert from_data.center == pytest.approx(171, abs=5)
    stated = save(tmp_path / "b.nii", volume(), cal_min=0, cal_max=80)
    assert MedicalImage.open(stated).window == Window(40, 80)
    assert MedicalImage.open(plain, frame=0).window == from_data  # the same for every slice


def test_bytes_are_shown_as_they_are(tmp_path):
    values = volume().astype(np.uint8)
    image = MedicalImage.open(save(tmp_path / "a.nii", values), frame=0)
    assert image.window is None
    assert image.pixels[-1, -1, 0] == values[0, 0, 0]


def test_time_points_follow_one_another(tmp_path):
    values = np.stack([volume(), volume() + 1000], axis=-1)
    source = open_source(save(tmp_path / "a.nii", values))
    assert source.frame_count == 6
    assert np.array_equal(source.frame(4).values, source.frame(1).values + 1000)


def test_flat_and_two_dimensional_files_have_one_view(tmp_path):
    flat = open_source(save(tmp_path / "a.nii", volume()[:, :, :1]))
    assert list(flat.views) == ["axial"]
    assert flat.render().size == (5, 4)
    assert open_source(save(tmp_path / "b.nii", volume()[:, :, 0])).render().size == (5, 4)
    assert list(open_source(save(tmp_path / "c.nii", volume()[:1])).views) == ["sagittal"]


def test_colour_volumes(tmp_path):
    rgb = np.zeros((2, 2, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"][0, 0, 0] = 200
    image = MedicalImage.open(save(tmp_path / "a.nii", rgb))
    assert image.pixels[1, 1].tolist() == [200, 0, 0]
    assert image.pixels[0, 0].tolist() == [0, 0, 0]


def test_unknown_orientation_is_not_invented(tmp_path):
    path = save(tmp_path / "a.nii", volume())
    content = bytearray(path.read_bytes())
    content[252:256] = b"\0" * 4  # qform_code and sform_code
    path.write_bytes(content)
    image = MedicalImage.open(path)
    assert image.orientation is None
    assert image.spacing == PixelSpacing(3, 2)


def test_units_become_millimetres(tmp_path):
    image = nib.Nifti1Image(volume(), RAS)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    spacing = MedicalImage.open(tmp_path / "a.nii").spacing
    assert (spacing.row_mm, spacing.col_mm) == pytest.approx((0.003, 0.002))


def declaring(path, sides):
    """A file whose header declares other sides than its data have."""
    content = bytearray(save(path, volume()).read_bytes())
    content[42:48] = np.array(sides, "<i2").tobytes()
    return bytes(content)


@pytest.mark.parametrize("packed", [False, True])
def test_bombs_are_refused_by_their_declared_size(tmp_path, packed):
    content = declaring(tmp_path / "a.nii", (30_000, 30_000, 30_000))
    (tmp_path / "bomb").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(
        ImageError, match=r"bomb: declares 30000 x 30000 x 30000 voxels, more than .*export a part"
    ):
        open_source(tmp_path / "bomb")


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_volumes_are_told(tmp_path, packed):
    content = save(tmp_path / "a.nii", volume()).read_bytes()[:-10]
    (tmp_path / "cut.nii").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ImageError, match=r"cut\.nii: is truncated, 462 bytes of the 472"):
        open_source(tmp_path / "cut.nii")


def test_gzip_members_and_padding(tmp_path):
    content = save(tmp_path / "a.nii", volume()).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(
        gzip.compress(content[:200]) + gzip.compress(content[200:]) + b"\0" * 9
    )
    assert np.array_equal(open_source(tmp_path / "b.nii.gz").frame(2).values, axial(2))


def test_damaged_archives_and_headers_are_told(tmp_path):
    packed = save(tmp_path / "a.nii.gz", volume()).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ImageError, match=r"cut\.nii\.gz: "):
        open_source(tmp_path / "cut.nii.gz")
    (tmp_path / "neg.nii").write_bytes(declaring(tmp_path / "b.nii", (-4, 5, 3)))
    with pytest.raises(ImageError, match=r"neg\.nii: declares the shape \(-4, 5, 3\)"):
        open_source(tmp_path / "neg.nii")


def test_pairs_and_complex_volumes_are_refused_with_a_remedy(tmp_path):
    nib.save(nib.Nifti1Pair(volume(), RAS), tmp_path / "a.hdr")
    with pytest.raises(ImageError, match=r"a\.hdr: is the header of a \.hdr/\.img pair; convert the pair"):
        open_source(tmp_path / "a.hdr")
    with pytest.raises(ImageError, match=r"b\.nii: holds complex numbers.*export its magnitude"):
        open_source(save(tmp_path / "b.nii", volume().astype(np.complex64)))
