"""A question, an image and regions as chat text. One function for training and use.

Knows the model family only through its box format and its tokenizer's special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grounding.types import Regions

from .spatial import BoxFormat, LocTokens, TextBoxes, escape_text, region_block


@dataclass(frozen=True)
class PromptStyle:
    """What a model family wants to read.

    Attributes:
        box_format: How boxes are written.
        region_limit: The most regions in a prompt, None for all.
    """

    box_format: BoxFormat
    region_limit: int | None


NANO_STYLE = PromptStyle(LocTokens(), region_limit=6)
TEXT_STYLE = PromptStyle(TextBoxes(), region_limit=40)


def user_text(
    question: str, regions: Regions | None, style: PromptStyle, specials: Iterable[str] = ()
) -> str:
    """The region block followed by the question, escaped so that neither can hold a special token."""
    specials = tuple(specials)
    block = region_block(regions, question, style.box_format, limit=style.region_limit, specials=specials)
    return block + escape_text(question, specials)


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Every special or added token of a tokenizer, longest first."""
    tokens = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    return tuple(sorted(tokens, key=lambda token: (-len(token), token)))


class PromptRenderer:
    """Writes prompts for one processor: what the model reads, up to where its reply begins."""

    def __init__(self, processor: Any, style: PromptStyle) -> None:
        """Collect the special tokens of the processor's tokenizer once."""
        self.processor = processor
        self.style = style
        self.specials = special_tokens(processor.tokenizer)

    def __call__(self, question: str, regions: Regions | None) -> str:
        """One user turn with an image and the text.

        A family whose processor has no chat template gets the plain form ``USER: <image> ... ASSISTANT:``.
        """
        text = user_text(question, regions, self.style, self.specials)
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": text}]
            turn = [{"role": "user", "content": content}]
            return str(self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        return f"USER: {getattr(self.processor, 'image_token', '<image>')}\n{text} ASSISTANT:"
