"""What a model generated as text with its confidence, and the texts that end a reply early.

Knows a tokenizer and transformers' generation output; no model, no prompts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, TextIteratorStreamer

from .types import Generation


class StopTexts(StoppingCriteria):  # type: ignore[misc]
    """Ends each row of a batch when its reply holds one of the texts."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, prompt_length: int) -> None:
        """Watch for `texts` behind the first `prompt_length` tokens.

        `lengths` then tells how many tokens of a row's reply count, by row, where it was ended.
        """
        self.texts, self.start, self._tokenizer = tuple(texts), prompt_length, tokenizer
        self.lengths: dict[int, int] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Which rows are done, (B,)."""
        replies = self._tokenizer.batch_decode(input_ids[:, self.start :], skip_special_tokens=True)
        for row, reply in enumerate(replies):
            if any(text in reply for text in self.texts):
                self.lengths.setdefault(row, input_ids.shape[1] - self.start)
        return torch.tensor([row in self.lengths for row in range(len(replies))], device=input_ids.device)


class AbandonedError(RuntimeError):
    """Nobody reads the reply any more."""


class PieceStream(TextIteratorStreamer):  # type: ignore[misc]
    """The pieces of a reply; its reader may leave, and the generation then ends at its next token."""

    def __init__(self, tokenizer: Any) -> None:
        """Pieces of the reply alone, as plain text."""
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._left = threading.Event()

    def leave(self) -> None:
        """Say that no more pieces are wanted."""
        self._left.set()

    def put(self, value: Tensor) -> None:
        """Take tokens from the generation.

        Raises:
            AbandonedError: The reader has left.
        """
        if self._left.is_set():
            raise AbandonedError("the reader of this stream has left")
        super().put(value)


def read_replies(
    output: Any, tokenizer: Any, end_tokens: int | list[int] | None, stopper: StopTexts
) -> list[Generation]:
    """The replies of a batch with their confidences and margins.

    Args:
        output: Of greedy `generate` with its logits, dictionary form.
        tokenizer: Decodes it.
        end_tokens: Ids that end a reply.
        stopper: That watched the generation.
    """
    tokens = output.sequences[:, stopper.start :]
    used = used_tokens(tokens, end_tokens, stopper.lengths)
    logits = torch.stack(output.logits, dim=1).float()
    log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    confidences = ((log_probs * used).sum(1) / used.sum(1)).exp().clamp(0, 1).tolist()
    top = logits.topk(2, dim=-1).values
    margins = (top[..., 0] - top[..., 1]).masked_fill(used == 0, torch.inf).amin(1).tolist()
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [
        Generation(cut(text, stopper.texts).strip(), confidence, margin)
        for text, confidence, margin in zip(texts, confidences, margins, strict=True)
    ]


def used_tokens(tokens: Tensor, end_tokens: int | list[int] | None, lengths: Mapping[int, int]) -> Tensor:
    """1.0 for the reply's tokens (N, T) up to and with the first end token, 0.0 after it.

    Args:
        tokens: The replies.
        end_tokens: Ids that end one.
        lengths: Of the rows that a stop text ended, by row.
    """
    ends = torch.tensor(end_tokens if end_tokens is not None else -1, device=tokens.device)
    is_end = torch.isin(tokens, ends)
    used = is_end.long().cumsum(1) - is_end.long() == 0
    for row, length in lengths.items():
        used[row, length:] = False
    return used.float()


def cut(text: str, stop: Sequence[str]) -> str:
    """What stands before the first of the stop texts."""
    return text[: min((text.index(s) for s in stop if s in text), default=len(text))]


def cut_stream(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """The pieces of a text up to a stop text; what may be the beginning of one is held back."""
    text, shown = "", 0
    held = max((len(s) for s in stop), default=1) - 1
    for piece in pieces:
        text += piece
        whole = cut(text, stop)
        ready = len(whole) if len(whole) < len(text) else max(shown, len(text) - held)
        if ready > shown:
            yield text[shown:ready]
            shown = ready
    if rest := cut(text, stop)[shown:]:
        yield rest
