import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grounding import boxes as bx

BOX = np.array([[10.0, 20.0, 30.0, 60.0]])
SIZE = (100, 200)


def kinds():
    torch = pytest.importorskip("torch")
    return (np.asarray, torch.as_tensor)


@pytest.mark.parametrize("backend", [0, 1], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("convert", "expected"),
    [
        (bx.xyxy_to_cxcywh, [[20, 40, 20, 40]]),
        (bx.xyxy_to_xywh, [[10, 20, 20, 40]]),
        (lambda b: bx.normalize_boxes(b, SIZE), [[0.1, 0.4, 0.1, 0.4]]),
        (lambda b: bx.clip_boxes(b, (50, 25)), [[10, 20, 25, 50]]),
        (bx.box_area, [800]),
    ],
    ids=["cxcywh", "xywh", "normalized", "clipped", "area"],
)
def test_formats_by_hand(backend, convert, expected):
    array = kinds()[backend](BOX)
    converted = convert(array)
    assert type(converted) is type(array)
    assert np.allclose(converted, expected)


@pytest.mark.parametrize("backend", [0, 1], ids=["numpy", "torch"])
def test_overlaps_by_hand(backend):
    kind = kinds()[backend]
    first = kind(np.array([[0, 0, 2, 2], [0, 0, 1, 1]], dtype=np.float32))
    second = kind(np.array([[1, 1, 3, 3], [0, 0, 2, 2], [4, 0, 5, 1]], dtype=np.float32))
    assert np.allclose(bx.box_iou(first, second), [[1 / 7, 1, 0], [0, 1 / 4, 0]])
    expected = [[1 / 7 - 2 / 9, 1, -5 / 10], [-4 / 9, 1 / 4, -3 / 5]]
    assert np.allclose(bx.generalized_box_iou(first, second), expected)


@pytest.mark.parametrize("overlap", [bx.box_iou, bx.generalized_box_iou])
def test_overlaps_of_boxes_without_area_or_without_boxes(overlap):
    point = np.zeros((1, 4), dtype=np.float32)
    assert overlap(point, point).tolist() == [[0]]
    assert overlap(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_overlaps_of_integers_and_half_precision_do_not_overflow():
    torch = pytest.importorskip("torch")
    large = np.array([[0, 0, 2000, 2000]])
    for array in (large, large.astype(np.float16), torch.as_tensor(large).half(), torch.as_tensor(large)):
        iou = bx.box_iou(array, array)
        assert float(iou[0, 0]) == 1
        assert "float32" in str(iou.dtype)


def test_overlap_has_gradients():
    torch = pytest.importorskip("torch")
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], requires_grad=True)
    bx.generalized_box_iou(box, torch.tensor([[2.0, 0.0, 3.0, 1.0]])).sum().backward()
    assert torch.isfinite(box.grad).all()
    assert box.grad[0, 2] > 0  # growing to the right brings them together


@pytest.mark.parametrize("shape", [(3,), (2, 5), ()])
def test_wrong_last_dimension_is_named(shape):
    with pytest.raises(ValueError, match=r"boxes must be \(\.\.\., 4\), got"):
        bx.xyxy_to_cxcywh(np.zeros(shape))


def test_wrong_types_and_sizes_are_named():
    with pytest.raises(TypeError, match=r"numpy array or a torch tensor, got list"):
        bx.box_area([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"\(height, width\), both > 0"):
        bx.normalize_boxes(BOX, (0, 5))
    with pytest.raises(ValueError, match=r"\(N, 4\) and \(M, 4\)"):
        bx.box_iou(BOX, BOX[0])


def test_numpy_boxes_load_no_torch():
    code = (
        "import sys, numpy as np; from grounding.boxes import box_iou;"
        "box_iou(np.eye(4), np.eye(4)); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@st.composite
def boxes_inside(draw):
    height, width = size = draw(SIZES)
    fractions = np.sort(draw(arrays(np.float64, (3, 2, 2), elements=st.floats(0, 1))), axis=1)
    return (fractions * [width, height]).reshape(3, 4), size


@given(boxes_inside())
def test_normalizing_round_trips_and_stays_in_the_unit_square(case):
    boxes, size = case
    fractions = bx.normalize_boxes(boxes, size)
    assert fractions.min() >= 0
    assert fractions.max() <= 1
    assert np.allclose(bx.denormalize_boxes(fractions, size), boxes, atol=1e-9)
    assert np.array_equal(bx.clip_boxes(boxes, size), boxes)


@given(boxes_inside())
def test_float32_round_trip_is_within_a_thousandth_of_a_pixel(case):
    boxes, size = case
    single = boxes.astype(np.float32)
    back = bx.denormalize_boxes(bx.normalize_boxes(single, size), size)
    assert back.dtype == np.float32
    assert np.abs(back - single).max() <= max(size) * 1e-6 + 1e-6


@given(boxes_inside())
def test_formats_round_trip(case):
    boxes, _ = case
    assert np.allclose(bx.cxcywh_to_xyxy(bx.xyxy_to_cxcywh(boxes)), boxes, atol=1e-9)
    assert np.allclose(bx.xywh_to_xyxy(bx.xyxy_to_xywh(boxes)), boxes, atol=1e-9)


@given(boxes_inside())
def test_overlaps_are_bounded_and_symmetric(case):
    boxes, _ = case
    iou, giou = bx.box_iou(boxes, boxes), bx.generalized_box_iou(boxes, boxes)
    assert np.allclose(iou, iou.T)
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()
    assert ((giou >= -1 - 1e-9) & (giou <= iou + 1e-9)).all()
