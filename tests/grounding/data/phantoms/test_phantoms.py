"""Phantoms are repeatable, their boxes are exact, nothing lies outside its organ, sides are the patient's."""

from functools import cache

import numpy as np
import pytest

from grounding.data.phantoms import MODALITIES, Phantom, make_phantom
from grounding.data.phantoms.labels import PHANTOM_LABELS
from grounding.ontology import Ontology

SEEDS = range(8)
RADIOLOGY = ("CR", "CT", "MR")


@cache
def phantom(modality: str, seed: int) -> Phantom:
    """Small ones, so that many seeds are quick to look at."""
    return make_phantom(modality, seed, size=128)


def masks_of(drawn: Phantom, name: str) -> list[np.ndarray]:
    return [region.mask for region in drawn.regions if region.phrase == name]


@pytest.mark.parametrize("modality", MODALITIES)
def test_phantom_is_a_picture_with_exact_boxes(modality: str) -> None:
    drawn = make_phantom(modality, seed=3)
    assert drawn.image.size == (512, 512)
    assert drawn.image.modality == modality
    assert drawn.image.pixels.std() > 10, "a phantom must show something"
    masks = drawn.regions.masks
    assert masks is not None and len(masks) > 0
    for box, mask in zip(drawn.regions.boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_seed_same_pixels_other_seed_other_pixels(modality: str) -> None:
    first, again = phantom(modality, 5), make_phantom(modality, 5, size=128)
    assert np.array_equal(first.image.pixels, again.image.pixels)
    assert np.array_equal(first.regions.masks, again.regions.masks)
    assert first.qa == again.qa and first.report == again.report
    assert not np.array_equal(first.image.pixels, phantom(modality, 6).image.pixels)


@pytest.mark.parametrize("modality", MODALITIES)
def test_nothing_lies_outside_what_holds_it(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        for region in drawn.regions:
            holders = PHANTOM_LABELS[modality][region.phrase].inside
            inside = [mask for holder in holders for mask in masks_of(drawn, holder)]
            if holders:
                whole = [bool((region.mask <= mask).all()) for mask in inside]
                assert any(whole), f"seed {seed}: {region.phrase} outside {holders}"


@pytest.mark.parametrize("modality", MODALITIES)
def test_lesions_of_one_kind_do_not_overlap(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        for name, label in PHANTOM_LABELS[modality].items():
            if label.granularity == "lesion" and (masks := masks_of(drawn, name)):
                assert np.sum(masks, axis=0).max() == 1


@pytest.mark.parametrize("modality", RADIOLOGY)
def test_the_patients_right_is_on_the_pictures_left(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        assert drawn.image.orientation is not None and drawn.image.orientation[0] == "L"
        names = set(drawn.regions.phrases)
        for right in [name for name in names if name.startswith("right ")]:
            left = right.replace("right", "left", 1)
            x = {n: np.nonzero(masks_of(drawn, n)[0])[1].mean() for n in (right, left)}
            assert x[right] < x[left], f"seed {seed}: {right}"


def test_unpaired_organs_lie_on_their_side() -> None:
    for seed in SEEDS:
        drawn = phantom("CT", seed)
        x = {region.phrase: (region.box[0] + region.box[2]) / 2 for region in drawn.regions}
        assert max(x["liver"], x.get("gallbladder", 0.0)) < 64 < min(x["spleen"], x["stomach"])
        assert x["inferior vena cava"] < x["aorta"]
        chest = phantom("CR", seed)
        heart = np.nonzero(masks_of(chest, "heart")[0])[1]
        trachea = np.nonzero(masks_of(chest, "trachea")[0])[1]
        assert heart.mean() > trachea.mean(), "the heart lies to the left"


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_finding_is_there_in_some_and_absent_in_others(modality: str) -> None:
    seen = [set(phantom(modality, seed).regions.phrases) for seed in range(20)]
    for name, label in PHANTOM_LABELS[modality].items():
        count = sum(name in names for names in seen)
        assert count > 0, f"{name} is never drawn"
        assert label.granularity != "lesion" or count < len(seen), f"{name} is always drawn"


def test_names_that_the_ontology_has_are_as_fine_there() -> None:
    ontology = Ontology.load()
    for table in PHANTOM_LABELS.values():
        for name, label in table.items():
            if name in ontology.names:
                assert ontology.label(name).granularity == label.granularity, name


def test_every_granularity_occurs() -> None:
    found = {label.granularity for table in PHANTOM_LABELS.values() for label in table.values()}
    assert found == {"region", "organ", "substructure", "lesion", "cell"}


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_asked_and_not_there_is_missing(modality: str) -> None:
    regions = phantom(modality, 1).regions
    assert regions.asked == tuple(PHANTOM_LABELS[modality])
    assert set(regions.missing) == set(regions.asked) - set(regions.phrases)


@pytest.mark.parametrize("modality", MODALITIES)
def test_grey_is_grey_and_colour_is_colour(modality: str) -> None:
    pixels = phantom(modality, 0).image.pixels.astype(int)
    spread = float(np.mean(pixels.max(axis=2) - pixels.min(axis=2)))
    assert (spread == 0) == (modality in ("CR", "CT", "MR", "US"))


def test_the_side_marker_is_on_its_side() -> None:
    """A letter in one of the upper corners, the only white there."""
    for seed in (0, 1, 2):
        corner = make_phantom("CR", seed).image.pixels[16:80, :, 0] > 200
        assert corner[:, :90].any() != corner[:, -90:].any()


def test_unknown_modality_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"expected one of CR, CT, .*got 'PT'"):
        make_phantom("PT")


def test_a_picture_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 64 pixels, got 32"):
        make_phantom("CR", size=32)
