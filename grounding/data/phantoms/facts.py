"""What the regions of a phantom say: how many, how large, inside what, on which side. Knows no sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...types import Regions
from .labels import PHANTOM_LABELS

ORIENTED: Final = frozenset({"CR", "CT", "MR"})
"""Modalities whose sides are the patient's: the patient's right on the picture's left."""


class PhantomFacts:
    """The regions of one phantom, looked up by name."""

    def __init__(self, modality: str, regions: Regions) -> None:
        """Take all regions of one picture, with masks."""
        self.modality, self.table = modality, PHANTOM_LABELS[modality]
        self.size = regions.image_size
        self.masks: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in self.table}
        self.boxes: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.table}
        for region in regions:
            assert region.mask is not None
            self.masks[region.phrase].append(region.mask)
            self.boxes[region.phrase].append(region.box)

    def names(self, *granularities: str) -> list[str]:
        """Names of these granularities, whether there or not."""
        return [name for name, label in self.table.items() if label.granularity in granularities]

    def count(self, name: str) -> int:
        """How many regions have this name."""
        return len(self.boxes[name])

    def area(self, names: Iterable[str], within: str | None = None) -> int:
        """Pixels of all regions with these names, or of their part in another structure."""
        masks = [mask for name in names for mask in self.masks[name]]
        if within is None:
            return sum(int(mask.sum()) for mask in masks)
        holder = np.any(self.masks[within], axis=0)
        return sum(int((mask & holder).sum()) for mask in masks)

    def holders(self, name: str) -> tuple[str, ...]:
        """The structures in which this name's regions lie, in the table's order."""
        inside = [holder for holder in self.table[name].inside if self.count(holder)]
        return tuple(holder for holder in inside if self.area([name], holder) > 0)

    def side(self, name: str) -> str | None:
        """Right or left if all regions of this name lie clearly there, None otherwise.

        Clearly: in a structure of that side; or three quarters of the width on that side of the picture, and
        the centre off the middle by 6 % of the picture, more than a body is ever shifted.
        """
        sides = {holder.split()[0] for holder in self.holders(name)}
        if sides and sides <= {"right", "left"}:
            return sides.pop() if len(sides) == 1 else None
        if not self.count(name):
            return None
        boxes = np.stack(self.boxes[name])
        x = (boxes[:, 0] + boxes[:, 2] - self.size[1]) / 2
        least = np.maximum(0.25 * (boxes[:, 2] - boxes[:, 0]), 0.06 * self.size[1])
        if (np.abs(x) < least).any() or len(set(np.sign(x))) > 1:
            return None
        return "right" if (x[0] > 0) != (self.modality in ORIENTED) else "left"

    def place(self, name: str) -> str | None:
        """Where the only region of this name lies in the picture, on a grid of three by three."""
        if self.count(name) != 1:
            return None
        (x1, y1, x2, y2), (height, width) = self.boxes[name][0], self.size
        row = ("upper", "", "lower")[int(min(2, 3 * (y1 + y2) / 2 / height))]
        column = ("left", "", "right")[int(min(2, 3 * (x1 + x2) / 2 / width))]
        return f"{row} {column}".strip() or "centre"
