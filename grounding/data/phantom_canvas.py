"""The canvas that phantoms are drawn on: shapes as masks, paint, noise, and the list of what was named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from ..types import Regions

SIZE: Final = 512
"""Height and width of every phantom, in pixels."""

Mask = NDArray[np.bool_]
Field = NDArray[np.float64]
Colour = float | tuple[float, float, float]
Point = tuple[float, float]
QA = tuple[str, str, tuple[str, ...]]
"""Question, answer, and the phrases of the regions that support it."""


class Scene:
    """A canvas, float RGB (H, W, 3) in [0, 1], and the masks of what was drawn and named."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Start black."""
        self.rng = rng
        self.pixels = np.zeros((SIZE, SIZE, 3))
        self.named: list[tuple[str, Mask]] = []
        self.y, self.x = np.mgrid[:SIZE, :SIZE] / SIZE

    def shape(self, points: Sequence[Point], jitter: float = 0.0) -> Mask:
        """Return the inside of a smooth closed curve through (x, y) points in [0, 1]."""
        knots = np.asarray([*points, points[0]]) + 0.0
        knots[:-1] += self.rng.normal(0.0, jitter, (len(points), 2))
        knots[-1] = knots[0]
        curve = CubicSpline(np.arange(len(knots)), knots, bc_type="periodic")(
            np.linspace(0, len(points), 40 * len(points))
        )
        canvas = Image.new("L", (SIZE, SIZE))
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in curve * SIZE], fill=1)
        return np.asarray(canvas, dtype=bool)

    def oval(self, x: float, y: float, rx: float, ry: float, tilt: float = 0.0, jitter: float = 0.0) -> Mask:
        """Return an ellipse; centre and radii as fractions of the side, `tilt` in radians."""
        angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        u, v = rx * np.cos(angles), ry * np.sin(angles)
        cos, sin = np.cos(tilt), np.sin(tilt)
        return self.shape(list(zip(x + u * cos - v * sin, y + u * sin + v * cos, strict=True)), jitter)

    def stroke(self, points: Sequence[Point], width: float) -> Mask:
        """Return a line through (x, y) points, `width` a fraction of the side."""
        canvas = Image.new("L", (SIZE, SIZE))
        line = [(x * SIZE, y * SIZE) for x, y in points]
        ImageDraw.Draw(canvas).line(line, fill=1, width=max(1, round(width * SIZE)), joint="curve")
        return np.asarray(canvas, dtype=bool)

    def noise(self, sigma: float) -> Field:
        """Return smooth noise (H, W) of standard deviation 1; `sigma` is the grain in pixels."""
        # in the frequency domain, where every grain costs the same
        rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
        keep = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
        field = np.fft.irfft2(np.fft.rfft2(self.rng.normal(size=(SIZE, SIZE))) * keep, s=(SIZE, SIZE))
        return np.asarray((field - field.mean()) / field.std())

    def paint(self, where: Mask, colour: Colour, soft: float = 1.0, opacity: float = 1.0) -> None:
        """Lay `colour` over `where`, its edge blurred by `soft` pixels."""
        if not where.any():
            return
        x1, y1, x2, y2 = (int(edge) for edge in tight_box(where))
        margin = round(4 * soft) + 1
        part = np.s_[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin]
        alpha = gaussian_filter(where[part].astype(float), soft)[..., None] * opacity
        self.pixels[part] += alpha * (np.asarray(colour) - self.pixels[part])

    def shade(self, change: Field, where: Mask | None = None) -> None:
        """Add `change` (H, W) to all channels, inside `where` only if given."""
        inside = 1.0 if where is None else gaussian_filter(where.astype(float), 1.0)
        self.pixels += (change * inside)[..., None]

    def name(self, phrase: str, mask: Mask) -> None:
        """Record what was drawn under its phrase."""
        self.named.append((phrase, mask))

    def regions(self) -> Regions:
        """Return the named masks as regions with the tightest boxes around them."""
        asked = tuple(dict.fromkeys(phrase for phrase, _ in self.named))
        if not self.named:
            return Regions.empty((SIZE, SIZE))
        masks = np.stack([mask for _, mask in self.named])
        return Regions(
            boxes=np.stack([tight_box(mask) for mask in masks]),
            scores=np.ones(len(masks), dtype=np.float32),
            phrase_index=np.array([asked.index(phrase) for phrase, _ in self.named], dtype=np.int64),
            asked=asked,
            image_size=(SIZE, SIZE),
            masks=masks,
        )


def tight_box(mask: Mask) -> NDArray[np.float32]:
    """Return the smallest box (xyxy pixels, far edges exclusive) around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def mirror(points: Sequence[Point]) -> list[Point]:
    """Reflect points left to right."""
    return [(1.0 - x, y) for x, y in points]
