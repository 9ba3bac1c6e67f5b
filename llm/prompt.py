"""A question, an image and regions as chat text. One function for training and use.

Knows the model family only through its prompt style, its chat template and its tokenizer's special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from grounding.types import Regions

from .spatial import NANO_STYLE, TEXT_STYLE, PromptStyle, escape_text, region_block

__all__ = ["NANO_STYLE", "TEXT_STYLE", "PromptRenderer", "PromptStyle", "special_tokens", "user_text"]


def user_text(
    question: str,
    regions: Regions | None,
    style: PromptStyle,
    specials: Iterable[str] = (),
    *,
    orientation: tuple[str, str] | None = None,
) -> str:
    """The region block followed by the question, escaped so that neither can hold a special token.

    In the detailed form the question's line is named as such: what looks like a region there is the user's.

    Args:
        question: The user's text.
        regions: None omits the block.
        style: How the model at hand reads regions.
        specials: The special tokens of its tokenizer, and whatever else begins a turn.
        orientation: That of the image, None where unknown.
    """
    specials = tuple(specials)
    block = region_block(regions, question, style, orientation=orientation, specials=specials)
    return block + ("Question: " if style.detailed else "") + escape_text(question, specials)


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Every special or added token of a tokenizer, longest first."""
    tokens = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return tuple(sorted(tokens, key=lambda token: (-len(token), token)))


class PromptRenderer:
    """Writes prompts for one processor: what the model reads, up to where its reply begins."""

    def __init__(self, processor: Any, style: PromptStyle) -> None:
        """Collect once what a user's text must not contain: special tokens, and the names of the turns.

        The latter are the words before a colon, as in ``USER: .. ASSISTANT:``, that an empty turn has.
        """
        self.processor = processor
        self.style = style
        self.specials = special_tokens(processor.tokenizer)
        self.specials += tuple(dict.fromkeys(re.findall(r"[A-Za-z]+:", self._turn(""))))

    def __call__(
        self,
        question: str,
        regions: Regions | None,
        *,
        orientation: tuple[str, str] | None = None,
        image: bool = True,
    ) -> str:
        """One user turn with the text, and with an image unless there is none.

        A family whose processor has no chat template gets the plain form ``USER: <image> ... ASSISTANT:``.
        """
        text = user_text(question, regions, self.style, self.specials, orientation=orientation)
        return self._turn(text, image=image)

    def _turn(self, text: str, *, image: bool = True) -> str:
        """The chat text around the user's, up to where the reply begins."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}] * image + [{"type": "text", "text": text}]
            turn = [{"role": "user", "content": content}]
            return str(self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        picture = f"{getattr(self.processor, 'image_token', '<image>')}\n" if image else ""
        return f"USER: {picture}{text} ASSISTANT:"
