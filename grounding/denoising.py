"""Contrastive denoising (DINO, Zhang et al., 2022): queries start from noised true boxes and must return.

Each group holds every box twice: a positive query near it, which must return to it, and a negative one
farther off, which must say that nothing is there. DINO's label noise becomes noise on the phrase: now and
then the query's content is another phrase of the same prompt. Noise is drawn with the example, from the
example's own random numbers, so it depends neither on the batch nor on the number of processes. Knows no
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

REAL, PADDING, MANY = -1, -2, -3  # groups of queries that are not denoising groups


@dataclass(frozen=True)
class DenoisingConfig:
    """How boxes are noised.

    Attributes:
        queries: Most denoising queries an image; 0 = no denoising.
        box_noise: Shift of a positive query's corners, at most this times half the box's side; a negative
            one's is between once and twice that.
        phrase_noise: How often a query's content is that of another phrase.
    """

    queries: int = 0
    box_noise: float = 1.0
    phrase_noise: float = 0.25


@dataclass(frozen=True)
class NoisedBoxes:
    """Denoising queries of one image (D of them).

    Attributes:
        boxes: (D, 4) float32 cxcywh in [0, 1], where the queries start.
        phrase: (D,) phrase whose embedding is the query's content.
        group: (D,) group of each query.
        target: (D,) index of the true box, or -1 for a negative query.
    """

    boxes: np.ndarray
    phrase: np.ndarray
    group: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class DenoisingQueries:
    """Denoising queries of B images, padded to the same number D.

    Attributes:
        boxes: (B, D, 4) cxcywh in [0, 1], where the queries start.
        content: (B, D, T) weights of the prompt tokens whose mean is a query's content.
        positive: (B, D, T) bool, tokens that the query must name; none for negative ones and padding.
        target_boxes: (B, D, 4) where a positive query must arrive.
        group: (B, D) group of each query, ``PADDING`` where there is none.
    """

    boxes: Tensor
    content: Tensor
    positive: Tensor
    target_boxes: Tensor
    group: Tensor

    def to(self, device: torch.device) -> DenoisingQueries:
        """The same on another device."""
        return DenoisingQueries(*(getattr(self, field.name).to(device) for field in fields(self)))


def noised_boxes(
    boxes: np.ndarray,
    phrase_index: np.ndarray,
    phrases: int,
    config: DenoisingConfig,
    rng: np.random.Generator,
) -> NoisedBoxes:
    """Draw the denoising queries of one image.

    As many groups as fit into ``config.queries``; where one group does not fit, a random part of the boxes.

    Args:
        boxes: (n, 4) float32 cxcywh in [0, 1].
        phrase_index: (n,) phrase of each box.
        phrases: Number of phrases in the prompt.
        config: Sizes of the noise.
        rng: Random numbers of this example.
    """
    chosen = np.arange(len(boxes))
    if 2 * len(boxes) > config.queries:
        chosen = np.sort(rng.permutation(len(boxes))[: config.queries // 2])
    groups = config.queries // (2 * len(chosen)) if len(chosen) else 0
    index = np.tile(chosen, 2 * groups)
    negative = np.tile(np.repeat([False, True], len(chosen)), groups)
    distance = (rng.random((len(index), 4)) + negative[:, None]) * rng.choice([-1.0, 1.0], (len(index), 4))
    centre, size = boxes[index, :2], boxes[index, 2:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], 1)
    corners = np.clip(corners + distance * config.box_noise * np.tile(size / 2, 2), 0.0, 1.0)
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    other = rng.integers(0, phrases, len(index))
    renamed = rng.random(len(index)) < config.phrase_noise
    return NoisedBoxes(
        np.concatenate([(low + high) / 2, high - low], 1).astype(np.float32),
        np.where(renamed, other, phrase_index[index]).astype(np.int64),
        np.repeat(np.arange(groups), 2 * len(chosen)),
        np.where(negative, -1, index).astype(np.int64),
    )


def collate_denoising(
    noised: Sequence[NoisedBoxes],
    boxes: Sequence[Tensor],
    phrase_index: Sequence[Tensor],
    maps: Sequence[Tensor],
) -> DenoisingQueries | None:
    """Pad the denoising queries of B images; None where no image has any.

    Args:
        noised: Of each image.
        boxes: (n, 4) true boxes cxcywh of each image.
        phrase_index: (n,) phrase of each true box.
        maps: (P, T) bool positive map of each prompt.
    """
    batch, count = len(noised), max((len(each.group) for each in noised), default=0)
    if count == 0:
        return None
    length = maps[0].shape[1]
    starts = torch.full((batch, count, 4), 0.5)
    content = torch.zeros(batch, count, length)
    positive = torch.zeros(batch, count, length, dtype=torch.bool)
    targets = torch.full((batch, count, 4), 0.5)
    group = torch.full((batch, count), PADDING)
    for row, each in enumerate(noised):
        used = len(each.group)
        tokens = maps[row].float() / maps[row].sum(-1, keepdim=True)
        target = torch.from_numpy(each.target)
        where = torch.nonzero(target >= 0)[:, 0]
        starts[row, :used] = torch.from_numpy(each.boxes)
        content[row, :used] = tokens[torch.from_numpy(each.phrase)]
        positive[row, where] = maps[row][phrase_index[row][target[where]]]
        targets[row, where] = boxes[row][target[where]]
        group[row, :used] = torch.from_numpy(each.group)
    return DenoisingQueries(starts, content, positive, targets, group)


def query_mask(real: int, denoising: DenoisingQueries | None, many: int, batch: int) -> Tensor | None:
    """Which query may attend to which: (B, Q', Q') bool, queries in the order real, denoising, many.

    Queries see their own group; denoising groups also see the real queries, which see nobody else, so that
    the truth in the denoising queries never leaks. None where there are only real queries.
    """
    if denoising is None and not many:
        return None
    device = None if denoising is None else denoising.group.device
    parts = [torch.full((batch, real), REAL, device=device)]
    if denoising is not None:
        parts.append(denoising.group)
    group = torch.cat([*parts, torch.full((batch, many), MANY, device=device)], 1)
    same = group[:, :, None] == group[:, None]
    return same | ((group[:, None] == REAL) & (group[:, :, None] >= 0))
