"""Any number of phrases in as few passes as a prompt's token limit allows, whatever their order.

Equal phrases are looked for once; what is looked for is put in one canonical order (of token ids) before it
is packed, so that the order in which phrases are asked never reaches the network. Knows no image, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .prompts import MAX_TOKENS, Prompt, Tokens, join_tokens, phrase_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Packing:
    """The passes that answer a list of phrases.

    Attributes:
        asked: The A phrases, in the order asked.
        prompts: One prompt a pass. The phrases of all passes, one after the other, are the C columns.
        columns: (A,) column that answers each phrase; the same for phrases of equal tokens.
    """

    asked: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    columns: tuple[int, ...]

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """The token ids of each column, (C,)."""
        return tuple(
            prompt.input_ids[start:end] for prompt in self.prompts for start, end in prompt.token_spans
        )

    def answer(self, columns: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Hand findings out to the phrases asked: a phrase asked twice is answered twice.

        Args:
            columns: (N,) column of each finding.

        Returns:
            (M,) which finding, in the order given, and (M,) position in ``asked`` of the phrase it answers.
        """
        by_column = np.argsort(np.array(self.columns, dtype=np.int64), kind="stable")
        counts = np.bincount(np.array(self.columns, dtype=np.int64))
        starts = np.concatenate([[0], counts.cumsum()])
        finding = np.repeat(np.arange(len(columns)), counts[columns])
        phrase = [by_column[starts[column] : starts[column + 1]] for column in columns]
        return finding, np.concatenate([*phrase, np.zeros(0, dtype=np.int64)])


def pack(
    tokenizer: PreTrainedTokenizerBase,
    phrases: Sequence[str],
    *,
    max_phrases: int | None = None,
    prefix: str | None = None,
) -> Packing:
    """Spread phrases over passes: longest first, each into the first pass with room (first fit decreasing).

    That takes at most 11/9 of the fewest passes possible, plus one; what fits one pass gets one.

    Args:
        tokenizer: A BERT tokenizer.
        phrases: What to look for, in any order, repeated or not.
        max_phrases: Most phrases a pass; None = as many as the token limit allows.
        prefix: Opens every prompt as a phrase of its own, such as the kind of image; it has no column.

    Raises:
        ValueError: If a phrase has no letters or is longer than a prompt, or ``max_phrases`` is below 1.
    """
    if max_phrases is not None and max_phrases < 1:
        raise ValueError(f"expected max_phrases >= 1 or None for no limit, got {max_phrases}")
    asked = tuple(phrases)
    opening = [] if prefix is None else [phrase_tokens(tokenizer, prefix)]
    read = [phrase_tokens(tokenizer, phrase) for phrase in asked]
    passes: list[list[Tokens]] = []
    room: list[int] = []
    for tokens in sorted(set(read), key=lambda tokens: (-len(tokens), tokens)):
        needed = len(tokens) + 1  # the full stop
        fits = (i for i, left in enumerate(room) if left >= needed and len(passes[i]) != max_phrases)
        place = next(fits, len(passes))
        if place == len(passes):
            passes.append([])
            room.append(MAX_TOKENS - 2 - sum(len(tokens) + 1 for tokens in opening))  # [CLS], [SEP]
        passes[place].append(tokens)
        room[place] -= needed
    ordered = [sorted(group) for group in passes]
    column = {tokens: index for index, tokens in enumerate(token for group in ordered for token in group)}
    prompts = [join_tokens([*opening, *group]) for group in ordered]
    return Packing(
        asked,
        tuple(Prompt(prompt.input_ids, prompt.token_spans[len(opening) :]) for prompt in prompts),
        tuple(column[tokens] for tokens in read),
    )
