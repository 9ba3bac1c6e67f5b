"""The lines of regions in a prompt: the short form of nano, pinned, and the detailed form."""

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from llm.spatial import (
    NANO_STYLE,
    STYLES,
    TEXT_STYLE,
    LocTokens,
    PromptStyle,
    choose_regions,
    mentions,
    region_block,
    score_bucket,
    show_regions,
)
from llm.spatial.position import halves, ninth, relative_position, side, size_ranks

SHORT = PromptStyle(LocTokens(), None)
CORONAL, AXIAL, SAGITTAL = ("L", "F"), ("L", "P"), ("P", "F")


def many(count: int = 10) -> Regions:
    """`count` polyps of rising score after one liver of score .3; no spleen, no kidneys."""
    boxes = np.tile(np.array([0, 0, 10, 10], dtype=np.float32), (count + 1, 1))
    scores = np.linspace(0.3, 0.9, count + 1)
    index = np.array([0] + [1] * count)
    return Regions(boxes, scores, index, ("liver", "polyp", "spleen", "right kidney"), (100, 100))


def test_what_nano_reads_is_pinned() -> None:
    """Byte for byte the text that the shipped nano model was trained on."""
    boxes = np.array(
        [[12.5, 0, 512, 511.9], [-3, 7.25, 40, 900], [0.29, 0.57, 0.58, 99.4], *[[1, 2, 3, 4]] * 4],
        dtype=np.float32,
    )
    scores = np.array([0.61, 0.4, 0.399, 0.9, 0.9, 0.9, 0.9])
    asked = ("right lung", "left lung", "lung <|im_end|>\nmass", "spleen", "kidneys", "polyp")
    regions = Regions(boxes, scores, np.array([0, 1, 2, 0, 0, 0, 0]), asked, (512, 1000))
    assert region_block(regions, "Is the kidney or a spleen seen?", NANO_STYLE, orientation=CORONAL) == (
        "[R1] right lung <loc_001><loc_000><loc_051><loc_099> high, left, left upper, largest\n"
        "[R2] left lung <loc_000><loc_001><loc_004><loc_099> medium, left, left lower, second largest\n"
        "[R3] lung < |im_end|> mass <loc_000><loc_000><loc_000><loc_019> low,"
        " upper left, left upper, third largest\n"
        "[R4] right lung <loc_000><loc_000><loc_000><loc_000> high, upper left, left upper, fourth largest\n"
        "[R5] right lung <loc_000><loc_000><loc_000><loc_000> high, upper left, left upper, fifth largest\n"
        "[R6] right lung <loc_000><loc_000><loc_000><loc_000> high, upper left, left upper, sixth largest\n"
        "No region found: spleen, kidneys\n"
    )


def test_region_lines(two_regions: Regions) -> None:
    assert region_block(two_regions, "Is the spleen large?", SHORT) == (
        "[R1] right lung <loc_010><loc_010><loc_040><loc_090> high\n"
        "[R2] left lung <loc_060><loc_010><loc_090><loc_090> medium\n"
        "No region found: spleen\n"
    )


def test_the_detailed_form(two_regions: Regions) -> None:
    assert region_block(
        two_regions, "Is the spleen behind the left lung?", TEXT_STYLE, orientation=CORONAL
    ) == (
        "Regions that a detector found ([x1, y1, x2, y2], 0 to 1000 of the width or height):\n"
        "[R2] left lung [600, 100, 900, 900] medium score, patient's left, middle part\n"
        "[R1] right lung [100, 100, 400, 900] high score, patient's right, middle part\n"
        "No region found: spleen\n"
    )


@pytest.mark.parametrize("style", [SHORT, TEXT_STYLE])
def test_absent_phrases_are_said_only_where_the_question_names_them(
    two_regions: Regions, style: PromptStyle
) -> None:
    assert "No region" not in region_block(two_regions, "Is there a mass?", style)


@pytest.mark.parametrize("name", STYLES)
def test_nothing_found_is_said_and_no_regions_is_silent(name: str) -> None:
    nothing = Regions.empty((10, 10), ("liver", "spleen"))
    assert region_block(nothing, "Why?", STYLES[name]) == "No region found: liver, spleen\n"
    assert region_block(Regions.empty((10, 10)), "Why?", STYLES[name]) == "No region found: none asked\n"
    assert region_block(None, "Why?", STYLES[name]) == ""


def test_a_guess_is_said_to_be_one_and_is_no_region() -> None:
    regions = Regions(
        [[0, 0, 40, 40], [60, 70, 100, 100]],
        [0.9, 0.1],
        [0, 1],
        ("liver", "spleen"),
        (100, 100),
        doubted=np.array([False, True]),
    )
    assert region_block(regions, "Where is the spleen?", NANO_STYLE) == (
        "[R1] liver <loc_000><loc_000><loc_040><loc_040> high, upper left, left upper\n"
        "No region found: spleen, if any <loc_060><loc_070><loc_099><loc_099>, lower right, right lower\n"
    )
    assert "if any [600, 700, 1000, 1000], right of the picture" in region_block(
        regions, "Where is the spleen?", TEXT_STYLE
    )
    assert "spleen" not in region_block(regions, "Where is the liver?", NANO_STYLE)
    assert choose_regions(regions, "Where is the spleen?", TEXT_STYLE) == (0,)
    shown = show_regions(MedicalImage(np.zeros((100, 100, 3), np.uint8)), regions, "?", STYLES["marks"])
    alone = show_regions(MedicalImage(np.zeros((100, 100, 3), np.uint8)), regions[[0]], "?", STYLES["marks"])
    assert (shown.pixels == alone.pixels).all()


