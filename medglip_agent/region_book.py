"""The regions of one image as a conversation numbers them: what was shown as [R1] stays [R1].

Every tool counts its own regions from 1; the book gives each found region one number for all of them, and
rewrites the citations in a text accordingly. A number that it does not hold is forged, and is removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from grounding.types import GroundedRegion, Regions
from llm.report import CITATION, cited_regions

from .citations import cite

# The end of a text: space, and what may become a citation.
_UNSETTLED: Final = re.compile(r"\s*(?:\[[Rr\d\s,;]*)?\Z")
_SAME_PX: Final = 0.5


class RegionBook:
    """Numbers regions in the order in which they were first found."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        """Start empty, for an image of (height, width)."""
        self._size = image_size
        self._found: list[GroundedRegion] = []
        self._asked: dict[str, None] = {}

    def __len__(self) -> int:
        """How many regions have a number."""
        return len(self._found)

    def __getitem__(self, index: int) -> GroundedRegion:
        """The region shown as [R(index + 1)].

        Raises:
            IndexError: there is none.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"expected a region of 0..{len(self) - 1}, got {index}")
        return self._found[index]

    def add(self, regions: Regions) -> tuple[int, ...]:
        """Number `regions`; return the index (0-based) of each, an old one where it was found before."""
        self._asked.update(dict.fromkeys(regions.asked))
        return tuple(self._index(region) for region in regions)

    @property
    def regions(self) -> Regions:
        """All of them, boxes xyxy in pixels of the image; masks only where every region has one."""
        asked = tuple(self._asked)
        if not self._found:
            return Regions.empty(self._size, asked)
        masks = [region.mask for region in self._found if region.mask is not None]
        return Regions(
            np.stack([region.box for region in self._found]),
            np.array([region.score for region in self._found], dtype=np.float32),
            np.array([asked.index(region.phrase) for region in self._found], dtype=np.int64),
            asked,
            self._size,
            np.stack(masks) if len(masks) == len(self._found) else None,
        )

    def _index(self, region: GroundedRegion) -> int:
        for index, known in enumerate(self._found):
            if known.phrase == region.phrase and np.abs(known.box - region.box).max() <= _SAME_PX:
                if region.mask is not None:
                    self._found[index] = replace(known, mask=region.mask)
                return index
        self._found.append(replace(region, index=len(self._found)))
        return len(self._found) - 1


def renumber(text: str, numbers: Sequence[int]) -> str:
    """Rewrite citations: what `text` cites as region i (0-based) becomes region `numbers[i]`.

    Several in one bracket are written apart; those of regions that do not exist are removed, until none is
    left that a removal has put together.
    """

    def known(mark: re.Match[str]) -> list[int]:
        return [index for index in cited_regions(mark[2]) if 0 <= index < len(numbers)]

    def keep(mark: re.Match[str]) -> str:
        return mark[1] + cite(known(mark)) if known(mark) else ""

    def rename(mark: re.Match[str]) -> str:
        return mark[1] + cite(numbers[index] for index in known(mark))

    while (kept := CITATION.sub(keep, text)) != text:
        text = kept
    return CITATION.sub(rename, text)


def forged(text: str, count: int) -> tuple[int, ...]:
    """Return the indices (0-based) that `text` cites and that are none of `count` regions, each once."""
    return tuple(index for index in cited_regions(text) if not 0 <= index < count)


class CitedStream:
    """Text that comes in pieces, without forged citations; what may become one is held back."""

    def __init__(self, count: int) -> None:
        """`count` regions may be cited."""
        self._numbers = range(count)
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what can be shown now."""
        text = renumber(self._held + piece, self._numbers)  # first: what it removes may open a mark
        unsettled = _UNSETTLED.search(text)
        assert unsettled is not None  # it may be empty
        self._held = unsettled[0]
        return text[: unsettled.start()]

    def close(self) -> str:
        """Return the rest."""
        rest, self._held = self._held, ""
        return rest
