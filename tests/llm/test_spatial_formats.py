"""Every way of writing boxes is an exact inverse pair up to half a step, for any box in any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.spatial import (
    BoxFormat,
    FlorenceBoxes,
    GemmaBoxes,
    KosmosBoxes,
    LocTokens,
    PaliGemmaBoxes,
    Qwen3Boxes,
    Qwen25Boxes,
    SpatialTextError,
    TextBoxes,
)

FORMATS: dict[str, BoxFormat] = {
    "loc": LocTokens(),
    "loc-1000": LocTokens(1000),
    "text": TextBoxes(),
    "qwen3": Qwen3Boxes(),
    "qwen2.5": Qwen25Boxes(),
    "qwen2.5-large": Qwen25Boxes(4 * 28 * 28, 16384 * 28 * 28, 28),
    "paligemma": PaliGemmaBoxes(),
    "florence": FlorenceBoxes(),
    "kosmos": KosmosBoxes(),
    "gemma": GemmaBoxes(),
    "medgemma": GemmaBoxes(padded=True),
}
SIDES = st.one_of(st.integers(1, 10_000), st.sampled_from([1, 2, 27, 28, 999, 1000, 1001, 10_000]))
SHARE = st.one_of(st.floats(-0.2, 1.2), st.sampled_from([0.0, 0.5, 1.0]))
Case = tuple[np.ndarray, tuple[int, int]]
each_format = pytest.mark.parametrize("name", FORMATS)


@st.composite
def boxes_in_images(draw: st.DrawFn) -> Case:
    """A box, perhaps empty or reaching outside, in an image of any size and aspect."""
    height, width = draw(SIDES), draw(SIDES)
    xs, ys = (sorted((draw(SHARE), draw(SHARE))) for _ in range(2))
    return np.array([xs[0] * width, ys[0] * height, xs[1] * width, ys[1] * height]), (height, width)


def takes(name: str, size: tuple[int, int]) -> bool:
    """Qwen2.5-VL's processor refuses sides of more than 200 to 1."""
    return not name.startswith("qwen2.5") or max(size) <= 200 * min(size)


def thin(text: str) -> bool:
    """Two patches of one row or column of Kosmos-2 stand for their outer edges."""
    if "patch_index" not in text:
        return False
    first, last = (int(n) for n in (text.split("_index_")[1][:4], text.split("_index_")[2][:4]))
    return first % 32 == last % 32 or first // 32 == last // 32


@each_format
@settings(max_examples=50, deadline=None)
@given(case=boxes_in_images())
def test_a_box_comes_back_within_half_a_step(name: str, case: Case) -> None:
    (box, size), boxes = case, FORMATS[name]
    if not takes(name, size):
        with pytest.raises(ValueError, match="200 to 1"):
            boxes.encode(box, size)
        return
    text = boxes.encode(box, size)
    back = boxes.decode(text, size)
    expected = np.clip(box, 0, [size[1], size[0]] * 2)
    bound = np.tile(boxes.step(size), 2) * (1.0 if thin(text) else 0.5)
    assert (np.abs(back - expected) <= bound + 1e-3).all()
    assert boxes.encode(back, size) == text


@each_format
def test_a_step_is_as_small_as_the_convention_says(name: str) -> None:
    steps = {
        "loc": (6, 4),
        "kosmos": (600 / 32, 400 / 32),
        "paligemma": (600 / 1023, 400 / 1023),
        "qwen2.5": (600 / 588, 400 / 392),  # 600 x 400 becomes 588 x 392
        "qwen2.5-large": (600 / 588, 400 / 392),
        "medgemma": (0.6, 0.6),
    }
    assert FORMATS[name].step((400, 600)) == pytest.approx(steps.get(name, (0.6, 0.4)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("loc", "<loc_010><loc_020><loc_050><loc_099>"),
        ("text", "[100, 200, 500, 1000]"),
        ("qwen3", '{"bbox_2d": [100, 200, 500, 1000]}'),
        ("qwen2.5", '{"bbox_2d": [59, 78, 294, 392]}'),
        ("paligemma", "<loc0205><loc0102><loc1023><loc0512>"),
        ("florence", "<loc_100><loc_200><loc_500><loc_999>"),
        ("kosmos", "<object> <patch_index_0195> <patch_index_1007> </object>"),
        ("gemma", '{"box_2d": [200, 100, 1000, 500]}'),
        ("medgemma", '{"box_2d": [300, 100, 833, 500]}'),
    ],
)
def test_a_box_written_by_hand(name: str, text: str) -> None:
    """60 80 300 400 in an image 600 wide and 400 high: 10 to 50 % of the width, 20 to 100 % of the height."""
    assert FORMATS[name].encode((60, 80, 300, 400), (400, 600)) == text


def test_the_tokens_of_nano_are_what_it_was_trained_on() -> None:
    tokens = LocTokens().tokens
    assert (tokens[0], tokens[7], tokens[99], len(tokens)) == ("<loc_000>", "<loc_007>", "<loc_099>", 100)
    assert LocTokens().encode((-5, -5, 200, 200), (100, 200)) == "<loc_000><loc_000><loc_099><loc_099>"


@settings(max_examples=60, deadline=None)
@given(case=boxes_in_images())
def test_nano_writes_the_floor_of_the_relative_box(case: Case) -> None:
    box, (height, width) = case
    bins = np.clip(np.floor(box / np.array([width, height] * 2) * 100), 0, 99).astype(int)
    assert LocTokens().encode(box, (height, width)) == "".join(f"<loc_{k:03d}>" for k in bins)


@each_format
def test_an_answer_comes_back_with_its_labels(name: str) -> None:
    boxes, labels = (
        [(60, 80, 300, 390), (0, 0, 600, 400), (310, 20, 420, 60)],
        ["right lung", "chest", "nodule 2"],
    )
    text = FORMATS[name].encode_answer(boxes, labels, (400, 600))
    parsed = FORMATS[name].parse(text, (400, 600))
    assert [found.label for found in parsed.boxes] == labels
    assert parsed.clean
    bound = np.tile(FORMATS[name].step((400, 600)), 2) / 2
    for found, box in zip(parsed.boxes, boxes, strict=True):
        assert (np.abs(found.box - box) <= bound + 1e-3).all()
    regions = parsed.regions((400, 600))
    assert regions.phrases == tuple(labels)


@each_format
def test_no_box_is_a_clean_answer(name: str) -> None:
    parsed = FORMATS[name].parse(FORMATS[name].encode_answer([], [], (400, 600)), (400, 600))
    assert parsed.clean and not parsed.boxes and len(parsed.regions((400, 600))) == 0


@each_format
def test_a_box_must_be_four_finite_numbers(name: str) -> None:
    for wrong in ((1, 2, 3), (1, 2, 3, np.nan)):
        with pytest.raises(ValueError, match="4 finite"):
            FORMATS[name].encode(wrong, (10, 10))
    with pytest.raises(ValueError):
        FORMATS[name].encode((1, 2, 3, 4), (0, 10))


@each_format
def test_decoding_wants_exactly_one_box(name: str) -> None:
    one = FORMATS[name].encode((60, 80, 300, 390), (400, 600))
    for text in ("", "no box", f"{one} and {one}", one[: len(one) // 2]):
        with pytest.raises(SpatialTextError, match="expected one box"):
            FORMATS[name].decode(text, (400, 600))
