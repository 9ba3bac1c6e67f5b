"""Training examples drawn from several sets: augmentation, prompts with absent phrases, batches.

Pictures are never mirrored: left and right are meaning. A draw depends on the seed and its position only, so
a resumed run sees the examples an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..boxes import xyxy_to_cxcywh
from ..criterion import GroundingTarget
from ..preprocess import resize_square, stretch_contrast, to_tensor
from ..prompts import Prompt, build_prompt, collate_prompts
from .coco import CocoSet, Sample, read_pixels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..modeling import MedGLIPConfig


@dataclass(frozen=True)
class AugmentConfig:
    """How a training picture is varied.

    Attributes:
        crop_probability: How often a picture is cropped.
        min_crop: Smallest side of a crop as a fraction of the picture's side.
        min_visible: A box of which a smaller fraction stays visible is dropped.
        colour: Largest relative change of contrast, brightness and channel gain; gamma varies as much.
        synonym_probability: How often a label is asked for by a synonym.
        absent_phrases: Most phrases of other modalities added to a prompt.
        unknown_modality: How often the modality is withheld.
    """

    crop_probability: float = 0.6
    min_crop: float = 0.6
    min_visible: float = 0.4
    colour: float = 0.2
    synonym_probability: float = 0.2
    absent_phrases: int = 4
    unknown_modality: float = 0.5


@dataclass(frozen=True)
class Example:
    """One training example: (3, S, S) pixels, a prompt, boxes (cxcywh in [0, 1]) and the modality's row."""

    pixel_values: Tensor
    prompt: Prompt
    boxes: Tensor
    phrase_index: Tensor
    modality_id: int


