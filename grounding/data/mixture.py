"""Training examples drawn from several sets: augmentation, prompts with absent phrases, noise, batches.

Pictures are never mirrored, since left and right are meaning, but for those of sets in which nothing has a
side. A draw depends on the seed and its position only, so a resumed run sees the examples an uninterrupted
one would have seen. Pictures travel as bytes and become numbers on the device that computes, a quarter of
the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..backbone import IMAGENET_MEAN, IMAGENET_STD
from ..boxes import xyxy_to_cxcywh
from ..denoising import DenoisingConfig, DenoisingQueries, NoisedBoxes, collate_denoising, noised_boxes
from ..modality import build_modality_prompt
from ..preprocess import resize_square, stretch_contrast
from ..prompts import Prompt, collate_prompts
from ..targets import GroundingTarget
from .coco import CocoSet, Sample, read_pixels
from .crops import Crop, close_crop, crop_boxes, visible

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
        close_probability: How often a picture is cropped to a small part instead: as often with a box as
            beside all boxes, where each label is known to be absent.
        colour: Largest relative change of contrast, brightness and channel gain; gamma varies as much.
        synonym_probability: How often a label is asked for by a synonym.
        absent_phrases: Most phrases of other modalities added to a prompt.
        annotated_absent: How often a label that the set annotates and the picture does not show is asked.
        unknown_modality: How often the modality is withheld.
    """

    crop_probability: float = 0.6
    min_crop: float = 0.6
    min_visible: float = 0.4
    close_probability: float = 0.0
    colour: float = 0.2
    synonym_probability: float = 0.2
    absent_phrases: int = 4
    annotated_absent: float = 1.0
    unknown_modality: float = 0.5


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        prompt: What is asked, P phrases.
        boxes: (n, 4) float32 cxcywh in [0, 1].
        phrase_index: (n,) phrase of each box.
        unsure: (P,) bool, phrases of which a crop left too little to call them present or absent.
        modality_id: The modality's row as the network is told it, 0 = withheld or unknown.
        true_modality_id: The modality's row.
        noised: Denoising queries.
    """

    pixels: Tensor
    prompt: Prompt
    boxes: Tensor
    phrase_index: Tensor
    unsure: Tensor
    modality_id: int
    true_modality_id: int
    noised: NoisedBoxes


class GroundingMixture(Dataset):
    """Examples drawn from ``sets`` in proportion to ``weights``, each set in shuffled order."""

    def __init__(
        self,
        sets: Sequence[CocoSet],
        weights: Sequence[float],
        tokenizer: PreTrainedTokenizerBase,
        config: MedGLIPConfig,
        augment: AugmentConfig,
        sides: np.ndarray,
        seed: int,
        denoising: DenoisingConfig | None = None,
    ) -> None:
        """Draw the order of all examples; the pictures are read when asked for.

        ``sides`` holds the side in pixels of each example's picture: as many as there are examples.
        """
        length, self.sides = len(sides), sides
        self.sets, self.tokenizer, self.config, self.augment = sets, tokenizer, config, augment
        self.denoising = denoising or DenoisingConfig()
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
        pixels, boxes, labels, cut = augmented(sample, int(self.sides[position]), self.augment, rng)
        if coco.turned:
            pixels, boxes = turned(pixels, boxes, int(rng.integers(8)))
        phrases, phrase_of_label = self._phrases(coco, sample, set(labels.tolist()), rng)
        known = rng.random() >= self.augment.unknown_modality
        true_modality = self.config.modality_id(sample.modality)
        modality = true_modality if known else 0
        unsure = np.zeros(len(phrases), dtype=bool)
        unsure[[place for place in phrase_of_label[np.setdiff1d(cut, labels)] if place >= 0]] = True
        centred, index = xyxy_to_cxcywh(boxes), phrase_of_label[labels]
        return Example(
            torch.from_numpy(pixels),
            build_modality_prompt(self.tokenizer, phrases, self.config, modality),
            torch.from_numpy(centred),
            torch.from_numpy(index),
            torch.from_numpy(unsure),
            modality,
            true_modality,
            noised_boxes(centred, index, len(phrases), self.denoising, rng),
        )

    def _phrases(
        self, coco: CocoSet, sample: Sample, present: set[int], rng: np.random.Generator
    ) -> tuple[list[str], np.ndarray]:
        """Labels of the set and of other modalities, shuffled; and where each label stands (-1 = unasked).

        Labels of the set that are not ``present`` are asked as often as ``annotated_absent`` says.
        """
        asked = [
            index
            for index in range(len(coco.labels))
            if index in present
            or self.augment.annotated_absent == 1.0
            or rng.random() < self.augment.annotated_absent
        ] or [int(rng.integers(len(coco.labels)))]
        own = []
        for index in asked:
            synonyms = coco.synonyms[index]
            renamed = synonyms and rng.random() < self.augment.synonym_probability
            own.append(str(rng.choice(synonyms)) if renamed else coco.labels[index])
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
        place = np.empty(len(phrases), dtype=np.int64)
        place[order] = np.arange(len(phrases))
        position = np.full(len(coco.labels), -1, dtype=np.int64)
        position[asked] = place[: len(asked)]
        return [phrases[index] for index in order], position


def augmented(
    sample: Sample, size: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A cropped and recoloured picture with its boxes.

    Returns:
        (size, size, 3) uint8 pixels; (n, 4) boxes xyxy in [0, 1] of them; (n,) labels; labels of the boxes of
        which the crop left a part, but too little to keep them.
    """
    pixels = stretch_contrast(read_pixels(sample.image_path))
    height, width = pixels.shape[:2]
    crop: Crop = (0.0, 0.0, float(width), float(height))
    if rng.random() < config.crop_probability:
        crop_w, crop_h = rng.uniform(config.min_crop, 1.0, size=2) * (width, height)
        left, top = rng.uniform(0, width - crop_w), rng.uniform(0, height - crop_h)
        crop = (left, top, left + crop_w, top + crop_h)
    if config.close_probability and rng.random() < config.close_probability:
        beside = bool(rng.random() < 0.5)
        crop = close_crop(sample.boxes, (width, height), config.min_visible, beside, rng) or crop
    boxes, kept = crop_boxes(sample.boxes, crop, config.min_visible)
    cut = sample.labels[~kept & (visible(sample.boxes, crop) > 0)]
    return _recolour(resize_square(pixels, size, crop), config.colour, rng), boxes, sample.labels[kept], cut


