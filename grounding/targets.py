"""What is true of a training image, and what a step's losses are divided by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroundingTarget:
    """What is true of one image.

    Attributes:
        boxes: (n, 4) cxcywh in [0, 1] of the network input.
        phrase_index: (n,) which phrase of the image's prompt each box shows.
        positive_map: (P, T) bool, which tokens belong to which phrase of this image's prompt.
        unsure: (P,) bool, phrases of which a crop left too little to say that they are there or not; None =
            all are certain.
        modality_id: Row of the modality embedding that the image has in truth, 0 = unknown.
    """

    boxes: Tensor
    phrase_index: Tensor
    positive_map: Tensor
    unsure: Tensor | None = None
    modality_id: int = 0

    def to(self, device: torch.device) -> GroundingTarget:
        """The same on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            phrase_index=self.phrase_index.to(device),
            positive_map=self.positive_map.to(device),
            unsure=None if self.unsure is None else self.unsure.to(device),
        )


@dataclass(frozen=True)
class StepSize:
    """What the losses of a step are divided by: sums over all its images, whatever batch holds them.

    With W processes whose gradients are averaged, both are the sums over all processes divided by W.

    Attributes:
        boxes: Sum over images of sqrt(n), n boxes in an image and at least 1.
        images: Number of images.
    """

    boxes: float
    images: float

    @classmethod
    def of(cls, targets: Sequence[GroundingTarget]) -> StepSize:
        """The size of one batch."""
        return cls(sum(math.sqrt(max(len(target.boxes), 1)) for target in targets), float(len(targets)))

    def image_weights(self, targets: Sequence[GroundingTarget]) -> Tensor:
        """Weight of a box of each image (B,): 1 / sqrt(n), scaled so that the step's boxes sum to 1."""
        counts = torch.tensor([max(len(target.boxes), 1) for target in targets], dtype=torch.float32)
        return counts.rsqrt() / self.boxes
