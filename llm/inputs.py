"""Prompts, and replies to learn, as the tensors that a family's model takes.

Owns the turns, the processor call and the masking of labels: a training row is exactly the row that
generation sees, followed by the reply's tokens, and only those are learned. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from grounding.types import MedicalImage

from .families import Family
from .prompt import PromptRenderer, user_text
from .spatial import PromptStyle, show_regions
from .types import SpatialPrompt

IGNORED = -100  # the label that transformers' losses skip


@dataclass(frozen=True, eq=False)
class ChatExample:
    """A prompt and the reply to learn.

    Attributes:
        prompt: The question with its image and regions.
        reply: Plain text; the family's end of turn is added.
    """

    prompt: SpatialPrompt
    reply: str


class ChatInputs:
    """Builds batches for one processor."""

    def __init__(
        self, processor: Any, family: Family, style: PromptStyle, *, end_tokens: Sequence[int] = ()
    ) -> None:
        """Prepare for a processor; it is given the family's chat template where it has none.

        Args:
            processor: Of transformers, for stills.
            family: Its particulars.
            style: How regions are shown.
            end_tokens: Ids that end a reply in generation; a reply to learn ends with one of them.
        """
        self.processor, self.family, self.style = processor, family, style
        self.tokenizer = processor.tokenizer
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "left"
        self._ends = {*end_tokens, self.tokenizer.eos_token_id}
        if not getattr(processor, "chat_template", None):
            image = getattr(processor, "image_token", "<image>")
            processor.chat_template = family.chat_template.replace("IMAGE", image)
        self._render = PromptRenderer(processor, style)

    def text(self, prompt: SpatialPrompt) -> str:
        """What the model reads, up to where its reply begins."""
        return self._render(prompt.text, prompt.regions, orientation=prompt.image.orientation)

    def picture(self, prompt: SpatialPrompt) -> Image.Image:
        """What the model sees: the image, with its regions drawn where the style says so."""
        return Image.fromarray(self._shown(prompt).pixels)

    def picture_key(self, prompt: SpatialPrompt) -> str:
        """Names what the model sees: prompts with equal keys show it the same picture."""
        return self._shown(prompt).source_id

    def _shown(self, prompt: SpatialPrompt) -> MedicalImage:
        return show_regions(prompt.image, prompt.regions, prompt.text, self.style)

    def reply(self, example: ChatExample) -> list[int]:
        """Token ids of the reply as the chat template writes it, its end token included.

        Raises:
            ValueError: The template writes the reply somewhere else than after its generation prompt.
        """
        prompt, opening = example.prompt, self.text(example.prompt)
        user = user_text(
            prompt.text,
            prompt.regions,
            self.style,
            self._render.specials,
            orientation=prompt.image.orientation,
        )
        turns = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": user}]},
            {"role": "assistant", "content": [{"type": "text", "text": example.reply}]},
        ]
        whole = str(self.processor.apply_chat_template(turns, tokenize=False))
        if not whole.startswith(opening):
            raise ValueError(
                "the chat template does not continue its own generation prompt with the reply, so the"
                f" reply's tokens cannot be told apart: {whole[-120:]!r} should begin with"
                f" {opening[-60:]!r}; use a checkpoint whose template does (Instruct, not Thinking)"
            )
        ids = self.tokenizer(whole[len(opening) :].rstrip(), add_special_tokens=False)["input_ids"]
        return [*ids] if ids and ids[-1] in self._ends else [*ids, self.tokenizer.eos_token_id]

    def prompts(self, prompts: Sequence[SpatialPrompt]) -> dict[str, Tensor]:
        """Padded on the left, for generation: token ids (B, L), masks and the images."""
        texts = [self.text(prompt) for prompt in prompts]
        bos = self.tokenizer.bos_token
        inputs = self.processor(
            text=texts,
            images=[[self.picture(prompt)] for prompt in prompts],
            padding=True,
            return_tensors="pt",
            add_special_tokens=bos is None or not texts[0].startswith(bos),  # the template's own is enough
        )
        return {name: value for name, value in inputs.items() if name != "labels"}

    def examples(self, examples: Sequence[ChatExample]) -> dict[str, Tensor]:
        """Padded on the right, for training: as `prompts` with the replies appended, and ``labels`` (B, L).

        Labels are `IGNORED` but for the reply's tokens and its end.
        """
        inputs = self.prompts([example.prompt for example in examples])
        replies = [self.reply(example) for example in examples]
        used = inputs["attention_mask"].bool()
        fills = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORED}
        inputs["labels"] = torch.full_like(inputs["input_ids"], IGNORED)
        for name, table in inputs.items():
            if table.shape == used.shape and not table.is_floating_point():
                rows = [
                    torch.cat((row[mask], self._appended(name, reply)))
                    for row, mask, reply in zip(table, used, replies, strict=True)
                ]
                inputs[name] = torch.nn.utils.rnn.pad_sequence(
                    rows, batch_first=True, padding_value=fills.get(name, 0)
                )
        return inputs

    def _appended(self, name: str, reply: Sequence[int]) -> Tensor:
        """What the reply adds to one of the per-token tensors."""
        if name in ("input_ids", "labels"):
            return torch.tensor(reply)
        value = {"attention_mask": 1, "token_type_ids": self.family.reply_token_type}.get(name, 0)
        return torch.full((len(reply),), value)