def turned(pixels: np.ndarray, boxes: np.ndarray, symmetry: int) -> tuple[np.ndarray, np.ndarray]:
    """A square picture and its boxes under one of the square's eight symmetries.

    Args:
        pixels: (S, S, 3).
        boxes: (n, 4) xyxy in [0, 1] of the picture.
        symmetry: 0 .. 7; 0 changes nothing, the upper four are the lower four mirrored at the diagonal.
    """
    if symmetry & 1:
        pixels, boxes = (
            pixels[:, ::-1],
            np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1),
        )
    if symmetry & 2:
        pixels, boxes = (
            pixels[::-1],
            np.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], 1),
        )
    if symmetry & 4:
        pixels, boxes = pixels.swapaxes(0, 1), boxes[:, [1, 0, 3, 2]]
    return np.ascontiguousarray(pixels), boxes


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
    """B examples.

    Attributes:
        pixels: (B, S, S, 3) uint8 RGB.
        input_ids: (B, T).
        attention_mask: (B, T), 1 = a real token.
        modality_ids: (B,).
        targets: One for each image.
        denoising: None where there are no such queries.
    """

    pixels: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    modality_ids: Tensor
    targets: list[GroundingTarget]
    denoising: DenoisingQueries | None = None

    @property
    def pixel_values(self) -> Tensor:
        """(B, 3, S, S) float32, ImageNet-normalised, channels last in memory."""
        mean, std = (
            torch.tensor(values, device=self.pixels.device) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        return ((self.pixels.float().div_(255.0) - mean) / std).permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            self.pixels.to(device),
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.modality_ids.to(device),
            [target.to(device) for target in self.targets],
            None if self.denoising is None else self.denoising.to(device),
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples; every image keeps its own prompt."""
    input_ids, attention_mask, maps = collate_prompts([example.prompt for example in examples])
    return Batch(
        torch.stack([example.pixels for example in examples]),
        input_ids,
        attention_mask,
        torch.tensor([example.modality_id for example in examples]),
        [
            GroundingTarget(
                example.boxes, example.phrase_index, positive, example.unsure, example.true_modality_id
            )
            for example, positive in zip(examples, maps, strict=True)
        ],
        collate_denoising(
            [example.noised for example in examples],
            [example.boxes for example in examples],
            [example.phrase_index for example in examples],
            maps,
        ),
    )
