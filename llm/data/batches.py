"""VQA examples as packed batches: which questions share a row, how each is varied, and their token ids.

Everything follows from (seed, epoch, row), so a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grounding.types import MedicalImage, Regions

from ..config import TrainConfig
from ..nano.modeling import NanoVLMForConditionalGeneration
from ..prompt import NANO_STYLE, PromptRenderer
from .augment import View, vary_question, vary_regions
from .packing import Example, PackedBatch, pack
from .vqa_rad import VQAExample

_POOL = 12  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Row:
    """Questions (indices) about one image that share a row; `seed` fixes their variation."""

    questions: tuple[int, ...]
    seed: tuple[int, ...]


class ImageBank:
    """Vision features of every image: first of the plain picture, then of its random views."""

    def __init__(
        self,
        model: NanoVLMForConditionalGeneration,
        processor: Any,
        paths: Sequence[Path],
        *,
        views: int,
        seed: int,
    ) -> None:
        """Read the images and run the vision tower over them."""
        self.views: dict[Path, list[View]] = {}
        self.features: dict[Path, Tensor] = {}
        for number, path in enumerate(sorted(set(paths))):
            image = MedicalImage.open(path)
            rng = np.random.default_rng([seed, 1, number])
            self.views[path] = [View(), *(View.random(rng) for _ in range(views))]
            pictures = [view.pixels(image) for view in self.views[path]]
            pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                self.features[path] = model.vision_features(pixels).to(torch.bfloat16)


class VQABatches:
    """The batches of a split."""

    def __init__(
        self,
        examples: Sequence[VQAExample],
        regions: Mapping[str, Regions] | None,
        bank: ImageBank,
        processor: Any,
        config: TrainConfig,
    ) -> None:
        """Prepare the questions.

        Args:
            examples: The questions of a split.
            regions: Regions of every question by ``qid``; None omits the region block everywhere.
            bank: Features of the examples' images.
            processor: Nano's processor.
            config: The recipe.
        """
        self.examples, self.bank, self.config = examples, bank, config
        self.regions = [None if regions is None else regions[e.qid] for e in examples]
        self.answers = canonical_answers([e.answer for e in examples])
        self._render = PromptRenderer(processor, NANO_STYLE)
        self._expand, self._tokenizer = processor.expand, processor.tokenizer
        self._blocks = [() if r is None else (r.boxes.tobytes(), r.phrases) for r in self.regions]
        self._lengths = [self._length(i) for i in range(len(examples))]

    def epoch(self, epoch: int) -> list[list[Row]]:
        """The shuffled batches of an epoch: rows of similar length go together."""
        rng = np.random.default_rng([self.config.seed, 2, epoch])
        rows = self._rows(rng, epoch)
        mean = len(self.examples) / len(rows)
        pool = _POOL * max(1, round(self.config.questions_per_batch / mean))
        ordered: list[Row] = []
        for number, start in enumerate(range(0, len(rows), pool)):  # up and down: no rests
            ordered += sorted(rows[start : start + pool], key=self._row_length, reverse=number % 2 == 1)
        batches = self._cut(ordered)
        return [batches[i] for i in rng.permutation(len(batches))]

    def in_order(self) -> list[list[Row]]:
        """The batches for evaluation: unshuffled and, through `build` with vary=False, unvaried."""
        return self._cut(self._rows(None, 0))

    def build(self, batch: Sequence[Row], *, vary: bool = True) -> tuple[PackedBatch, Tensor]:
        """Token ids of a batch and its vision features (rows, image tokens, vision size)."""
        rows, features = [], []
        for row in batch:
            rng = np.random.default_rng([self.config.seed, 3, *row.seed])
            path = self.examples[row.questions[0]].image_path
            number = int(rng.integers(len(self.bank.views[path]))) if vary else 0
            omit = vary and bool(rng.random() < self.config.drop_block)
            features.append(self.bank.features[path][number])
            packed = []
            for index in row.questions:
                question, regions = self.examples[index].question, None if omit else self.regions[index]
                if vary:
                    question = vary_question(question, rng)
                if vary and regions is not None:
                    regions = vary_regions(
                        regions,
                        np.random.default_rng([self.config.seed, 4, *row.seed]),
                        view=self.bank.views[path][number],
                        drop=self.config.drop_region,
                        jitter=self.config.jitter_region,
                    )
                packed.append(self._encode(question, regions, self.answers[index]))
            rows.append(packed)
        return pack(rows, self._tokenizer.pad_token_id), torch.stack(features)

    def _encode(self, question: str, regions: Regions | None, answer: str) -> Example:
        """Token ids of one question and its answer with the end token."""
        text = self._expand(self._render(question, regions))
        prompt = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        reply = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        return Example(tuple(prompt), (*reply, self._tokenizer.eos_token_id))

    def _rows(self, rng: np.random.Generator | None, epoch: int) -> list[Row]:
        """Group the questions of each image, equal regions side by side; shuffled where `rng` is given."""
        order = range(len(self.examples)) if rng is None else rng.permutation(len(self.examples)).tolist()
        by_image: dict[Path, dict[Any, list[int]]] = {}
        for index in order:
            blocks = by_image.setdefault(self.examples[index].image_path, {})
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

    def _length(self, index: int) -> tuple[int, int]:
        """Tokens of a question's prompt with its regions, and of what it shares with no other question."""
        example = self.examples[index]
        whole = self._encode(example.question, self.regions[index], self.answers[index])
        own = len(self._tokenizer(example.question)["input_ids"]) + len(whole.answer) + 5
        return len(whole.prompt), own

    def _row_length(self, row: Row) -> int:
        """About how many tokens a row has."""
        lengths = [self._lengths[i] for i in row.questions]
        return max(whole for whole, _ in lengths) + sum(own for _, own in lengths)


def check_regions(examples: Sequence[VQAExample], regions: Mapping[str, Regions]) -> None:
    """Raise ValueError where some question has no regions (none found is an empty `Regions`)."""
    if absent := [e.qid for e in examples if e.qid not in regions]:
        raise ValueError(
            f"{len(absent)} of {len(examples)} questions have no regions, such as {absent[:3]};"
            " write them with `python -m medglip_agent.evidence` for this split"
        )


def canonical_answers(answers: Sequence[str]) -> list[str]:
    """Answers in one spelling: capitalised words in lower case, acronyms kept, then the most frequent casing.

    "Yes" -> "yes", "Right lung" -> "right lung", "CT" -> "CT", "X-ray" -> "X-ray".
    """
    plain = [
        re.sub(r"\b[A-Z][a-z]+\b|^A(?= )", lambda m: m[0].lower(), answer).rstrip(". ") or answer
        for answer in answers
    ]
    casings: dict[str, Counter[str]] = {}
    for answer in plain:
        casings.setdefault(answer.lower(), Counter())[answer] += 1
    return [casings[answer.lower()].most_common(1)[0][0] for answer in plain]
