"""Pixels to network input, by hand."""

import numpy as np
import pytest
import torch

from grounding.preprocess import preprocess, resize_square, stretch_contrast, to_tensor


def test_stretch_maps_the_percentiles_to_the_full_range_alike_in_all_channels():
    pixels = np.full((100, 100, 3), 100, dtype=np.uint8)
    pixels[:, 50:] = 150
    pixels[..., 2] = 120
    stretched = stretch_contrast(pixels)
    # 0.5 and 99.5 percent lie at 100 and 150: 100 -> 0, 120 -> 102, 150 -> 255.
    assert stretched[0, 0].tolist() == [0, 0, 102]
    assert stretched[0, 99].tolist() == [255, 255, 102]


def test_stretch_clips_what_lies_outside_the_percentiles():
    pixels = np.full((40, 40, 3), 60, dtype=np.uint8)
    pixels[:, 20:] = 160
    pixels[1, 1], pixels[1, 2] = 0, 255  # not on the grid of every fourth pixel that is measured
    assert stretch_contrast(pixels)[1, 1:3, 0].tolist() == [0, 255]


def test_a_flat_picture_is_left_as_it_is():
    pixels = np.full((32, 32, 3), 100, dtype=np.uint8)
    pixels[:, 16:] = 115
    assert stretch_contrast(pixels) is pixels


def test_resize_squashes_and_keeps_left_and_right():
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[:, :20] = 255
    resized = resize_square(pixels, 8)
    assert resized.shape == (8, 8, 3)
    assert resized[:, :3].min() == 255 and resized[:, 5:].max() == 0


def test_resize_takes_a_crop_in_xyxy_pixels():
    pixels = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    assert (resize_square(pixels, 4, (10.0, 2.0, 14.0, 6.0)) == pixels[2:6, 10:14]).all()


def test_normalisation_by_hand():
    values = to_tensor(np.full((1, 2, 3), 255, dtype=np.uint8))
    assert values.shape == (3, 1, 2) and values.dtype == torch.float32 and values.is_contiguous()
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert values[:, 0, 0].tolist() == pytest.approx(expected)


def test_preprocess_takes_read_only_pixels_and_leaves_them():
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, 15:] = 90
    before = pixels.copy()
    pixels.setflags(write=False)
    result = preprocess(pixels, 16)
    assert result.shape == (3, 16, 16)
    assert result[0, 8, 15].item() == pytest.approx((1 - 0.485) / 0.229)  # stretched to white
    assert (pixels == before).all()
