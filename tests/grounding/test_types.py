import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grounding.types import MedicalImage, PixelSpacing, Regions, Window


def regions(masks=None):
    return Regions(
        np.array([[0, 0, 2, 2], [1, 1, 3, 4], [0, 1, 1, 3]]),
        np.array([0.25, 0.75, 0.5]),
        np.array([0, 2, 0]),
        ("liver", "spleen", "aorta"),
        (5, 6),
        masks,
    )


def test_importing_types_loads_neither_torch_nor_pydicom():
    code = "import sys, grounding.types; print({'torch', 'pydicom', 'nibabel'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_package_offers_its_names_lazily():
    import grounding

    assert grounding.MedicalImage is MedicalImage
    assert "Grounder" in dir(grounding)
    with pytest.raises(AttributeError, match=r"no attribute 'Nothing'; it offers .*Regions"):
        _ = grounding.Nothing


def test_image_copies_its_pixels_and_is_read_only():
    array = np.zeros((2, 3, 3), dtype=np.uint8)
    image = MedicalImage(array)
    array[0, 0, 0] = 9
    assert image.pixels[0, 0, 0] == 0
    assert image.size == (2, 3) == (image.height, image.width)
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 1


def test_source_id_follows_pixels_and_shape_only():
    first = MedicalImage(np.zeros((2, 3, 3), dtype=np.uint8), modality="CT")
    assert first.source_id == MedicalImage(np.zeros((2, 3, 3), dtype=np.uint8)).source_id
    assert first.source_id != MedicalImage(np.zeros((3, 2, 3), dtype=np.uint8)).source_id
    assert first.source_id != MedicalImage(np.ones((2, 3, 3), dtype=np.uint8)).source_id


