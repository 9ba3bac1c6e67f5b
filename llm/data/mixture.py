"""Instructions of several sources as one endless, weighted stream, each varied at random.

The example at a position is a pure function of the seed and the position, so a run resumes anywhere and
any number of workers may share the stream. Knows sources and noise, no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grounding.types import Regions

from .augment import View, misplace_regions, vary_question, vary_regions
from .instructions import Instruction, read_instructions

BLOCK: Final = 200
"""Positions in which every source has its share; a share is a whole number of them, at least one."""


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
class Drawn:
    """An instruction as it is shown once.

    Attributes:
        item: With its varied question and regions; regions are in pixels of the view.
        view: Number of the image's view that is shown, 0 for the plain image.
    """

    item: Instruction
    view: int


@dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
        name: For messages.
        items: Its instructions; all are shown before one is shown again.
        weight: Its share of the stream, relative to the others'.
        noise: What is done to its regions; None takes `EXACT` for answers that follow from boxes, else the
            default.
    """

    name: str
    items: Sequence[Instruction]
    weight: float
    noise: RegionNoise | None = None

    def __post_init__(self) -> None:
        """Refuse a source that cannot be drawn from."""
        if not self.items or not self.weight > 0:
            raise ValueError(
                f"source {self.name}: expected instructions and a weight above 0, got {len(self.items)} and"
                f" {self.weight}; leave it out of the mixture"
            )


class InstructionMixture:
    """The stream; `mixture[position]` for any position from 0 on."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seed: int,
        views_of: Callable[[Path], Sequence[View]] = lambda path: (View(),),
    ) -> None:
        """Fix the shares.

        Args:
            sources: At least one.
            seed: Of order and variation.
            views_of: The views of an image that may be shown, the first being the plain one.

        Raises:
            ValueError: There is no source, or two have one name.
        """
        names = [source.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected sources with different names, got {names}")
        self.sources, self.seed, self._views_of = tuple(sources), seed, views_of
        self.shares = _shares([source.weight for source in sources])
        self._block = lru_cache(maxsize=4)(self._draw_block)
        self._order = lru_cache(maxsize=2 * len(names))(self._draw_order)

    def __getitem__(self, position: int) -> Drawn:
        """The example at a position.

        Raises:
            IndexError: The position is negative.
        """
        if position < 0:
            raise IndexError(f"positions start at 0, got {position}")
        number, place = divmod(position, sum(self.shares))
        block = self._block(number)
        which = int(block[place])
        source = self.sources[which]
        count = number * self.shares[which] + int((block[:place] == which).sum())
        epoch, index = divmod(count, len(source.items))
        item = source.items[int(self._order(which, epoch)[index])]
        noise = source.noise or (EXACT if item.kind in EXACT_KINDS else RegionNoise())
        return self._vary(item, noise, np.random.default_rng([self.seed, 2, position]))

    def stream(self, start: int = 0, *, step: int = 1) -> Iterator[Drawn]:
        """The examples at `start`, `start` + `step`, ...: resume, or one worker's part."""
        position = start
        while True:
            yield self[position]
            position += step

    def _vary(self, item: Instruction, noise: RegionNoise, rng: np.random.Generator) -> Drawn:
        views = self._views_of(item.image_path) if noise.views and item.image_path else (View(),)
        number = int(rng.integers(len(views)))
        question = vary_question(item.question, rng)
        regions = item.regions
        if regions is not None:
            regions = _noisy(regions, noise, views[number], rng, bound=bool(item.region_ids))
        return Drawn(replace(item, question=question, regions=regions), number)

    def _draw_block(self, number: int) -> NDArray[np.int64]:
        """Which source each position of a block is from."""
        rng = np.random.default_rng([self.seed, 0, number])
        return rng.permutation(np.repeat(np.arange(len(self.shares)), self.shares))

    def _draw_order(self, which: int, epoch: int) -> NDArray[np.int64]:
        """The order of one source's items in one pass."""
        rng = np.random.default_rng([self.seed, 1, which, epoch])
        return rng.permutation(len(self.sources[which].items))


def load_mixture(
    folder: Path,
    weights: Mapping[str, float],
    *,
    seed: int,
    views_of: Callable[[Path], Sequence[View]] = lambda path: (View(),),
) -> InstructionMixture:
    """A mixture of files ``<folder>/<source>.jsonl``.

    Args:
        folder: Where `python -m medglip_agent.instructions` wrote.
        weights: Share of each source, by the name of its file.
        seed: Of order and variation.
        views_of: See `InstructionMixture`.

    Raises:
        FileNotFoundError: A file is absent.
    """
    sources = [
        Source(name, read_instructions(folder / f"{name}.jsonl"), weight) for name, weight in weights.items()
    ]
    return InstructionMixture(sources, seed=seed, views_of=views_of)


def _noisy(
    regions: Regions, noise: RegionNoise, view: View, rng: np.random.Generator, *, bound: bool
) -> Regions | None:
    """Regions as a detector might have given them; `bound` ones stay complete and in place."""
    if rng.random() < noise.omit and not bound:
        return None
    spread = rng.uniform(noise.least_score, 1, len(regions))
    true = regions.scores == 1
    regions = replace(regions, scores=np.where(true, spread, regions.scores), masks=None)
    if not bound:
        regions = misplace_regions(regions, rng, noise.misplace)
    return vary_regions(regions, rng, view=view, drop=0.0 if bound else noise.drop, jitter=noise.jitter)


def _shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights, about `BLOCK` in all, none 0."""
    total = sum(weights)
    return [max(1, round(BLOCK * weight / total)) for weight in weights]