class GroundingMixture(Dataset):
    """``length`` examples drawn from ``sets`` in proportion to ``weights``, each set in shuffled order."""

    def __init__(
        self,
        sets: Sequence[CocoSet],
        weights: Sequence[float],
        tokenizer: PreTrainedTokenizerBase,
        config: MedGLIPConfig,
        augment: AugmentConfig,
        length: int,
        seed: int,
    ) -> None:
        """Draw the order of all examples; the pictures are read when asked for."""
        self.sets, self.tokenizer, self.config, self.augment = sets, tokenizer, config, augment
        self.modality_ids = [frozenset(config.modality_id(m) for m in coco.modalities) for coco in sets]
        rng = np.random.default_rng(seed)
        share = np.asarray(weights, dtype=float) / sum(weights)
        choice = rng.choice(len(sets), size=length, p=share)
        self.seed = seed
        self.draws = np.zeros((length, 2), dtype=np.int64)
        self.draws[:, 0] = choice
        for index, coco in enumerate(sets):
            where = np.flatnonzero(choice == index)
            epochs = -(-len(where) // len(coco.samples))
            order = [rng.permutation(len(coco.samples)) for _ in range(epochs)]
            if order:
                self.draws[where, 1] = np.concatenate(order)[: len(where)]

    def __len__(self) -> int:
        """Examples in all."""
        return len(self.draws)

    def __getitem__(self, position: int) -> Example:
        """The example at ``position``; the same whenever it is asked for."""
        rng = np.random.default_rng((self.seed, position))
        coco = self.sets[self.draws[position, 0]]
        sample = coco.samples[self.draws[position, 1]]
        pixels, boxes, labels = augmented(sample, self.config.image_size, self.augment, rng)
        phrases, phrase_of_label = self._phrases(coco, sample, rng)
        known = rng.random() >= self.augment.unknown_modality
        return Example(
            to_tensor(pixels),
            build_prompt(self.tokenizer, phrases),
            xyxy_to_cxcywh(torch.from_numpy(boxes)),
            torch.from_numpy(phrase_of_label[labels]),
            self.config.modality_id(sample.modality) if known else 0,
        )

    def _phrases(
        self, coco: CocoSet, sample: Sample, rng: np.random.Generator
    ) -> tuple[list[str], np.ndarray]:
        """All labels of the set and some of other modalities, shuffled; and where each label stands."""
        own = []
        for label, synonyms in zip(coco.labels, coco.synonyms, strict=True):
            renamed = synonyms and rng.random() < self.augment.synonym_probability
            own.append(str(rng.choice(synonyms)) if renamed else label)
        # An unknown modality (0) on either side proves nothing absent.
        modality = self.config.modality_id(sample.modality)
        others = [
            label
            for other, ids in zip(self.sets, self.modality_ids, strict=True)
            if modality and not ids & {0, modality}
            for label in other.labels
            if label not in coco.labels and label not in own
        ]
        others = list(dict.fromkeys(others))
        count = min(int(rng.integers(0, self.augment.absent_phrases + 1)), len(others))
        absent = rng.choice(others, size=count, replace=False) if count else ()
        phrases = [*own, *(str(label) for label in absent)]
        order = rng.permutation(len(phrases))
        position = np.empty(len(phrases), dtype=np.int64)
        position[order] = np.arange(len(phrases))
        return [phrases[index] for index in order], position[: len(own)]


def augmented(
    sample: Sample, size: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A cropped, recoloured (size, size, 3) picture; boxes (n, 4) xyxy in [0, 1] of it; labels (n,)."""
    pixels = stretch_contrast(read_pixels(sample.image_path))
    height, width = pixels.shape[:2]
    crop = (0.0, 0.0, float(width), float(height))
    if rng.random() < config.crop_probability:
        crop_w, crop_h = rng.uniform(config.min_crop, 1.0, size=2) * (width, height)
        left, top = rng.uniform(0, width - crop_w), rng.uniform(0, height - crop_h)
        crop = (left, top, left + crop_w, top + crop_h)
    boxes, kept = crop_boxes(sample.boxes, crop, config.min_visible)
    return _recolour(resize_square(pixels, size, crop), config.colour, rng), boxes, sample.labels[kept]


def crop_boxes(
    boxes: np.ndarray, crop: tuple[float, float, float, float], min_visible: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clip (n, 4) xyxy pixel boxes to an xyxy crop: those kept, in [0, 1] of the crop; bool (n,) kept."""
    left, top, right, bottom = crop
    low, high = np.array([left, top, left, top]), np.array([right, bottom, right, bottom])
    clipped = np.clip(boxes, low, high)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-6)
    visible = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / area
    kept = visible >= min_visible
    scale = np.array([right - left, bottom - top] * 2)
    return ((clipped[kept] - low) / scale).astype(np.float32), kept


def _recolour(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Vary gamma, contrast, brightness and, in coloured pictures, the gain of each channel."""
    values = np.arange(256) / 255.0
    gamma = np.exp(rng.uniform(-2 * strength, 2 * strength))
    contrast, brightness = 1 + rng.uniform(-strength, strength), rng.uniform(-strength, strength) / 2
    curve = (values**gamma - 0.5) * contrast + 0.5 + brightness
    coloured = bool((pixels[::8, ::8, 0] != pixels[::8, ::8, 1]).any())
    gains = 1 + rng.uniform(-strength, strength, size=3) / 2 if coloured else np.ones(3)
    tables = (np.clip(curve[:, None] * gains, 0, 1) * 255).round().astype(np.uint8)
    return np.stack([tables[pixels[..., channel], channel] for channel in range(3)], axis=-1)


@dataclass(frozen=True)
class Batch:
    """B examples: pixel_values (B, 3, S, S), input_ids, attention_mask (B, T), modality_ids (B,), targets."""

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    modality_ids: Tensor
    targets: list[GroundingTarget]


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples; every image keeps its own prompt."""
    input_ids, attention_mask, maps = collate_prompts([example.prompt for example in examples])
    return Batch(
        torch.stack([example.pixel_values for example in examples]),
        input_ids,
        attention_mask,
        torch.tensor([example.modality_id for example in examples]),
        [
            GroundingTarget(example.boxes, example.phrase_index, positive)
            for example, positive in zip(examples, maps, strict=True)
        ],
    )