def test_places_and_sizes_in_words() -> None:
    assert (ninth((40, 0, 60, 20), (100, 100)), halves((40, 0, 59, 20), (100, 100))) == (
        "upper",
        ("left", "upper"),
    )
    assert (ninth((40, 40, 60, 60), (100, 100)), ninth((70, 70, 90, 90), (100, 100))) == (
        "centre",
        "lower right",
    )
    assert halves((90, 0, 300, 20), (100, 200)) == ("right", "upper")  # what reaches beyond does not count
    assert size_ranks([(0, 0, 1, 1)]) == [""]
    boxes = [(0, 0, side, side) for side in (2, 8, 7, 6, 5, 4, 3, 1)]
    assert size_ranks(boxes) == [
        "smaller",
        "largest",
        *(f"{word} largest" for word in ("second", "third", "fourth", "fifth", "sixth")),
        "smaller",
    ]


def test_the_budget_of_the_short_form_keeps_the_first() -> None:
    assert choose_regions(many(), "Polyps?", NANO_STYLE) == (0, 1, 2, 3, 4, 5)
    nothing = Regions.empty((10, 10), ("liver", "spleen", "aorta"))
    assert region_block(nothing, "", PromptStyle(LocTokens(), 2)) == "No region found: liver, spleen\n"


def test_the_budget_keeps_the_most_relevant_and_says_what_is_cut() -> None:
    style = PromptStyle(LocTokens(), 3, detailed=True)
    assert choose_regions(many(), "Is the liver fine?", style) == (0, 10, 9)
    assert choose_regions(many(), "How many polyps?", style) == (10, 9, 8)
    block = region_block(many(), "Is the liver fine? And the right kidney?", style)
    assert [line.split()[0] for line in block.splitlines()] == [
        "Regions",
        "[R1]",
        "[R11]",
        "[R10]",
        "Not",
        "No",
    ]
    assert "Not listed: 8 less relevant regions\nNo region found: right kidney\n" in block
    assert "Not listed: 1 less relevant region\n" in region_block(many(3), "Why?", style)
    assert "Not listed" not in region_block(many(2), "Why?", style)


def test_score_buckets() -> None:
    assert [score_bucket(s) for s in (0.6, 0.59, 0.4, 0.39)] == ["high", "medium", "medium", "low"]


def test_mentions_takes_the_head_noun_in_either_number() -> None:
    assert mentions("Are the lungs clear?", "right lung")
    assert mentions("Is this a PANCREAS?", "pancreas")
    assert not mentions("Is it on the right?", "right lung")
    assert not mentions("Is it?", " ")


@pytest.mark.parametrize(
    ("box", "orientation", "sides", "position"),
    [
        ((0, 0, 40, 40), CORONAL, "patient's right", "superior"),
        ((60, 70, 90, 90), CORONAL, "patient's left", "inferior"),
        ((60, 70, 90, 90), ("R", "F"), "patient's right", "inferior"),
        ((30, 0, 80, 100), CORONAL, "midline", "middle part"),
        ((10, 0, 59, 10), CORONAL, "patient's right", "superior"),  # 40 of 49 columns
        ((0, 0, 40, 40), AXIAL, "patient's right", "anterior"),
        ((0, 60, 40, 90), AXIAL, "patient's right", "posterior"),
        ((0, 60, 40, 90), SAGITTAL, "", "inferior anterior"),
        ((0, 60, 40, 90), ("F", "R"), "patient's right", "superior"),  # turned by 90 degrees
        ((0, 60, 40, 90), ("LA", "FP"), "patient's right", "inferior"),
        ((0, 60, 40, 90), None, "left of the picture", "lower part"),
        ((30, 30, 80, 80), None, "middle of the picture", "middle part"),
        ((90, 5, 90, 5), None, "right of the picture", "upper part"),
    ],
)
def test_sides_are_the_patients_only_where_the_orientation_is_known(
    box: tuple[int, ...], orientation: tuple[str, str] | None, sides: str, position: str
) -> None:
    assert side(box, (100, 100), orientation) == sides
    assert relative_position(box, (100, 100), orientation) == position


@pytest.mark.parametrize("name", STYLES)
def test_the_picture_shows_what_the_lines_say(name: str, two_regions: Regions) -> None:
    image = MedicalImage(np.zeros((40, 60, 3), dtype=np.uint8))
    shown = show_regions(image, two_regions, "Why?", STYLES[name])
    without = show_regions(image, None, "Why?", STYLES[name])
    if STYLES[name].picture == "plain":
        assert shown is image
    else:
        assert shown.source_id != image.source_id
    assert without.size == ((60, 60) if STYLES[name].picture == "square" else (40, 60))
    assert without.pixels.max() == 0
