"""A panel of crops: the whole image and an enlarged crop of each region side by side, in one picture.

Every tile knows its place, so that a box named on the panel comes back to the original image exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grounding.types import MedicalImage, Regions

from .grid import checked
from .placement import Placement, Rect, fitted, whole


@dataclass(frozen=True, eq=False)
class CropPanel:
    """A panel and the places of its tiles.

    Attributes:
        image: The panel; captions stand above the tiles, never on them.
        tiles: The whole image first, then a crop for each region shown.
        indices: The region that each crop shows.
    """

    image: MedicalImage
    tiles: tuple[Placement, ...]
    indices: tuple[int, ...]

    def to_panel(self, box: ArrayLike, tile: int) -> NDArray[np.float64]:
        """Map an xyxy box of the original image to a tile (0 is the whole image); not clipped."""
        return self.tiles[tile].to_canvas(checked(box))

    def to_image(self, box: ArrayLike) -> NDArray[np.float32]:
        """Map an xyxy box on the panel to the original image through the tile that holds its middle.

        Returns:
            float32 (4,) xyxy in pixels of the original, clipped to what the tile shows.

        Raises:
            ValueError: Its middle lies between the tiles.
        """
        corners = checked(box)
        x, y = (corners[:2] + corners[2:]) / 2
        for tile in self.tiles:
            x1, y1, x2, y2 = tile.target
            if x1 <= x <= x2 and y1 <= y <= y2:
                shown = np.array(tile.source)
                mapped = tile.to_image(corners)
                clipped = np.clip(mapped, np.tile(shown[:2], 2), np.tile(shown[2:], 2))
                return clipped.astype(np.float32)
        raise ValueError(f"the middle ({x:g}, {y:g}) of the box lies between the tiles of the panel")

    def valid_mask(self) -> NDArray[np.bool_]:
        """A bool (height, width) of the panel, True where a pixel shows the image."""
        mask = np.zeros(self.image.size, dtype=bool)
        for tile in self.tiles:
            mask |= tile.valid_mask()
        return mask


def crop_panel(
    image: MedicalImage,
    regions: Regions,
    indices: Sequence[int],
    *,
    tile: int = 224,
    margin: float = 0.15,
    columns: int = 3,
) -> CropPanel:
    """Put the whole image and a crop of each chosen region on one panel.

    Args:
        image: The picture.
        regions: Of this picture.
        indices: Which of them to show.
        tile: Side of a tile in pixels.
        margin: What is shown around a region, as a share of its longer side; at least 2 pixels.
        columns: Tiles in a row.

    Raises:
        ValueError: The regions are those of an image of another size.
    """
    from PIL import Image, ImageDraw, ImageFont

    if tuple(regions.image_size) != tuple(image.size):
        raise ValueError(
            f"regions are of an image of (height, width) {regions.image_size}, got one of {image.size};"
            " crop them from the image they were found in"
        )
    strip = max(12, tile // 14)
    sources = [whole(image.size), *(_around(regions.boxes[i], image.size, margin) for i in indices)]
    rows = -(-len(sources) // columns)
    size = (rows * (tile + strip), min(columns, len(sources)) * tile)
    panel = Image.new("RGB", (size[1], size[0]))
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=strip - 4)
    picture, tiles = Image.fromarray(image.pixels), []
    for number, source in enumerate(sources):
        row, column = divmod(number, columns)
        left, top = column * tile, row * (tile + strip) + strip
        caption = f"R{indices[number - 1] + 1}" if number else "whole image"
        draw.text((left + 2, top - strip + 1), caption, font=font, fill="white")
        inner = fitted(source, (tile, tile)).target
        target = (inner[0] + left, inner[1] + top, inner[2] + left, inner[3] + top)
        tiles.append(Placement(size, source, target))
        x1, y1, x2, y2 = map(int, target)
        panel.paste(picture.resize((x2 - x1, y2 - y1), Image.Resampling.BICUBIC, box=source), (x1, y1))
    shown = replace(image, pixels=np.asarray(panel), source_id="", spacing=None, orientation=None)
    return CropPanel(shown, tuple(tiles), tuple(indices))


def _around(box: ArrayLike, image_size: tuple[int, int], margin: float) -> Rect:
    """A box with its margin, in whole pixels inside the image and at least one pixel wide and high."""
    corners = np.asarray(box, dtype=np.float64)
    extra = max(2.0, margin * float((corners[2:] - corners[:2]).max()))
    limit = np.array(image_size[::-1], dtype=np.float64)
    first = np.clip(np.floor(corners[:2] - extra), 0, limit - 1)
    second = np.clip(np.ceil(corners[2:] + extra), first + 1, limit)
    x1, y1, x2, y2 = np.concatenate([first, second]).tolist()
    return x1, y1, x2, y2
