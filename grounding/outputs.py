"""What passes between the stages of the network: image features, text features, predictions.

Plain frozen containers of tensors; they know nothing of the layers that fill them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """What the backbone makes of a batch of images, all levels flattened and concatenated (N tokens).

    Attributes:
        tokens: (B, N, d) projected features.
        mask: (B, N) bool, True = valid.
        position: (B, N, d) position plus level embedding.
        shapes: (height, width) of each level.
        valid_ratios: (B, levels, 2) valid fraction (x, y) of each level.
        modality_logits: (B, M) raw, one for each group of ``config.modalities``; None where dropped.
    """

    tokens: Tensor
    mask: Tensor
    position: Tensor
    shapes: list[tuple[int, int]]
    valid_ratios: Tensor
    modality_logits: Tensor | None = None

    def repeat(self, count: int) -> ImageFeatures:
        """The features of one image (B = 1) for ``count`` prompts, without copying memory."""
        if self.tokens.shape[0] != 1:
            raise ValueError(f"expected the features of one image, got a batch of {self.tokens.shape[0]}")

        def expand(tensor: Tensor) -> Tensor:
            return tensor.expand(count, *tensor.shape[1:])

        return ImageFeatures(
            expand(self.tokens),
            expand(self.mask),
            expand(self.position),
            self.shapes,
            expand(self.valid_ratios),
            None if self.modality_logits is None else expand(self.modality_logits),
        )


@dataclass(frozen=True)
class TextFeatures:
    """What the text encoder makes of a batch of prompts of T tokens.

    Attributes:
        tokens: (B, T, d) projected features.
        mask: (B, T) bool, True = a real token.
        attention: (B, T, T) bool, True = same phrase, may attend.
        position_ids: (B, T) position within the phrase.
    """

    tokens: Tensor
    mask: Tensor
    attention: Tensor
    position_ids: Tensor


@dataclass(frozen=True)
class LayerPredictions:
    """What every decoder layer says of some queries: logits (L, B, Q, T), boxes (L, B, Q, 4) cxcywh."""

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class GroundingOutput:
    """Predictions of one forward pass; boxes are cxcywh in [0, 1] of the (padded) input, logits are raw.

    Attributes:
        logits: (B, Q, T) one logit for each query and prompt token; -inf on padding tokens.
        pred_boxes: (B, Q, 4).
        layer_logits: (L, B, Q, T) of every decoder layer, the last equal to ``logits``.
        layer_boxes: (L, B, Q, 4).
        proposal_logits: (B, N, T) of the encoder's proposals, with gradient.
        proposal_boxes: (B, N, 4), with gradient; NaN-free, invalid proposals are boxes at (1, 1, 1, 1).
        presence_logits: (B, T) whether what a token's phrase names is in the image at all, -inf on padding;
            None where the configuration has no presence score.
        modality_logits: (B, M) of the modality head, raw.
        denoising: Predictions of the denoising queries, in training only.
        many: Predictions of the one-to-many queries, in training only.
    """

    logits: Tensor
    pred_boxes: Tensor
    layer_logits: Tensor
    layer_boxes: Tensor
    proposal_logits: Tensor
    proposal_boxes: Tensor
    presence_logits: Tensor | None = None
    modality_logits: Tensor | None = None
    denoising: LayerPredictions | None = None
    many: LayerPredictions | None = None
