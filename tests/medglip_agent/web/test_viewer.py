"""Boxes stand where they belong, hidden ones are hidden, and text from outside stays text."""

import re

import numpy as np

from grounding.types import MedicalImage, Regions
from medglip_agent.web.viewer import picture_html, place_tags, regions_html

IMAGE = MedicalImage(np.zeros((100, 200, 3), dtype=np.uint8))


def regions(boxes: list[list[float]], scores: list[float], asked: tuple[str, ...] = ("liver",)) -> Regions:
    index = [i % len(asked) for i in range(len(boxes))]
    return Regions(np.array(boxes), np.array(scores), np.array(index), asked, IMAGE.size)


def test_box_is_placed_in_percent_of_the_picture() -> None:
    html = picture_html(IMAGE, regions([[20, 10, 120, 60]], [0.9]))
    assert "left:10.000%;top:10.000%;width:50.000%;height:50.000%" in html
    assert "R1 liver 0.90" in html
    assert "--ratio:2.00000" in html


def test_box_past_the_edge_is_clipped() -> None:
    html = picture_html(IMAGE, regions([[-20, 50, 400, 160]], [0.9]))
    assert "left:0.000%;top:50.000%;width:100.000%;height:50.000%" in html


def test_boxes_below_the_score_are_hidden_but_kept() -> None:
    found = regions([[0, 0, 50, 50], [50, 0, 90, 50]], [0.9, 0.2])
    html = picture_html(IMAGE, found, min_score=0.5)
    boxes = re.findall(r'<div class="mg-box[^>]*>', html)
    assert [" hidden" in box for box in boxes] == ['data-score="0.2000"' in box for box in boxes]
    assert len(boxes) == 2
    rows = regions_html(found, min_score=0.5)
    assert "<b data-shown>1</b> of 2" in rows
    assert rows.count(" hidden") == 1


def test_smaller_boxes_lie_above_larger_ones() -> None:
    html = picture_html(IMAGE, regions([[40, 40, 60, 60], [0, 0, 200, 100]], [0.9, 0.8]))
    assert html.index('data-region="2"') < html.index('data-region="1"')


def test_cited_boxes_are_marked() -> None:
    found = regions([[0, 0, 50, 50], [50, 0, 90, 50]], [0.9, 0.8])
    assert picture_html(IMAGE, found, cited=[1]).count("mg-cited") == 1
    assert regions_html(found, cited=[1]).count("mg-cited") == 1


def test_labels_are_text_not_markup() -> None:
    found = regions([[0, 0, 50, 50]], [0.9], asked=("<img src=x onerror=alert(1)>",))
    for html in (picture_html(IMAGE, found), regions_html(found)):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_tags_do_not_overlap_and_stay_inside() -> None:
    found = regions([[10 + i, 10 + i, 100 + i, 60 + i] for i in range(12)], [0.9] * 12)
    tags = list(place_tags(IMAGE, found).values())
    assert len(tags) >= 4
    for i, (ax1, ay1, ax2, ay2) in enumerate(tags):
        assert 0 <= ax1 and ax2 <= 100 and 0 <= ay1 and ay2 <= 50  # 100 px high of 200 px wide
        for bx1, by1, bx2, by2 in tags[i + 1 :]:
            assert ax2 <= bx1 or bx2 <= ax1 or ay2 <= by1 or by2 <= ay1


def test_nothing_found_is_said_with_what_was_looked_for() -> None:
    html = regions_html(Regions.empty(IMAGE.size, ("liver", "spleen")))
    assert "No region was found" in html
    assert "liver, spleen" in html


def test_no_image_is_an_invitation() -> None:
    assert "No image yet" in picture_html(None)


def test_few_missing_phrases_are_named_and_many_folded_away() -> None:
    few = regions([[0, 0, 50, 50]], [0.9], asked=("liver", "spleen"))
    assert "not found: spleen" in regions_html(few)
    many = regions([[0, 0, 50, 50]], [0.9], asked=("liver", *(f"organ {i}" for i in range(5))))
    assert "<summary>5 looked for and not found</summary>organ 0, organ 1" in regions_html(many)