def test_from_array_makes_grey_rgb():
    image = MedicalImage.from_array(np.array([[1, 2]], dtype=np.uint8), modality="MR")
    assert image.pixels.tolist() == [[[1, 1, 1], [2, 2, 2]]]
    assert image.modality == "MR"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MedicalImage(np.zeros((2, 2, 3))), TypeError, "uint8 array, got float64"),
        (lambda: MedicalImage([[1]]), TypeError, "uint8 array, got list"),
        (lambda: MedicalImage(np.zeros((2, 2), np.uint8)), ValueError, r"must be \(H, W, 3\).*from_array"),
        (lambda: MedicalImage(np.zeros((0, 2, 3), np.uint8)), ValueError, r"got \(0, 2, 3\)"),
        (lambda: MedicalImage(np.zeros((1, 1, 3), np.uint8), "chest x-ray"), ValueError, "DICOM code"),
        (
            lambda: MedicalImage(np.zeros((1, 1, 3), np.uint8), orientation=("LR", "P")),
            ValueError,
            "letters L R A P H F",
        ),
        (lambda: PixelSpacing(0, 1), ValueError, "> 0 mm"),
        (lambda: PixelSpacing(1, 1, "screen"), ValueError, "'pixel' or 'detector'"),
        (lambda: Window(40, 0), ValueError, "width > 0"),
        (lambda: Window(float("nan"), 1), ValueError, "finite"),
    ],
)
def test_bad_images_say_what_was_expected(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_regions_know_their_phrases_and_what_is_missing():
    found = regions()
    assert len(found) == 3
    assert found.phrases == ("liver", "aorta", "liver")
    assert found.missing == ("spleen",)
    assert found.boxes.dtype == np.float32
    assert found.phrase_index.dtype == np.int64


def test_regions_select_by_mask_indices_slice_and_threshold():
    found = regions()
    assert found[np.array([True, False, True])].phrases == ("liver", "liver")
    assert found[[1]].phrases == ("aorta",)
    assert found[np.array([2, 1])].scores.tolist() == [0.5, 0.75]
    assert found[:2].phrases == ("liver", "aorta")
    assert len(found[[]]) == 0
    assert found[1:].missing == ("spleen",)
    assert found.above(0.5).scores.tolist() == [0.75, 0.5]
    assert found.sorted().scores.tolist() == [0.75, 0.5, 0.25]
    assert found.asked == found[:0].asked
    with pytest.raises(IndexError, match=r"one entry a region \(3\)"):
        _ = found[np.array([True])]
    with pytest.raises(TypeError, match="boolean mask, indices or a slice"):
        _ = found[np.array([0.5])]


def test_regions_iterate_with_index_and_mask():
    masks = np.zeros((3, 5, 6), dtype=bool)
    masks[1, 2, 3] = True
    first, second, _ = regions(masks)
    assert (first.phrase, first.score, first.index) == ("liver", 0.25, 0)
    assert second.box.tolist() == [1, 1, 3, 4]
    assert second.mask[2, 3]
    assert second.mask.sum() == 1
    assert next(iter(regions())).mask is None


def test_no_region_is_a_defined_value():
    none = Regions.empty((4, 4), ["liver"])
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)
    assert none.missing == ("liver",)
    assert len(none.sorted().above(0.5)) == 0
    assert Regions.from_dict(none.to_dict()).missing == ("liver",)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes", np.zeros((1, 5)), r"\(N, 4\) xyxy pixels, got \(1, 5\)"),
        ("boxes", [[3, 0, 1, 1]], "x1 <= x2"),
        ("boxes", [[0, 0, np.nan, 1]], "finite"),
        ("scores", [0.5, 0.5], r"scores must be \(1,\)"),
        ("scores", [1.5], r"\[0, 1\].*sigmoid"),
        ("scores", [np.nan], r"\[0, 1\]"),
        ("phrase_index", [1], "point into the 1 asked"),
        ("phrase_index", [-1], "point into the 1 asked"),
        ("phrase_index", [0.0], "integers"),
        ("asked", ("",), "non-empty strings"),
        ("image_size", (0, 3), r"\(height, width\)"),
        ("masks", np.zeros((1, 2, 2)), "masks must be bool"),
    ],
)
def test_bad_regions_say_what_was_expected(field, value, message):
    fields = {
        "boxes": [[0, 0, 1, 1]],
        "scores": [0.5],
        "phrase_index": [0],
        "asked": ("liver",),
        "image_size": (2, 2),
        "masks": None,
    }
    with pytest.raises(ValueError, match=message):
        Regions(**{**fields, field: value})


def test_from_dict_refuses_unknown_keys_and_masks_that_do_not_fit():
    with pytest.raises(ValueError, match="must have the keys"):
        Regions.from_dict({**regions().to_dict(), "labels": []})
    data = Regions([[0, 0, 1, 1]], [1], [0], ("a",), (2, 2), np.ones((1, 2, 2), bool)).to_dict()
    assert data["masks"] == [[0, 4]]
    with pytest.raises(ValueError, match="add up to 2 x 2"):
        Regions.from_dict({**data, "masks": [[0, 3]]})


@st.composite
def any_regions(draw):
    count = draw(st.integers(0, 4))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    asked = tuple(draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3)))
    corner = st.floats(-1e4, 1e4, width=32)
    boxes = np.sort(draw(arrays(np.float32, (count, 2, 2), elements=corner)), axis=1).reshape(count, 4)
    scores = draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    index = draw(arrays(np.int64, count, elements=st.integers(0, len(asked) - 1)))
    masks = draw(st.none() | arrays(np.bool_, (count, height, width)))
    return Regions(boxes, scores, index, asked, (height, width), masks)


@given(any_regions())
def test_json_round_trip_is_exact(given_regions):
    back = Regions.from_dict(json.loads(json.dumps(given_regions.to_dict())))
    for name in ("boxes", "scores", "phrase_index"):
        before, after = getattr(given_regions, name), getattr(back, name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert (back.asked, back.image_size) == (given_regions.asked, given_regions.image_size)
    assert (back.masks is None) == (given_regions.masks is None)
    assert back.masks is None or np.array_equal(back.masks, given_regions.masks)
