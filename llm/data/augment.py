"""Random changes of training examples: image views, regions, wording. Never a mirror: sides matter."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from grounding.types import MedicalImage, Regions


@dataclass(frozen=True)
class View:
    """A slightly changed look at an image.

    Attributes:
        angle: Rotation about the centre, degrees, positive turns x towards y.
        scale: Magnification about the centre.
        shift: (x, y) as a fraction of the width and height.
        brightness: Factor.
        contrast: Factor.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    brightness: float = 1.0
    contrast: float = 1.0

    @classmethod
    def random(cls, rng: np.random.Generator) -> View:
        """A light random view."""
        return cls(
            angle=rng.uniform(-7, 7),
            scale=rng.uniform(0.94, 1.1),
            shift=(rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)),
            brightness=rng.uniform(0.85, 1.15),
            contrast=rng.uniform(0.85, 1.15),
        )

    def pixels(self, image: MedicalImage) -> Image.Image:
        """The image under this view, same size, black where nothing is known."""
        height, width = image.size
        matrix, offset = self._forward(width, height)
        inverse = np.linalg.inv(matrix)
        back = -inverse @ offset
        coefficients = (*inverse[0], back[0], *inverse[1], back[1])
        picture = Image.fromarray(image.pixels)
        picture = picture.transform(
            picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        picture = ImageEnhance.Brightness(picture).enhance(self.brightness)
        return ImageEnhance.Contrast(picture).enhance(self.contrast)

    def boxes(self, boxes: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
        """Where xyxy pixel boxes (N, 4) come to lie: centres moved, sides scaled but not rotated."""
        height, width = image_size
        matrix, offset = self._forward(width, height)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix.T + offset
        half = (boxes[:, 2:] - boxes[:, :2]) / 2 * self.scale
        moved = np.concatenate((centre - half, centre + half), axis=1)
        return np.clip(moved, 0, [width, height, width, height]).astype(np.float32)

    def _forward(self, width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Matrix (2, 2) and offset (2,) that take a source point (x, y) to its place in the view."""
        turn = np.deg2rad(self.angle)
        matrix = self.scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = np.array([width / 2, height / 2])
        return matrix, centre - matrix @ centre + np.array([self.shift[0] * width, self.shift[1] * height])


def vary_regions(
    regions: Regions, rng: np.random.Generator, *, view: View, drop: float, jitter: float
) -> Regions:
    """Regions under a view, each dropped with probability `drop`, its corners moved by about `jitter` of it.

    The random numbers drawn depend on the number of regions only, so equal regions change equally under equal
    seeds.
    """
    boxes = view.boxes(regions.boxes, regions.image_size)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    height, width = regions.image_size
    moved = np.clip(boxes + rng.normal(0, jitter, boxes.shape) * sides, 0, [width, height, width, height])
    ordered = np.concatenate(
        (np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])), axis=1
    )
    scores = np.clip(regions.scores + rng.normal(0, 0.05, regions.scores.shape), 0, 1)
    changed = replace(regions, boxes=ordered.astype(np.float32), scores=scores.astype(np.float32), masks=None)
    return changed[rng.random(len(regions)) >= drop]


def misplace_regions(regions: Regions, rng: np.random.Generator, probability: float) -> Regions:
    """Regions of which each is, with a probability, a false hit: its box somewhere else, its score low.

    The box keeps its size and lies inside the image; the score falls below 0.4, so that a model can learn
    what a low score is worth.
    """
    height, width = regions.image_size
    whole = np.array([width, height], dtype=np.float32)
    sides = np.minimum(regions.boxes[:, 2:] - regions.boxes[:, :2], whole)
    corner = (rng.random((len(regions), 2)) * (whole - sides)).astype(np.float32)
    moved = np.concatenate((corner, corner + sides), axis=1)
    wrong = rng.random(len(regions)) < probability
    scores = np.where(wrong, rng.uniform(0.1, 0.4, len(regions)), regions.scores)
    boxes = np.where(wrong[:, None], moved, regions.boxes)
    return replace(regions, boxes=boxes, scores=scores, masks=None)


def doubt_regions(regions: Regions, rng: np.random.Generator, probability: float) -> Regions:
    """Regions of which each that is its phrase's only one becomes, with a probability, a guess."""
    draws = rng.random(len(regions))
    counts = np.bincount(regions.phrase_index, minlength=len(regions.asked))
    doubted = (counts[regions.phrase_index] == 1) & (draws < probability)
    order = np.argsort(doubted, kind="stable")
    return replace(regions[order], doubted=doubted[order])


def guess_absent(regions: Regions, rng: np.random.Generator, probability: float) -> Regions:
    """Regions with, for each phrase that has none, with a probability a guess anywhere in the image."""
    height, width = regions.image_size
    absent = [k for k, phrase in enumerate(regions.asked) if phrase in set(regions.missing)]
    absent = [k for k, draw in zip(absent, rng.random(len(absent)), strict=True) if draw < probability]
    sides = rng.uniform(0.03, 0.6, (len(absent), 2)) * [width, height]
    corner = rng.random((len(absent), 2)) * ([width, height] - sides)
    boxes = np.concatenate((corner, corner + sides), axis=1)
    return regions.guessing(boxes, rng.uniform(0.01, 0.3, len(absent)), np.array(absent, dtype=np.int64))


def vary_question(question: str, rng: np.random.Generator) -> str:
    """The same question as another person might type it: templates resolved, case and ending varied."""
    if rng.random() < 0.3:
        question = re.sub(r"\b(Is)/(Are)\b", "Is" if rng.random() < 0.5 else "Are", question)
        question = re.sub(r"\b(is)/(are)\b", "is" if rng.random() < 0.5 else "are", question)
    if rng.random() < 0.15:
        question = question[:1].lower() + question[1:]
    if rng.random() < 0.1:
        question = question.removesuffix("?").rstrip()
    return question
