"""Instructions of several sources, mixed: which ones an epoch shows, and how their regions are disturbed.

Everything random comes from the generator that is handed in. Knows no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from grounding.types import Regions

from .augment import View, doubt_regions, guess_absent, misplace_regions, vary_regions
from .instructions import Instruction, from_vqa, read_instructions, split_by_group
from .vqa import VQAExample, canonical_answers
from .vqa_rad import Split, read_vqa_rad

VQA_RAD: Final = "vqa_rad"
"""Name of the source that every recipe has."""


@dataclass(frozen=True)
class RegionNoise:
    """What is done to regions so that a model does not trust a detector blindly.

    Where an instruction names regions by number, none is dropped, misplaced or left out.

    Attributes:
        omit: Probability that the whole block is left out.
        drop: Probability that one region is dropped.
        misplace: Probability that one region is a false hit: another place, a low score.
        jitter: Standard deviation of a corner's movement as a fraction of the box's side.
        guess: Probability that a phrase without a region gets a wrong guess where the question asks what is
            there, and that the only region of a phrase becomes a guess where it asks where or how large.
        least_score: Regions with score 1 (true boxes) get scores between this and 1, as a detector's have.
        views: Whether the image may be shown turned, scaled and shifted.
    """

    omit: float = 0.15
    drop: float = 0.15
    misplace: float = 0.05
    jitter: float = 0.03
    guess: float = 0.0
    least_score: float = 0.35
    views: bool = True


EXACT: Final = RegionNoise(omit=0.1, drop=0.0, misplace=0.0, jitter=0.004, guess=0.3, views=False)
"""For answers that follow from the boxes: what is seen must stay what is asked."""
PLACE_KINDS: Final = frozenset({"side", "larger", "where"})
"""Questions that presume what they ask for, so that a guess answers them too."""
EXACT_KINDS: Final = frozenset({"presence", "count", "side", "larger", "where", "caption", "findings"})


@dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
        name: For messages and logs.
        items: Its instructions.
        questions: How many of them an epoch shows at most; None for every one, once.
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
        return chosen[: self.questions]


def draw_epoch(sources: Sequence[Source], rng: np.random.Generator, together: int) -> list[int]:
    """The questions of an epoch, as indices into the items of all sources, one source after another.

    Always equally many: see `Source.draw`.
    """
    drawn, first = [], 0
    for source in sources:
        drawn += [first + index for index in source.draw(rng, together)]
        first += len(source.items)
    return drawn


def read_sources(
    data_dir: Path,
    split: Split,
    *,
    regions: Mapping[str, Regions] | None = None,
    instructions: Mapping[str, int] | None = None,
    folder: Path | None = None,
    watched: float = 0.0,
) -> tuple[list[Source], list[Source]]:
    """A split of VQA-RAD and further sources: what is learned, and what is kept to watch.

    Args:
        data_dir: Holds vqa/vqa_rad.
        split: Of VQA-RAD; all of it is learned.
        regions: Those of every VQA-RAD question by ``qid``; None omits the region block.
        instructions: Questions an epoch from further sources, by the names of their files.
        folder: Holds these files, ``<name>.jsonl``.
        watched: Part of each of them, whole patients, that is watched.

    Raises:
        ValueError: Further sources are named but no folder, or a VQA-RAD question has no regions.
        FileNotFoundError: A source's file is absent.
    """
    examples = read_vqa_rad(
        data_dir.resolve() / "vqa" / "vqa_rad", split
    )  # one name an image, in every source
    if regions is not None:
        check_regions(examples, regions)
    answers = canonical_answers([example.answer for example in examples])
    items = zip(from_vqa(examples, VQA_RAD, regions), answers, strict=True)
    learned = [Source(VQA_RAD, tuple(replace(item, answer=answer) for item, answer in items))]
    kept = []
    for name, questions in (instructions or {}).items():
        if folder is None:
            raise ValueError(
                f"the recipe names {name!r}: give --instructions FOLDER, written by"
                " `python -m medglip_agent.instructions`"
            )
        own, apart = split_by_group(read_instructions(folder / f"{name}.jsonl"), watched)
        learned.append(Source(name, own, questions))
        kept += [Source(name, apart)] if apart else []
    return learned, kept


def check_regions(examples: Sequence[VQAExample], regions: Mapping[str, Regions]) -> None:
    """Raise ValueError where some question has no regions (none found is an empty `Regions`)."""
    if absent := [e.qid for e in examples if e.qid not in regions]:
        raise ValueError(
            f"{len(absent)} of {len(examples)} questions have no regions, such as {absent[:3]};"
            " write them with `python -m medglip_agent.evidence` for this split"
        )


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
        if item.kind in PLACE_KINDS:
            regions = doubt_regions(regions, rng, noise.guess)
        else:
            regions = guess_absent(regions, rng, noise.guess)
    return vary_regions(regions, rng, view=view, drop=0.0 if bound else noise.drop, jitter=noise.jitter)
