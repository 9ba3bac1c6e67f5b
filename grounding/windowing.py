"""Grey values to 8 bits: windows as DICOM defines them, and a robust window where a file gives none.

Knows arrays and `Window`s only, no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .types import Window

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
"""VOI LUT Function (0028,1056)."""

SOFT_TISSUE = Window(40, 400)
"""Default for CT in Hounsfield units."""

CT_WINDOWS: Mapping[str, Window] = {
    "brain": Window(40, 80),
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
    "bone": Window(400, 1800),
    "soft tissue": SOFT_TISSUE,
}
"""Customary windows for CT in Hounsfield units (Radiopaedia, "Windowing (CT)")."""

# body region, or what of it the pictures are made to show -> window
_WINDOW_OF_REGION: Mapping[str, str] = {
    "head and neck": "brain",
    "brain": "brain",
    "thorax": "mediastinum",
    "lung": "lung",
    "limbs": "bone",
    "bone": "bone",
}

_SAMPLE = 1 << 20  # a percentile of this many pixels is as good as one of all


def apply_window(
    values: npt.NDArray[Any], window: Window, function: WindowFunction = "LINEAR_EXACT"
) -> npt.NDArray[np.uint8]:
    """Map grey values to 0..255 through a window (DICOM PS3.3 C.11.2.1.2.1 and C.11.2.1.3).

    Args:
        values: (H, W) numbers in rescaled units; NaN becomes 0.
        window: centre and full width in the same units.
        function: "LINEAR" runs from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2, as
            DICOM's default for integers (a width of at most 1 falls back to "LINEAR_EXACT", since it would
            divide by zero); "LINEAR_EXACT" runs from centre - width / 2 to centre + width / 2; "SIGMOID"
            never clips.

    Returns:
        uint8 (H, W).
    """
    fits_float32 = values.dtype.itemsize <= 2 or values.dtype == np.float32
    grey: npt.NDArray[Any] = values.astype(np.float32 if fits_float32 else np.float64)
    center, width = window.center, window.width
    if function == "LINEAR" and width > 1:
        center, width = center - 0.5, width - 1
    grey = (grey - center) / width
    if function == "SIGMOID":
        grey = 1 / (1 + np.exp(np.clip(-4 * grey, -80, 80)))
    else:
        grey = grey + 0.5
    grey = np.nan_to_num(grey * 255, nan=0.0)
    eight_bits: npt.NDArray[np.uint8] = np.rint(np.clip(grey, 0, 255)).astype(np.uint8)
    return eight_bits


def ct_window(body_region: str | None) -> Window:
    """The customary CT window for a body region of the label tree, or for "lung", "brain" or "bone"."""
    return CT_WINDOWS[_WINDOW_OF_REGION.get((body_region or "").lower(), "soft tissue")]


def percentile_window(values: npt.NDArray[Any], low: float = 0.5, high: float = 99.5) -> Window:
    """The window between two percentiles of the finite values: a few outliers do not darken the picture.

    Args:
        values: numbers of any shape; large arrays are sampled evenly.
        low: lower percentile, in percent.
        high: upper percentile, in percent.

    Returns:
        The window; where the percentiles agree it spans all values, and a constant picture gets a width of 1.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return Window(0.5, 1)
    bottom, top = (float(value) for value in np.percentile(flat, (low, high)))
    if top <= bottom:
        bottom, top = float(flat.min()), float(flat.max())
    if top <= bottom:
        return Window(bottom, 1)
    return Window((bottom + top) / 2, top - bottom)
