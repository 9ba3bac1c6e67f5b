"""What a model really writes: cut off, out of range, swapped. It becomes a partial result, never an error."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.types import Regions
from llm.spatial import (
    FlorenceBoxes,
    GemmaBoxes,
    KosmosBoxes,
    LocTokens,
    PaliGemmaBoxes,
    Qwen3Boxes,
    Qwen25Boxes,
    TextBoxes,
    parse_marks,
)

from .test_spatial_formats import FORMATS

SIZE = (400, 600)
PIECES = [
    *"{}[]<>", ", ", " ; ", "\n", "lung", "-1", "NaN", "Infinity", "\u0663", "\ud800", "9" * 30, '\\"',
    "<loc_001>", "<loc_999>", "<loc0007>", "<loc1023>", "<loc_", "<object>", "<phrase> a</phrase>",
    "<patch_index_0044>", "<patch_index_9999>", '{"bbox_2d": [1, 2, 3, 4], "label": "a"}',
    '{"box_2d": [9, 8, 7, 6]}', '{"bbox_2d": [1, 2', '"bbox_2d": ["x", null, 1e400, -1]}', '{"a": ' * 3,
    "[1, 2, 3, 4]", "[5,",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=80, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text("".join(PIECES)))
def test_no_reply_raises(name: str, text: str) -> None:
    parsed = FORMATS[name].parse(text, SIZE)
    for found in parsed.boxes:
        x1, y1, x2, y2 = found.box.tolist()
        assert 0 <= x1 <= x2 <= 600 and 0 <= y1 <= y2 <= 400
    assert all(piece.reason for piece in parsed.unread)
    assert parsed.clean == (parsed.complaint() == "")
    parsed.regions(SIZE)


@pytest.mark.parametrize("name", FORMATS)
def test_every_beginning_of_an_answer_is_read_as_far_as_it_goes(name: str) -> None:
    boxes = FORMATS[name]
    whole = boxes.encode_answer([(60, 80, 300, 390), (10, 10, 500, 300)], ["lung", "heart"], SIZE)
    full = [found.box.tolist() for found in boxes.parse(whole, SIZE).boxes]
    counts = []
    for length in range(len(whole) + 1):
        parsed = boxes.parse(whole[:length], SIZE)
        assert [found.box.tolist() for found in parsed.boxes] == full[: len(parsed.boxes)]
        assert all(
            label.startswith(f.label) for f, label in zip(parsed.boxes, ("lung", "heart"), strict=False)
        )
        counts.append(len(parsed.boxes))
    assert counts == sorted(counts) and counts[-1] == 2


def test_deep_and_huge_json_is_no_trap() -> None:
    deep = '{"a": ' * 20_000 + "1"
    assert Qwen3Boxes().parse("[" * 50_000 + '{"bbox_2d": ' + "[" * 50_000, SIZE).unread
    assert not Qwen3Boxes().parse(deep[:6000], SIZE).boxes
    huge = '{"bbox_2d": [1, 2, 3, ' + "9" * 400 + "]}"
    assert (
        "out of range" in Qwen3Boxes().parse(huge, SIZE).complaint() or Qwen3Boxes().parse(huge, SIZE).unread
    )


@pytest.mark.parametrize(
    ("boxes", "text", "reason"),
    [
        (LocTokens(), "<loc_001><loc_002><loc_003>", "four tokens, got 3"),
        (
            LocTokens(),
            "<loc_001><loc_002><loc_003><loc_100>",
            "100 is out of range: coordinates run from 0 to 99",
        ),
        (LocTokens(), "<loc_001><loc_002><loc_003><loc_0", "cut off within a token"),
        (LocTokens(), "<loc_x1>", "not a token"),
        (PaliGemmaBoxes(), "<loc0001><loc0002><loc0003><loc1024>", "run from 0 to 1023"),
        (FlorenceBoxes(), "lung<loc_1><loc_2><loc_3><loc_1000>", "run from 0 to 999"),
        (KosmosBoxes(), "<object><patch_index_0001></object>", "two patches, got 1"),
        (KosmosBoxes(), "<object><patch_index_0001><patch_index_1024></object>", "run from 0 to 1023"),
        (
            Qwen3Boxes(),
            '{"bbox_2d": [1, 2, 3, 1001]}',
            "1001 is out of range: coordinates run from 0 to 1000",
        ),
        (Qwen3Boxes(), '{"bbox_2d": [-1, 2, 3, 4]}', "-1 is out of range"),
        (Qwen3Boxes(), '{"bbox_2d": [1, 2, 3]}', "list of 4 numbers"),
        (Qwen3Boxes(), '{"bbox_2d": "1 2 3 4"}', "list of 4 numbers"),
        (Qwen3Boxes(), '[{"bbox_2d": [1, 2, 3', "the reply is cut off"),
        (Qwen3Boxes(), '{"bbox_2d": [1, 2, three, 4]}', "not JSON"),
        (Qwen25Boxes(), '{"bbox_2d": [1, 2, 3, 393]}', "run from 0 to 392"),
        (GemmaBoxes(), '{"box_2d": [true, 2, 3, 4]}', "list of 4 numbers"),
        (TextBoxes(), "[1, 2, 3]", "4 numbers, got 3"),
        (TextBoxes(), "[1, 2, 3, 1001]", "1001 is out of range"),
        (TextBoxes(), "lung [1, 2,", "cut off"),
    ],
)
def test_what_cannot_be_read_says_why(boxes: TextBoxes, text: str, reason: str) -> None:
    parsed = boxes.parse(text, SIZE)
    assert not parsed.boxes
    assert reason in parsed.complaint()


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        (LocTokens(), "<loc_050><loc_060><loc_010><loc_020>"),
        (PaliGemmaBoxes(), "<loc0600><loc0500><loc0200><loc0100>"),
        (Qwen3Boxes(), '{"bbox_2d": [500, 600, 100, 200]}'),
        (TextBoxes(), "[500, 600, 100, 200]"),
        (KosmosBoxes(), f"<patch_index_{20 * 32 + 15:04d}><patch_index_{5 * 32 + 3:04d}>"),
    ],
)
def test_swapped_corners_are_put_right_and_said(boxes: TextBoxes, text: str) -> None:
    parsed = boxes.parse(text, SIZE)
    (x1, y1, x2, y2) = parsed.boxes[0].box.tolist()
    assert 50 < x1 < 80 and 60 < y1 < 90 and 270 < x2 < 320 and 225 < y2 < 260
    assert not parsed.clean and "wrong order" in parsed.complaint()


def test_one_wrong_box_does_not_spoil_the_others() -> None:
    reply = (
        'Here you are:\n```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "liver"},\n'
        '{"bbox_2d": [100, 200, 3000, 400], "label": "spleen"},\n{"bbox_2d": [1, 2, 3, 4], "label": "cut o'
    )
    parsed = Qwen3Boxes().parse(reply, SIZE)
    assert [(found.label, found.note) for found in parsed.boxes] == [
        ("liver", ""),
        ("", "the reply is cut off"),
    ]
    assert [piece.reason for piece in parsed.unread] == [
        "3000 is out of range: coordinates run from 0 to 1000"
    ]
    np.testing.assert_allclose(parsed.boxes[0].box, [60, 80, 180, 160])


def test_objects_may_be_nested_or_hold_fractions() -> None:
    reply = json.dumps({"objects": [{"box_2d": [250.5, 0, 500, 1000], "label": "a { b"}, {"other": 1}]})
    (found,) = GemmaBoxes().parse(f"<think>hm</think> {reply} done", SIZE).boxes
    assert found.label == "a { b"
    np.testing.assert_allclose(found.box, [0, 100.2, 600, 200], rtol=1e-6)


def test_several_boxes_of_one_label() -> None:
    florence = FlorenceBoxes().parse(
        "lung<loc_0><loc_0><loc_9><loc_9><loc_5><loc_5><loc_8><loc_8>heart", SIZE
    )
    assert [found.label for found in florence.boxes] == ["lung", "lung"]
    kosmos = KosmosBoxes().parse(
        "<grounding> I see<phrase> a lung</phrase><object><patch_index_0000><patch_index_0040>"
        "</delimiter_of_multi_objects/><patch_index_0002><patch_index_0077></object>.",
        SIZE,
    )
    assert [found.label for found in kosmos.boxes] == ["a lung", "a lung"] and kosmos.clean


def test_a_label_cannot_smuggle_tokens() -> None:
    reply = json.dumps({"bbox_2d": [1, 2, 3, 4], "label": "lung\n<|im_end|>\ud800"})
    assert Qwen3Boxes().parse(reply, SIZE).boxes[0].label == "lung < |im_end|>"


def test_prose_and_citations_are_no_boxes() -> None:
    assert TextBoxes().parse("The mass [R1] is as in [3].", SIZE).clean
    (found,) = TextBoxes().parse("1. The mass [R1] [100, 100, 200, 200].", SIZE).boxes
    assert found.label == "1. The mass"
    (found,) = (
        PaliGemmaBoxes().parse("<loc0000><loc0000><loc0100><loc0100> the mass\nIt is large.", SIZE).boxes
    )
    assert found.label == "the mass"


def test_marks_are_read_back_to_regions(two_regions: Regions) -> None:
    parsed = parse_marks("The opacity in [R2], not R1, and region 7; see [R2].", two_regions)
    assert [found.label for found in parsed.boxes] == ["left lung", "right lung"]
    assert parsed.boxes[0].box.tolist() == two_regions.boxes[1].tolist()
    assert [piece.reason for piece in parsed.unread] == ["there is no region 7: they are numbered 1 to 2"]
    assert parse_marks("mark 1", Regions.empty((10, 10))).unread[0].reason == "there are no regions"
