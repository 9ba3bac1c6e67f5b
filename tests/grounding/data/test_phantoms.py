"""Phantoms are repeatable, their boxes are exact, and their sides are the patient's."""

import numpy as np
import pytest

from grounding.data.phantoms import MODALITIES, make_phantom


@pytest.mark.parametrize("modality", MODALITIES)
def test_phantom_is_a_picture_with_exact_boxes(modality: str) -> None:
    phantom = make_phantom(modality, seed=3)
    assert phantom.image.size == (512, 512)
    assert phantom.image.modality == modality
    assert phantom.image.pixels.std() > 10, "a phantom must show something"
    assert len(phantom.regions) > 0
    masks = phantom.regions.masks
    assert masks is not None
    for box, mask in zip(phantom.regions.boxes, masks, strict=True):
        x1, y1, x2, y2 = (int(v) for v in box)
        assert mask[y1:y2, x1:x2].sum() == mask.sum(), "the box holds the whole mask"
        for edge in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1]):
            assert edge.any(), "the box is tight"


@pytest.mark.parametrize("modality", ["MR", "US"])
def test_same_seed_same_pixels_other_seed_other_pixels(modality: str) -> None:
    first, again, other = (make_phantom(modality, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.image.pixels, again.image.pixels)
    assert np.array_equal(first.regions.boxes, again.regions.boxes)
    assert not np.array_equal(first.image.pixels, other.image.pixels)


@pytest.mark.parametrize("modality", MODALITIES)
def test_answers_point_at_drawn_regions(modality: str) -> None:
    phantom = make_phantom(modality, seed=0)
    assert phantom.qa
    for item in phantom.qa:
        assert set(item.phrases) <= set(phantom.regions.phrases)


def test_the_patients_right_is_on_the_pictures_left() -> None:
    for modality, right, left in (
        ("CR", "right lung", "left lung"),
        ("CT", "liver", "spleen"),
        ("CT", "right kidney", "left kidney"),
    ):
        centre = {r.phrase: (r.box[0] + r.box[2]) / 2 for r in make_phantom(modality).regions}
        assert centre[right] < 256 < centre[left]


def test_some_brains_have_a_tumour_and_some_have_none() -> None:
    answers = {make_phantom("MR", seed).qa[0].answer for seed in range(6)}
    assert answers == {"yes", "no"}


def test_unknown_modality_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"expected one of CR, CT, .*got 'PT'"):
        make_phantom("PT")
