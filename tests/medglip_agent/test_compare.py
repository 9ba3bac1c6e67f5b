"""What changed between two images, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from grounding.types import MedicalImage, PixelSpacing, Regions
from medglip_agent.compare import Comparison, compare_regions

Found = list[tuple[str, tuple[float, float, float, float]]]


def picture(height: int = 100, width: int = 100, mm: float | None = None, grey: int = 0) -> MedicalImage:
    pixels = np.full((height, width, 3), grey, np.uint8)
    return MedicalImage(pixels, "CR", spacing=None if mm is None else PixelSpacing(mm, mm))


def found(image: MedicalImage, regions: Found, asked: tuple[str, ...]) -> Regions:
    return Regions(
        np.array([box for _, box in regions], np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(regions), dtype=np.float32),
        np.array([asked.index(phrase) for phrase, _ in regions], np.int64),
        asked,
        image.size,
    )


def compare(
    now: Found, before: Found, current: MedicalImage | None = None, prior: MedicalImage | None = None
) -> Comparison:
    current, prior = current or picture(), prior or picture(grey=9)
    asked = ("heart", "polyp", "spleen")
    return compare_regions(current, found(current, now, asked), prior, found(prior, before, asked))


def test_unchanged_within_tolerance() -> None:
    result = compare([("heart", (20, 20, 62, 60))], [("heart", (20, 20, 60, 60))])
    (change,) = result.changes
    assert change.status == "unchanged"
    assert change.area_percent == pytest.approx(5.0, abs=1e-4)
    assert change.shift_percent == pytest.approx((1.0, 0.0))
    assert result.absent == ("polyp", "spleen")
    assert "Heart [R1]: unchanged (box area +5 %, 40 x 40 px before, 42 x 40 px now; " in result.text
    assert "unchanged means within 20 % of area and 5 % of the picture in place" in result.text


def test_larger_or_moved_is_changed() -> None:
    larger = compare([("heart", (10, 10, 60, 60))], [("heart", (15, 15, 55, 55))])
    assert larger.changes[0].status == "changed"
    assert larger.changes[0].area_percent == pytest.approx(56.25)
    moved = compare([("heart", (10, 30, 50, 70))], [("heart", (20, 20, 60, 60))])
    assert moved.changes[0].status == "changed"
    assert "centre moved 10 % left and 10 % down" in moved.text


def test_new_and_gone_are_found_in_one_image_only() -> None:
    result = compare([("polyp", (0, 0, 10, 10))], [("spleen", (80, 80, 90, 90))])
    assert [(c.phrase, c.status, c.current, c.prior) for c in result.changes] == [
        ("polyp", "new", 0, None),
        ("spleen", "gone", None, 0),
    ]
    assert "Polyp [R1]: new (found now in the upper left of the picture, not found before)." in result.text
    assert "Spleen: gone (found before in the lower right of the picture, not found now)." in result.text
    assert "no disease is judged" in result.text


def test_lesions_are_paired_by_place_organs_always() -> None:
    far = compare([("polyp", (0, 0, 10, 10))], [("polyp", (60, 60, 70, 70))])
    assert [change.status for change in far.changes] == ["new", "gone"]
    organ = compare([("heart", (0, 0, 10, 10))], [("heart", (60, 60, 70, 70))])
    assert [change.status for change in organ.changes] == ["changed"]
    two = compare(
        [("polyp", (50, 50, 60, 60)), ("polyp", (0, 0, 10, 10))],
        [("polyp", (1, 1, 11, 11)), ("polyp", (52, 50, 62, 60))],
    )
    assert [(change.current, change.prior) for change in two.changes] == [(0, 1), (1, 0)]


def test_mm_where_both_spacings_are_known_else_shares_of_the_picture() -> None:
    now, before = [("heart", (0.0, 0.0, 40.0, 40.0))], [("heart", (0.0, 0.0, 20.0, 20.0))]
    half = picture(50, 50, mm=2.0)
    in_mm = compare(now, before, picture(mm=1.0), half)
    assert in_mm.in_mm and in_mm.changes[0].area_percent == pytest.approx(0.0)
    shares = compare(now, before, picture(), half)
    assert not shares.in_mm and shares.changes[0].area_percent == pytest.approx(0.0)
    assert "compared in shares of the picture" in shares.text
    zoomed = compare(now, before, picture(mm=1.0), picture(50, 50, mm=4.0))
    assert zoomed.changes[0].area_percent == pytest.approx(-75.0)


def test_what_makes_images_hard_to_compare_is_noted() -> None:
    ct = MedicalImage(np.full((9, 9, 3), 1, np.uint8), "CT", orientation=("L", "P"))
    notes = compare([], [], prior=ct).notes
    assert "different kinds (CT before, CR now)" in notes[0] and "orientation" in notes[1]
    assert compare([], [], picture(), picture()).notes == ("Both images have the same pixels.",)


def test_other_phrases_are_our_fault() -> None:
    image = picture()
    with pytest.raises(ValueError, match="the same phrases twice"):
        compare_regions(image, found(image, [], ("heart",)), image, found(image, [], ("spleen",)))
