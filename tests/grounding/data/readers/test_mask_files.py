import numpy as np
import pytest
from PIL import Image

from grounding.data.readers.annotations import read_bytes
from grounding.data.readers.mask_files import case_and_slice, code_of_word, file_below, read_mask
from grounding.data.records import UnitError

INSIDE = np.array([[0, 1, 0], [1, 1, 0]], dtype=bool)


def saved(path, values, mode=None):
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (INSIDE.astype(np.uint8), None),
        (INSIDE.astype(np.uint8) * 255, None),
        (INSIDE.astype(np.uint8) * 7, None),
        (INSIDE.astype(np.uint16) * 300, None),
        (INSIDE, None),
        (np.stack([INSIDE * 0, INSIDE * 9, INSIDE * 0], axis=-1).astype(np.uint8), None),
        (np.stack([INSIDE * 0, INSIDE * 9, INSIDE * 0], axis=-1).astype(np.uint8), "RGBA"),
        (INSIDE.astype(np.uint8) * 255, "LA"),
    ],
)
def test_everything_but_zero_is_inside(tmp_path, values, mode):
    mask = read_mask(saved(tmp_path / "m.png", values, mode), (2, 3))
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, INSIDE)


def test_palette_indices_count_not_their_colours(tmp_path):
    picture = Image.fromarray(INSIDE.astype(np.uint8), mode="P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", (2, 3)), INSIDE)


def test_an_empty_mask_is_a_mask(tmp_path):
    assert not read_mask(saved(tmp_path / "m.png", np.zeros((2, 3), np.uint8)), (2, 3)).any()


def test_faults_name_file_fault_and_remedy(tmp_path):
    path = saved(tmp_path / "m.png", INSIDE.astype(np.uint8))
    with pytest.raises(UnitError, match=r"m\.png: has 2 x 3 pixels \(height x width\), its image 3 x 2; it"):
        read_mask(path, (3, 2))
    with pytest.raises(UnitError, match=r"n\.png: cannot be read \(No such file.*complete"):
        read_mask(tmp_path / "n.png", (2, 3))
    with pytest.raises(UnitError, match="cannot be read"):
        read_mask(tmp_path, (2, 3))
    path.write_bytes(b"")
    with pytest.raises(UnitError, match="is empty; copy it again"):
        read_mask(path, (2, 3))
    path.write_text("not a picture")
    with pytest.raises(UnitError, match=r"m\.png: is no readable picture \(UnidentifiedImageError"):
        read_mask(path, (2, 3))


def test_truncated_masks_are_told(tmp_path):
    path = saved(tmp_path / "m.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnitError, match="is no readable picture"):
        read_mask(path, (64, 64))


@pytest.mark.parametrize("name", ["../a.png", "masks/../../a.png", "/etc/passwd", "a\0.png", "\ud800.png"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, type(tmp_path)(".")):
        with pytest.raises(UnitError, match="refers to the file"):
            file_below(root, name)


def test_names_below_the_root_and_very_long_ones(tmp_path):
    assert file_below(tmp_path, "./masks/a.png") == tmp_path / "masks" / "a.png"
    with pytest.raises(UnitError, match="cannot be read"):
        read_bytes(file_below(tmp_path, "a" * 5000))


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("ct_00", "CT"),
        ("ct", "CT"),
        ("mr_flair", "MR"),
        ("MRI-T1-Gd", "MR"),
        ("FLAIR", "MR"),
        ("T1w", "MR"),
        ("x_ray", "DX"),
        ("X-Ray", "DX"),
        ("ultrasound_00", "US"),
        ("endoscope", "ES"),
        ("dermoscopy_00", "DMS"),
        ("fundus_photography", "OP"),
        ("OCT", "OPT"),
        ("pet_00", "PT"),
        ("pathology", "SM"),
        ("CR", "CR"),
        ("hologram", None),
        ("", None),
    ],
)
def test_words_for_modalities(word, code):
    assert code_of_word(word) == code


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("amos_0004_75", ("amos_0004", 75)),
        ("s0114_111", ("s0114", 111)),
        ("ABD_001_100", ("ABD_001", 100)),
        ("ISIC_0000001", (None, None)),
        ("T0340", (None, None)),
        ("", (None, None)),
    ],
)
def test_cases_and_slices(stem, expected):
    assert case_and_slice(stem) == expected


def test_a_pattern_without_slices():
    assert case_and_slice("p7-left", r"(?P<case>p\d+)-.*") == ("p7", None)
