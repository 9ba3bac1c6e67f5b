"""Instructions as packed batches: which questions share a row, how each is varied, and their token ids.

Everything follows from (seed, epoch, row), so a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from grounding.types import MedicalImage, Regions

from ..config import TrainConfig
from ..nano.modeling import NanoVLMForConditionalGeneration
from ..prompt import NANO_STYLE, PromptRenderer
from .augment import View, vary_question
from .instructions import Instruction
from .mixture import Source, draw_epoch, noise_of, noisy_regions
from .packing import Example, PackedBatch, pack

_POOL = 12  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Row:
    """Questions (indices) of one source about one image that share a row; `seed` fixes their variation."""

    questions: tuple[int, ...]
    seed: tuple[int, ...]


class ImageBank:
    """Vision features of every image: first of the plain picture, then of its random views."""

    def __init__(
        self,
        model: NanoVLMForConditionalGeneration,
        processor: Any,
        items: Sequence[Instruction],
        *,
        views: int,
        seed: int,
    ) -> None:
        """Read the images and run the vision tower over them.

        Args:
            model: Holds the vision tower.
            processor: Nano's processor.
            items: Whose images.
            views: Random views of each, unless all its questions are about what must stay in place.
            seed: Of the views.
        """
        self.views: dict[Path, list[View]] = {}
        self.features: dict[Path, Tensor] = {}
        paths = {item.image_path for item in items if item.image_path}
        moving = {item.image_path for item in items if noise_of(item).views}
        for number, path in enumerate(tqdm(sorted(paths), desc="vision features", disable=None)):
            image = MedicalImage.open(path)
            rng = np.random.default_rng([seed, 1, number])
            self.views[path] = [View(), *(View.random(rng) for _ in range(views if path in moving else 0))]
            pictures = [view.pixels(image) for view in self.views[path]]
            pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                self.features[path] = model.vision_features(pixels).to(torch.bfloat16)


class InstructionBatches:
    """The batches of a mixture."""

    def __init__(
        self, sources: Sequence[Source], bank: ImageBank, processor: Any, config: TrainConfig
    ) -> None:
        """Prepare the questions.

        Args:
            sources: What is asked.
            bank: Features of the sources' images.
            processor: Nano's processor.
            config: The recipe.
        """
        self.sources, self.bank, self.config = tuple(sources), bank, config
        self.items = tuple(item for source in sources for item in source.items)
        self.source_of = tuple(source.name for source in sources for _ in source.items)
        self._render = PromptRenderer(processor, NANO_STYLE)
        self._expand, self._tokenizer = processor.expand, processor.tokenizer
        self._blocks = [
            () if item.regions is None else (item.regions.boxes.tobytes(), item.regions.phrases)
            for item in self.items
        ]
        self._lengths = [self._length(item) for item in self.items]

    def epoch(self, epoch: int) -> list[list[Row]]:
        """The shuffled batches of an epoch: rows of similar length go together."""
        rng = np.random.default_rng([self.config.seed, 2, epoch])
        drawn = draw_epoch(self.sources, rng, self.config.questions_per_row)
        rows = self._rows(drawn, epoch, rng)
        mean = sum(len(row.questions) for row in rows) / len(rows)
        pool = _POOL * max(1, round(self.config.questions_per_batch / mean))
        ordered: list[Row] = []
        for number, start in enumerate(range(0, len(rows), pool)):  # up and down: no rests
            ordered += sorted(rows[start : start + pool], key=self._row_length, reverse=number % 2 == 1)
        batches = self._cut(ordered)
        return [batches[i] for i in rng.permutation(len(batches))]

    def in_order(self) -> list[list[Row]]:
        """The batches for evaluation: unshuffled and, through `build` with vary=False, unvaried."""
        return self._cut(self._rows(range(len(self.items)), 0, None))

    def build(self, batch: Sequence[Row], *, vary: bool = True) -> tuple[PackedBatch, Tensor | None]:
        """Token ids of a batch and its vision features (rows with an image, image tokens, vision size).

        They are None where no row has an image.
        """
        rows, features = [], []
        for row in batch:
            rng = np.random.default_rng([self.config.seed, 3, *row.seed])
            path, view = self.items[row.questions[0]].image_path, View()
            if path is not None:
                moving = vary and all(noise_of(self.items[index]).views for index in row.questions)
                number = int(rng.integers(len(self.bank.views[path]))) if moving else 0
                view = self.bank.views[path][number]
                features.append(self.bank.features[path][number])
            packed = []
            for index in row.questions:
                item = self.items[index]
                question, regions = item.question, item.regions
                if vary:  # equal regions change equally, so that their questions share them
                    question = vary_question(question, rng)
                    alike = np.random.default_rng([self.config.seed, 4, *row.seed])
                    regions = noisy_regions(item, view, alike)
                packed.append(self._encode(item, question, regions))
            rows.append(packed)
        return pack(rows, self._tokenizer.pad_token_id), torch.stack(features) if features else None

    def _encode(self, item: Instruction, question: str, regions: Regions | None) -> Example:
        """Token ids of one question and its answer with the end token."""
        text = self._expand(self._render(question, regions, image=item.image_path is not None))
        prompt = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        reply = self._tokenizer(item.answer, add_special_tokens=False)["input_ids"]
        return Example(tuple(prompt), (*reply, self._tokenizer.eos_token_id))

    def _rows(self, drawn: Sequence[int], epoch: int, rng: np.random.Generator | None) -> list[Row]:
        """Group questions by source and image, equal regions side by side; shuffled where `rng` is given."""
        by_image: dict[Any, dict[Any, list[int]]] = {}
        for index in drawn:
            blocks = by_image.setdefault((self.source_of[index], self.items[index].image_path), {})
            blocks.setdefault(self._blocks[index], []).append(index)
        groups = []
        for blocks in by_image.values():
            questions = [index for same in blocks.values() for index in same]
            parts = -(-len(questions) // self.config.questions_per_row)
            groups += [tuple(part.tolist()) for part in np.array_split(questions, parts)]
        shuffled = groups if rng is None else [groups[i] for i in rng.permutation(len(groups))]
        return [Row(group, (epoch, number)) for number, group in enumerate(shuffled)]

    def _cut(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Consecutive rows until each batch has its number of questions."""
        batches: list[list[Row]] = [[]]
        for row in rows:
            if sum(len(r.questions) for r in batches[-1]) >= self.config.questions_per_batch:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _length(self, item: Instruction) -> tuple[int, int]:
        """Tokens of a question's prompt with its regions, and of what it shares with no other question."""
        whole = self._encode(item, item.question, item.regions)
        own = len(self._tokenizer(item.question)["input_ids"]) + len(whole.answer) + 5
        return len(whole.prompt), own

    def _row_length(self, row: Row) -> int:
        """About how many tokens a row has."""
        lengths = [self._lengths[i] for i in row.questions]
        return max(whole for whole, _ in lengths) + sum(own for _, own in lengths)
