"""The numbers that stand for coordinates: points of a lattice or middles of bins, on a model's canvas.

Every family is one `Grid` and one way of writing its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .placement import Placement


@dataclass(frozen=True)
class Grid:
    """The coordinates that a model may write for one image.

    Attributes:
        placement: Where the image lies on the canvas that the coordinates speak of.
        last: The largest coordinate along (x, y); the smallest is 0.
        bins: True where coordinate k stands for the middle of the k-th of `last` + 1 equal bins, False
            where it stands for the point k / `last` of the canvas.
    """

    placement: Placement
    last: tuple[int, int]
    bins: bool = False

    def write(self, box: ArrayLike) -> tuple[int, int, int, int]:
        """The coordinates x1 y1 x2 y2 nearest to a box (xyxy pixels), clipped to what the canvas shows."""
        source = np.tile(np.array(self.placement.source).reshape(2, 2), 2)
        shown = np.clip(checked(box), *source)
        relative = self.placement.to_canvas(shown) / self._extent
        numbers = np.floor(relative * self._count) if self.bins else np.rint(relative * self._count)
        x1, y1, x2, y2 = np.clip(numbers, 0, np.tile(self.last, 2)).astype(int).tolist()
        return x1, y1, x2, y2

    def read(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """The pixels of the image that coordinates x1 y1 x2 y2 stand for, float64 (4,)."""
        relative = (np.asarray(numbers, dtype=np.float64) + 0.5 * self.bins) / self._count
        return self.placement.to_image(relative * self._extent)

    def why_outside(self, numbers: Sequence[float]) -> str:
        """The reason why coordinates x1 y1 x2 y2 are out of range, "" where they are not."""
        for number, last in zip(numbers, np.tile(self.last, 2).tolist(), strict=True):
            if not 0 <= number <= last:
                shown = f"{number:g}" if isinstance(number, float) else str(number)[:20]
                return f"{shown} is out of range: coordinates run from 0 to {last}"
        return ""

    @property
    def step(self) -> tuple[float, float]:
        """Distance of neighbouring coordinates along (x, y) in pixels of the image."""
        x, y, _, _ = (self._extent / self._count).tolist()
        scale_x, scale_y = self.placement.scale
        return x / scale_x, y / scale_y

    @property
    def _extent(self) -> NDArray[np.float64]:
        """Width and height of the canvas, for x1 y1 x2 y2."""
        height, width = self.placement.canvas_size
        return np.array([width, height, width, height], dtype=np.float64)

    @property
    def _count(self) -> NDArray[np.int64]:
        """How many steps the canvas has, for x1 y1 x2 y2."""
        return np.tile(np.array(self.last, dtype=np.int64), 2) + int(self.bins)


def checked(box: ArrayLike) -> NDArray[np.float64]:
    """A box as float64 (4,).

    Raises:
        ValueError: Not four finite numbers.
    """
    array = np.asarray(box, dtype=np.float64)
    if array.shape != (4,) or not np.isfinite(array).all():
        raise ValueError(f"a box must be 4 finite numbers x1 y1 x2 y2 in pixels, got {box!r}")
    return array
