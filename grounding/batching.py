"""Batches of encoded images and prompts: taking one out, putting several together.

Knows :class:`ImageFeatures` and :class:`TextFeatures` as tensors with a batch axis, not how they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .modeling import ImageFeatures, TextFeatures


def one_image(features: ImageFeatures, index: int) -> ImageFeatures:
    """The features of one image of a batch, still with a batch axis of 1."""
    tensors = _tensors(features)
    part: dict[str, Any] = {name: tensor[index : index + 1] for name, tensor in tensors.items()}
    return replace(features, **part)


def join_images(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Several images' features as one batch; their level shapes must be equal (encoded in one batch).

    One image given several times is not copied.
    """
    if all(part is parts[0] for part in parts):
        return parts[0].repeat(len(parts))
    rows = [_tensors(part) for part in parts]
    joined: dict[str, Any] = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return replace(parts[0], **joined)


def _tensors(features: ImageFeatures) -> dict[str, Tensor]:
    """The fields that have a batch axis."""
    values = {each.name: getattr(features, each.name) for each in fields(features)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def join_texts(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Several prompts' features as one batch, padded to the longest.

    Padding is masked and attends to itself alone, as it does where a batch is encoded together.
    """
    length = max(part.mask.shape[1] for part in parts)
    missing = [length - part.mask.shape[1] for part in parts]
    own = torch.eye(length, dtype=torch.bool, device=parts[0].mask.device)
    padded = list(zip(parts, missing, strict=True))
    return TextFeatures(
        tokens=torch.cat([pad(part.tokens, (0, 0, 0, m)) for part, m in padded]),
        mask=torch.cat([pad(part.mask, (0, m)) for part, m in padded]),
        attention=torch.cat([pad(part.attention, (0, m, 0, m)) | own for part, m in padded]),
        position_ids=torch.cat([pad(part.position_ids, (0, m)) for part, m in padded]),
    )
