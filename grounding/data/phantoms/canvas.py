"""The canvas that phantoms are drawn on: shapes as masks, paint, noise, and the list of what was named.

Coordinates are (x, y) fractions of the picture's side, y downwards, in the *body's* frame; `pose` turns the
body a little in the picture. Lengths in pixels are those of a picture of 512; they scale with the size.
Knows no anatomy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from ...types import Regions

SIZE: Final = 512
"""Height and width of a phantom unless told otherwise, in pixels."""

Mask = NDArray[np.bool_]
Field = NDArray[np.floating[Any]]
"""Numbers a pixel, (H, W); float32 wherever speed matters."""
Colour = float | tuple[float, float, float]
Point = tuple[float, float]
Line = tuple[Sequence[Point], float]
"""Points and a width."""
_Draw = Callable[[ImageDraw.ImageDraw, NDArray[np.int64]], None]


class Scene:
    """A canvas, float32 (H, W, channels) in about [0, 1], and the masks of what was drawn and named."""

    def __init__(self, rng: np.random.Generator, size: int = SIZE, channels: int = 3) -> None:
        """Start black, the body straight."""
        self.rng, self.size, self.scale = rng, size, size / SIZE
        self.pixels: Field = np.zeros((size, size, channels), dtype=np.float32)
        self.named: list[tuple[str, Mask]] = []
        self.v, self.u = _grid(size)  # of the picture
        self.pose()

    def pose(self, turn: float = 0.0, stretch: Point = (1.0, 1.0), shift: Point = (0.0, 0.0)) -> None:
        """Set how the body lies: `turn` in radians about the centre, sizes across and down, and a shift."""
        cos, sin = np.cos(turn), np.sin(turn)
        self._matrix = np.array([[cos * stretch[0], -sin * stretch[1]], [sin * stretch[0], cos * stretch[1]]])
        self._offset = np.array(shift) + 0.5
        self._inverse = np.linalg.inv(self._matrix)
        self._at: dict[int, Field] = {}

    @property
    def x(self) -> Field:
        """Each pixel's place across the body, (H, W)."""
        return self._body(0)

    @property
    def y(self) -> Field:
        """Each pixel's place down the body, (H, W)."""
        return self._body(1)

    def _body(self, axis: int) -> Field:
        if axis not in self._at:
            across, down = self._inverse[axis]
            start = 0.5 - float(self._inverse[axis] @ self._offset)
            self._at[axis] = self.u * np.float32(across) + (self.v * np.float32(down) + np.float32(start))
        return self._at[axis]

    def shape(self, points: Sequence[Point], jitter: float = 0.0) -> Mask:
        """Return the inside of a smooth closed curve through (x, y) points."""
        knots = np.asarray(points, dtype=float)
        if jitter:
            knots = knots + self.rng.normal(0.0, jitter, knots.shape)
        curve = _closed_spline(len(knots)) @ self._to_picture(knots)
        return self._fill(
            curve, 1, lambda pen, corner: pen.polygon((curve - corner).ravel().tolist(), fill=1)
        )

    def oval(self, x: float, y: float, rx: float, ry: float, tilt: float = 0.0, jitter: float = 0.0) -> Mask:
        """Return an ellipse; centre and radii as fractions of the side, `tilt` in radians."""
        angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        across, down = rx * np.cos(angles), ry * np.sin(angles)
        cos, sin = np.cos(tilt), np.sin(tilt)
        points = zip(x + across * cos - down * sin, y + across * sin + down * cos, strict=True)
        return self.shape(list(points), jitter)

    def stroke(self, points: Sequence[Point], width: float) -> Mask:
        """Return a line through (x, y) points, `width` a fraction of the side."""
        return self.strokes([(points, width)])

    def strokes(self, lines: Sequence[Line]) -> Mask:
        """Return lines, each (points, width), as one mask."""
        drawn = [
            (self._to_picture(np.asarray(points, dtype=float)), max(1, round(width * self.size)))
            for points, width in lines
        ]
        if not drawn:
            return np.zeros((self.size, self.size), dtype=np.bool_)

        def draw(pen: ImageDraw.ImageDraw, corner: NDArray[np.int64]) -> None:
            for line, width in drawn:
                joint = "curve" if width > 3 else None  # gaps in thin lines do not show
                pen.line((line - corner).ravel().tolist(), fill=1, width=width, joint=joint)

        return self._fill(np.concatenate([line for line, _ in drawn]), max(width for _, width in drawn), draw)

    def _fill(self, points: NDArray[np.float64], margin: int, draw: _Draw) -> Mask:
        """Draw around `points` (n, 2), in pixels, on a canvas no larger than it needs."""
        mask = np.zeros((self.size, self.size), dtype=np.bool_)
        x1, y1 = np.maximum(np.floor(points.min(axis=0)).astype(int) - margin, 0)
        x2, y2 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + margin + 1, self.size)
        if x1 < x2 and y1 < y2:
            canvas = Image.new("L", (int(x2 - x1), int(y2 - y1)))
            draw(ImageDraw.Draw(canvas), np.array([x1, y1]))
            mask[y1:y2, x1:x2] = np.asarray(canvas)
        return mask

    def _to_picture(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Body coordinates (n, 2) to pixels."""
        placed: NDArray[np.float64] = ((points - 0.5) @ self._matrix.T + self._offset) * self.size
        return placed

    def place(self, inside: Mask, radius: float, tries: int = 40) -> Point | None:
        """Return a point around which a disc lies in `inside`, or None where none was found."""
        if not inside.any():
            return None
        x1, y1, x2, y2 = tight_box(inside)
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * self.size
        for _ in range(tries):
            centre = self.rng.uniform((x1, y1), (x2, y2))
            columns, rows = np.round(np.vstack([ring, ring / 2, [[0, 0]]]) + centre).astype(int).T
            if min(columns.min(), rows.min()) < 0 or max(columns.max(), rows.max()) >= self.size:
                continue
            if inside[rows, columns].all():
                x, y = self._inverse @ (centre / self.size - self._offset) + 0.5
                return float(x), float(y)
        return None

    def noise(self, grain: float, grain_down: float | None = None) -> Field:
        """Return smooth noise (H, W) of standard deviation 1; `grain` in pixels, across and down."""
        sigmas = [max(0.0, (value or grain) * self.scale) for value in (grain_down, grain)]
        steps = [max(1.0, 0.8 * sigma) for sigma in sigmas]  # coarse grains are drawn small and enlarged
        shape = [min(self.size, int(np.ceil(self.size / step)) + 4) for step in steps]
        field = self.rng.standard_normal(shape, dtype=np.float32)
        blur = [sigma / step if sigma > 0.5 else 0.0 for sigma, step in zip(sigmas, steps, strict=True)]
        field = gaussian_filter(field, blur, truncate=2.5, mode="wrap")
        field -= field.mean()
        field *= np.float32(1 / np.sqrt(np.vdot(field, field) / field.size))
        if shape != [self.size, self.size]:
            rows, columns = (self.size / step for step in steps)
            large = Image.fromarray(field).resize(
                (self.size, self.size),
                Image.Resampling.BICUBIC,
                box=(0, 0, min(columns, shape[1]), min(rows, shape[0])),
            )
            field = np.array(large)
        return field

    def soften(self, where: Mask, soft: float) -> Field:
        """Return `where` as numbers in [0, 1] (H, W), its edge blurred by `soft` pixels."""
        picture = Image.fromarray(where.view(np.uint8) * np.uint8(255))
        radius = soft * self.scale
        wide = ImageFilter.GaussianBlur(radius)  # for a thin edge a third of the work will do
        blurred = picture.filter(wide if radius > 3 else ImageFilter.BoxBlur(1.3 * radius))
        return np.asarray(blurred, dtype=np.float32) * np.float32(1 / 255)

    def _soft_part(self, where: Mask, soft: float) -> tuple[tuple[slice, slice], Field] | None:
        """The part of the canvas that softened `where` reaches, and its numbers there."""
        if not where.any():
            return None
        x1, y1, x2, y2 = (int(edge) for edge in tight_box(where))
        margin = round(3 * soft * self.scale) + 1
        part = np.s_[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin]
        return part, self.soften(np.ascontiguousarray(where[part]), soft)

    def paint(self, where: Mask, colour: Colour, soft: float = 1.0, opacity: float = 1.0) -> None:
        """Lay `colour` over `where`, its edge blurred by `soft` pixels."""
        if (found := self._soft_part(where, soft)) is not None:
            part, alpha = found
            alpha *= np.float32(opacity)
            self.pixels[part] += alpha[..., None] * (np.asarray(colour, np.float32) - self.pixels[part])

    def add(self, where: Mask, amount: Colour, soft: float = 1.0) -> None:
        """Add `amount` over `where`, as what an X-ray passes through adds up."""
        if (found := self._soft_part(where, soft)) is not None:
            part, alpha = found
            self.pixels[part] += alpha[..., None] * np.asarray(amount, np.float32)

    def shade(self, change: Field, where: Mask | None = None, soft: float = 1.0) -> None:
        """Add `change` (H, W) to all channels, inside `where` only if given."""
        change = np.asarray(change, dtype=np.float32)
        if where is None:
            self.pixels += change[..., None]
        elif (found := self._soft_part(where, soft)) is not None:
            part, inside = found
            self.pixels[part] += (change[part] * inside)[..., None]

    def name(self, phrase: str, mask: Mask) -> None:
        """Record what was drawn under its phrase; a speck left of something hidden is nothing."""
        if mask.sum() >= max(1.0, 4 * self.scale**2):
            self.named.append((phrase, mask))

    def regions(self, asked: Sequence[str]) -> Regions:
        """Return the named masks as regions with the tightest boxes around them.

        Args:
            asked: all phrases that could have been named; those that were not are the regions' `missing`.
        """
        size = (self.size, self.size)
        if not self.named:
            return Regions.empty(size, asked)
        masks = np.stack([mask for _, mask in self.named])
        return Regions(
            boxes=np.stack([tight_box(mask) for mask in masks]),
            scores=np.ones(len(masks), dtype=np.float32),
            phrase_index=np.array([asked.index(phrase) for phrase, _ in self.named], dtype=np.int64),
            asked=tuple(asked),
            image_size=size,
            masks=masks,
        )


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Field, Field]:
    """Centres of the pixels, down and across, as fractions of the side; shared and read-only."""
    steps = ((np.arange(size) + 0.5) / size).astype(np.float32)
    down, across = np.meshgrid(steps, steps, indexing="ij")
    down.setflags(write=False)
    across.setflags(write=False)
    return down, across


@lru_cache(maxsize=64)
def _closed_spline(count: int) -> NDArray[np.float64]:
    """The matrix that turns `count` knots into points on the periodic cubic spline through them."""
    knots = np.eye(count)[[*range(count), 0]]
    per_knot = 12 if count > 6 else 20
    at = np.linspace(0, count, per_knot * count, endpoint=False)
    matrix: NDArray[np.float64] = CubicSpline(np.arange(count + 1), knots, bc_type="periodic")(at)
    return matrix


def tight_box(mask: Mask) -> NDArray[np.float32]:
    """Return the smallest box (xyxy pixels, far edges exclusive) around a mask that is not empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def mirror(points: Sequence[Point]) -> list[Point]:
    """Reflect points left to right."""
    return [(1.0 - x, y) for x, y in points]
