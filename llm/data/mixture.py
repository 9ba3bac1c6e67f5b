"""Instructions of several sources, mixed: which ones an epoch shows, and how their regions are disturbed.

Everything random comes from the generator that is handed in. Knows no tokenizer and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from grounding.types import Regions

from .augment import View, misplace_regions, vary_regions
from .instructions import Instruction


@dataclass(frozen=True)
class RegionNoise:
    """What is done to regions so that a model does not trust a detector blindly.

    Where an instruction names regions by number, none is dropped, misplaced or left out.

    Attributes:
        omit: Probability that the whole block is left out.
        drop: Probability that one region is dropped.
        misplace: Probability that one region is a false hit: another place, a low score.
        jitter: Standard deviation of a corner's movement as a fraction of the box's side.
        least_score: Regions with score 1 (true boxes) get scores between this and 1, as a detector's have.
        views: Whether the image may be shown turned, scaled and shifted.
    """

    omit: float = 0.15
    drop: float = 0.15
    misplace: float = 0.05
    jitter: float = 0.03
    least_score: float = 0.35
    views: bool = True


EXACT: Final = RegionNoise(omit=0.1, drop=0.0, misplace=0.0, jitter=0.004, views=False)
"""For answers that follow from the boxes: what is seen must stay what is asked."""
EXACT_KINDS: Final = frozenset({"presence", "count", "side", "larger", "where", "caption", "findings"})


@dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
        name: For messages and logs.
        items: Its instructions.
        questions: How many of them an epoch shows, about and at most; None for every one, once.
    """

    name: str
    items: tuple[Instruction, ...]
    questions: int | None = None

    def __post_init__(self) -> None:
        """Refuse a source that cannot be drawn from."""
        if not self.items or (self.questions is not None and self.questions < 1):
            raise ValueError(
                f"source {self.name}: expected instructions and at least 1 question an epoch, got"
                f" {len(self.items)} and {self.questions}; leave it out of the mixture"
            )

    def draw(self, rng: np.random.Generator, together: int) -> list[int]:
        """Indices into `items` for one epoch: images at random, of each at most `together` questions.

        Questions about one image come together because image and regions are then computed once for all.
        """
        order: list[int] = rng.permutation(len(self.items)).tolist()
        if self.questions is None:
            return order
        by_image: dict[object, list[int]] = {}
        for index in order:
            item = self.items[index]
            by_image.setdefault(item.image_path or index, []).append(index)
        chosen: list[int] = []
        for indices in by_image.values():
            if len(chosen) >= self.questions:
                break
            chosen += indices[:together]
        return chosen


def noise_of(item: Instruction) -> RegionNoise:
    """What is done to an instruction's regions: `EXACT` where the answer follows from the boxes."""
    return EXACT if item.kind in EXACT_KINDS else RegionNoise()


def noisy_regions(item: Instruction, view: View, rng: np.random.Generator) -> Regions | None:
    """The regions of an instruction as a detector might have given them, in pixels of the view.

    Those that the question or answer names by number stay complete and in place.
    """
    regions, noise, bound = item.regions, noise_of(item), bool(item.region_ids)
    if regions is None or (rng.random() < noise.omit and not bound):
        return None
    spread = rng.uniform(noise.least_score, 1, len(regions))
    regions = replace(regions, scores=np.where(regions.scores == 1, spread, regions.scores), masks=None)
    if not bound:
        regions = misplace_regions(regions, rng, noise.misplace)
    return vary_regions(regions, rng, view=view, drop=0.0 if bound else noise.drop, jitter=noise.jitter)
