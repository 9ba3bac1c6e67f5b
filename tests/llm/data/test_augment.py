"""Random changes: boxes follow the pixels, equal seeds give equal changes, sides never swap."""

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from llm.data.augment import View, vary_question, vary_regions


def test_a_box_follows_its_pixels() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[30:50, 120:160] = 255
    view = View(angle=0.0, scale=1.1, shift=(0.04, -0.03))
    seen = np.asarray(view.pixels(MedicalImage(pixels)))[..., 0] > 127
    rows, columns = np.where(seen.any(1))[0], np.where(seen.any(0))[0]
    (box,) = view.boxes(np.array([[120, 30, 160, 50]], np.float32), (100, 200))
    assert box == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.0)


def test_rotation_moves_the_centre_of_a_box_with_the_pixels() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[45:55, 80:90] = 255
    view = View(angle=7.0)
    seen = np.asarray(view.pixels(MedicalImage(pixels)))[..., 0] > 127
    (box,) = view.boxes(np.array([[80, 45, 90, 55]], np.float32), (100, 100))
    centre = [np.where(seen)[1].mean() + 0.5, np.where(seen)[0].mean() + 0.5]
    assert [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] == pytest.approx(centre, abs=1.0)


def test_plain_view_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert (np.asarray(View().pixels(MedicalImage(pixels))) == pixels).all()


def test_random_views_never_mirror() -> None:
    for seed in range(20):
        matrix, _ = View.random(np.random.default_rng(seed))._forward(10, 10)
        assert np.linalg.det(matrix) > 0
        assert matrix[0, 0] > 0.9


def test_regions_change_a_little_and_repeatably(two_regions: Regions) -> None:
    def varied(seed: int) -> Regions:
        return vary_regions(two_regions, np.random.default_rng(seed), view=View(), drop=0.0, jitter=0.03)

    assert (varied(1).boxes == varied(1).boxes).all()
    assert (varied(1).boxes != varied(2).boxes).any()
    assert np.abs(varied(1).boxes - two_regions.boxes).max() < 0.15 * 32
    assert varied(1).phrases == two_regions.phrases


def test_a_dropped_region_becomes_missing(two_regions: Regions) -> None:
    varied = vary_regions(two_regions, np.random.default_rng(0), view=View(), drop=1.0, jitter=0.0)
    assert len(varied) == 0
    assert varied.missing == ("right lung", "left lung", "spleen")


def test_no_regions_stay_none_found() -> None:
    nothing = Regions.empty((10, 10), ("liver",))
    assert len(vary_regions(nothing, np.random.default_rng(0), view=View(), drop=0.1, jitter=0.1)) == 0


def test_questions_keep_their_words() -> None:
    variants = {vary_question("Is/Are there masses?", np.random.default_rng(s)) for s in range(60)}
    assert {v.lower().removesuffix("?") for v in variants} == {
        "is/are there masses",
        "is there masses",
        "are there masses",
    }
