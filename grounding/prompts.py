"""Phrases as the network reads them: one prompt of tokens, and which tokens belong to which phrase.

The prompt of ("left lung", "heart") is ``[CLS] left lung . heart . [SEP]``; the full stop ends a phrase, and
the network lets tokens attend only within their phrase. Regions are named by phrase index, never by decoded
tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# BERT's vocabulary; the architecture is built on these ids, each of which ends a phrase.
PAD_ID, CLS_ID, SEP_ID, FULL_STOP_ID, QUESTION_ID = 0, 101, 102, 1012, 1029
DELIMITERS = frozenset((PAD_ID, CLS_ID, SEP_ID, FULL_STOP_ID, QUESTION_ID))
MAX_TOKENS = 256

Tokens = tuple[int, ...]
"""The token ids of one phrase, without the full stop that ends it."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of T tokens asking for P phrases.

    Attributes:
        input_ids: The T token ids.
        token_spans: [start, end) of each phrase's tokens, the full stop not included.
    """

    input_ids: tuple[int, ...]
    token_spans: tuple[tuple[int, int], ...]


def load_tokenizer(folder: Path | None = None) -> PreTrainedTokenizerBase:
    """The BERT tokenizer of the text encoder, from ``folder`` or the base-weight cache."""
    from transformers import AutoTokenizer

    if folder is None:
        from .base_weights import fetch

        folder = fetch("minilm-l6")
    return AutoTokenizer.from_pretrained(folder)


def phrase_tokens(tokenizer: PreTrainedTokenizerBase, phrase: str) -> Tokens:
    """The token ids of one phrase; what would end it (".", "?", "[SEP]") is read as a space.

    Raises:
        ValueError: If the phrase has no letters or digits.
    """
    read = tokenizer(phrase, add_special_tokens=False)["input_ids"]
    tokens = tuple(token for token in read if token not in DELIMITERS)
    if not re.search(r"\w", phrase) or not tokens:
        raise ValueError(
            f"expected a phrase with letters, got {phrase!r}; name what to look for, as in 'left lung'"
        )
    return tokens


def join_tokens(phrases: Sequence[Tokens]) -> Prompt:
    """One prompt of phrases given as token ids.

    Raises:
        ValueError: If the prompt exceeds 256 tokens.
    """
    ids, spans = [CLS_ID], []
    for tokens in phrases:
        spans.append((len(ids), len(ids) + len(tokens)))
        ids += [*tokens, FULL_STOP_ID]
    ids.append(SEP_ID)
    if len(ids) > MAX_TOKENS:
        raise ValueError(
            f"{len(phrases)} phrases make {len(ids)} tokens, the limit is {MAX_TOKENS}; ask for fewer"
        )
    return Prompt(tuple(ids), tuple(spans))


def build_prompt(tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str]) -> Prompt:
    """Tokenise phrases into one prompt, in the order given (:func:`grounding.packing.pack` makes several).

    Args:
        tokenizer: A BERT tokenizer.
        phrases: What to look for.

    Raises:
        ValueError: If a phrase has no letters or digits, or the prompt exceeds 256 tokens.
    """
    return join_tokens([phrase_tokens(tokenizer, phrase) for phrase in phrases])


def positive_map(prompt: Prompt, length: int) -> Tensor:
    """(P, length) bool, True where a token belongs to the phrase; ``length`` >= T pads."""
    result = torch.zeros(len(prompt.token_spans), length, dtype=torch.bool)
    for row, (start, end) in enumerate(prompt.token_spans):
        result[row, start:end] = True
    return result


def collate_prompts(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Pad to the longest prompt: input_ids (B, T), attention_mask (B, T), a (P_i, T) positive map each."""
    length = max(len(prompt.input_ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), PAD_ID)
    mask = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt.input_ids)] = torch.tensor(prompt.input_ids)
        mask[row, : len(prompt.input_ids)] = 1
    return ids, mask, [positive_map(prompt, length) for prompt in prompts]


def phrase_probabilities(logits: Tensor, maps: Tensor) -> Tensor:
    """Probability of each phrase at each query: the mean over the phrase's tokens.

    Args:
        logits: (Q, T) raw, -inf on padding.
        maps: (P, T) bool positive map.

    Returns:
        (Q, P) in [0, 1].
    """
    weights = maps.to(logits.dtype)
    return logits.sigmoid() @ (weights / weights.sum(-1, keepdim=True)).T
