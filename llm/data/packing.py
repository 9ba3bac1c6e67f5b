"""Several questions about one image in one row that share their common prefix (image, regions).

A row is ``prefix | question 1 + answer 1 | question 2 + answer 2 | ...``. A mask lets every segment see the
prefix and itself only, and positions go on from the prefix for each, so the row computes exactly what
separate sequences
would: about a third of the tokens of separate rows. Knows token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True)
class Example:
    """Token ids of one question: the prompt, and the answer with its end token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Rows of packed questions, padded on the right.

    Attributes:
        input_ids: int64 (R, L).
        position_ids: int64 (R, L).
        segment_ids: int64 (R, L): 0 the shared prefix, 1.. the questions, -1 padding.
        source: int64 (T,) flat index into R * L of the place that predicts each answer token.
        target: int64 (T,) the answer tokens.
        owner: int64 (T,) the question, counted over the batch, that each answer token belongs to.
    """

    input_ids: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    source: Tensor
    target: Tensor
    owner: Tensor

    def attention_mask(self, dtype: torch.dtype) -> Tensor:
        """Additive mask (R, 1, L, L): 0 where a query (row) sees a key (column), else the lowest number."""
        segment = self.segment_ids
        keys, queries = segment[:, None, None, :], segment[:, None, :, None]
        length = segment.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        visible = causal & (keys != PADDING) & ((keys == 0) | (keys == queries))
        return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)

    def weights(self) -> Tensor:
        """Weight (T,) of each answer token, 1 / sqrt(tokens of its answer), adding up to 1.

        Between a mean over tokens, where long answers drown yes and no, and a mean over answers.
        """
        counts = torch.bincount(self.owner).float()
        weights = counts.rsqrt()[self.owner]
        return weights / weights.sum()


def shared_prefix(examples: Sequence[Example]) -> int:
    """How many leading prompt tokens all examples share, leaving each at least one of its own."""
    shortest = min(len(example.prompt) for example in examples)
    first = examples[0].prompt
    for place in range(shortest - 1):
        if any(example.prompt[place] != first[place] for example in examples):
            return place
    return shortest - 1


def pack(rows: Sequence[Sequence[Example]], pad_id: int) -> PackedBatch:
    """Pack rows of examples, one image a row, into one batch."""
    tokens, positions, segments = [], [], []
    sources: list[tuple[int, int]] = []
    targets: list[int] = []
    owners: list[int] = []
    question = 0
    for row_index, row in enumerate(rows):
        prefix = shared_prefix(row)
        ids, place, segment = list(row[0].prompt[:prefix]), list(range(prefix)), [0] * prefix
        for number, example in enumerate(row, start=1):
            rest = [*example.prompt[prefix:], *example.answer]
            answer_start = len(ids) + len(example.prompt) - prefix
            sources += [(row_index, answer_start + k - 1) for k in range(len(example.answer))]
            targets += example.answer
            owners += [question] * len(example.answer)
            ids += rest[:-1]
            place += range(prefix, prefix + len(rest) - 1)
            segment += [number] * (len(rest) - 1)
            question += 1
        tokens.append(ids)
        positions.append(place)
        segments.append(segment)
    length = max(map(len, tokens))
    flat = [row * length + column for row, column in sources]
    return PackedBatch(
        input_ids=_pad(tokens, length, pad_id),
        position_ids=_pad(positions, length, 0),
        segment_ids=_pad(segments, length, PADDING),
        source=torch.tensor(flat),
        target=torch.tensor(targets),
        owner=torch.tensor(owners),
    )


def _pad(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    """Rows of integers as int64 (R, length), filled on the right."""
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])
