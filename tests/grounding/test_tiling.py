"""Windows cover the image, boxes survive the way there and back, pieces become one thing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.tiling import EDGE, cut_off, ground_tiled, to_image, windows
from grounding.types import MedicalImage, Regions


def test_windows_by_hand():
    assert windows((50, 40), 60, 10) == [(0, 0, 40, 50)]
    # 100 - 40 = 60 in steps of at most 30: starts 0, 30, 60.
    assert windows((40, 100), 40, 10) == [(0, 0, 40, 40), (30, 0, 70, 40), (60, 0, 100, 40)]
    assert len(windows((100, 100), 40, 10)) == 9
    with pytest.raises(ValueError, match="overlap < side"):
        windows((50, 40), 10, 10)


SIZES = st.tuples(st.integers(20, 300), st.integers(20, 300))


@settings(max_examples=60, deadline=None)
@given(size=SIZES, side=st.integers(20, 120), share=st.floats(0.1, 0.9), data=st.data())
def test_a_box_smaller_than_the_overlap_survives_in_some_window(size, side, share, data):
    overlap = max(5, int(side * share))
    overlap = min(overlap, side - 1)
    height, width = size
    whole = st.integers(0, 10_000)
    w, h = (min(overlap - 2 * EDGE, length) for length in (width, height))
    x = data.draw(whole) / 10_000 * (width - w)
    y = data.draw(whole) / 10_000 * (height - h)
    box = np.array([[x, y, x + w, y + h]], dtype=np.float32)
    found = []
    for window in windows(size, side, overlap):
        x1, y1, x2, y2 = window
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        inside = (box[0, :2] >= (x1, y1)).all() and (box[0, 2:] <= (x2, y2)).all()
        local = box - np.array([x1, y1, x1, y1], dtype=np.float32)
        if inside and not cut_off(local, window, size)[0]:
            regions = Regions(local, np.ones(1), np.zeros(1, dtype=np.int64), ("heart",), (y2 - y1, x2 - x1))
            found.append(to_image(regions, window, size))
    assert found
    for regions in found:
        assert regions.image_size == size
        np.testing.assert_allclose(regions.boxes, box, atol=1e-3)


class BrightGrounder:
    """Finds the box around what is white, as much of it as a picture shows."""

    def __init__(self):
        self.sizes = []

    def ground_batch(self, images, phrases_per_image, *, box_threshold=None):
        self.sizes += [image.size for image in images]
        return [self.one(image, phrases) for image, phrases in zip(images, phrases_per_image, strict=True)]

    @staticmethod
    def one(image, phrases):
        rows, columns = np.nonzero(image.pixels[..., 0] > 128)
        if not len(rows):
            return Regions.empty(image.size, phrases)
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        return Regions(np.array(box), np.array([0.8]), np.array([0]), tuple(phrases), image.size)


def bright(size, box):
    x1, y1, x2, y2 = box
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    pixels[y1:y2, x1:x2] = 255
    return MedicalImage(pixels, modality="SM")


@pytest.mark.parametrize("box", [(5, 5, 12, 9), (28, 3, 38, 13), (0, 0, 100, 40), (55, 10, 80, 30)])
def test_things_of_any_size_come_back_once(box):
    grounder = BrightGrounder()
    regions = ground_tiled(grounder, bright((40, 100), box), ["cell"], side=40, overlap=12)
    assert regions.boxes.tolist() == [list(box)]
    assert (regions.image_size, regions.asked) == ((40, 100), ("cell",))
    assert grounder.sizes == [(40, 100), (40, 40), (40, 40), (40, 40), (40, 40)][: len(grounder.sizes)]


def test_an_image_of_one_window_is_asked_once():
    grounder = BrightGrounder()
    assert len(ground_tiled(grounder, bright((40, 50), (1, 1, 9, 9)), ["cell"])) == 1
    assert grounder.sizes == [(40, 50)]
