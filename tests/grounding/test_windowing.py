import numpy as np
import pytest

from grounding.types import Window
from grounding.windowing import apply_window, percentile_window


def test_exact_window_runs_from_edge_to_edge():
    values = np.array([[-161, -160, 40, 240, 241]])
    assert apply_window(values, Window(40, 400)).tolist() == [[0, 0, 128, 255, 255]]


def test_linear_window_follows_the_standard():
    # PS3.3 C.11.2.1.2.1 with c = 2048, w = 4096: ((x - 2047.5) / 4095 + 0.5) * 255 from 0 to 4095
    values = np.array([[-5, 0, 1024, 4095, 5000]], dtype=np.int16)
    assert apply_window(values, Window(2048, 4096), "LINEAR").tolist() == [[0, 0, 64, 255, 255]]


def test_linear_window_of_full_width_leaves_bytes_as_they_are():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(apply_window(values, Window(128, 256), "LINEAR"), values)


def test_linear_window_of_width_one_does_not_divide_by_zero():
    assert apply_window(np.array([[0.0, 1.0]]), Window(0.5, 1), "LINEAR").tolist() == [[0, 255]]


def test_sigmoid_window_is_half_at_its_centre():
    out = apply_window(np.array([[-1e9, 10.0, 12.0, 1e9]]), Window(10, 8), "SIGMOID")
    assert out.tolist() == [[0, 128, 186, 255]]  # 255 / (1 + e^-1) = 186.4


def test_nan_and_infinity_have_a_place():
    values = np.array([[np.nan, -np.inf, np.inf]], dtype=np.float32)
    assert apply_window(values, Window(0, 1)).tolist() == [[0, 0, 255]]


def test_large_integers_keep_their_steps():
    values = np.array([[2**31, 2**31 + 1, 2**31 + 2]], dtype=np.uint32)
    assert apply_window(values, Window(2**31 + 1, 2)).tolist() == [[0, 128, 255]]


def test_percentiles_ignore_outliers():
    values = np.r_[np.linspace(0, 100, 9998), 1e6, np.nan]
    window = percentile_window(values)
    assert window.center == pytest.approx(50, abs=1)
    assert window.width == pytest.approx(99, abs=1)


def test_percentiles_of_few_bright_pixels_span_all_values():
    values = np.zeros(10_000)
    values[0] = 8
    assert percentile_window(values) == Window(4, 8)


@pytest.mark.parametrize("values", [np.full((4, 4), 7), np.full(3, np.nan), np.zeros((0, 2))])
def test_constant_or_empty_values_still_give_a_window(values):
    assert percentile_window(values).width == 1
