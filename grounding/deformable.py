"""Multi-scale deformable attention on CPU as a sparse product.

Every query reads a few points of every level, each blended from its four neighbours: a weighted sum of rows
of the value table. Written so, it is one ``embedding_bag`` forward and one sparse product backward, where the
library samples level by level with ``grid_sample`` and multiplies the samples afterwards. The numbers are the
library's but for rounding; on other devices the library's own implementation runs.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoMultiscaleDeformableAttention,
    MultiScaleDeformableAttention,
)


class SparseDeformableAttention(MultiScaleDeformableAttention):
    """A drop-in for the library's sampling module; it has no parameters."""

    def forward(
        self,
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_spatial_shapes_list: list[tuple[int, int]],
        level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """Sample and sum (Deformable DETR, Zhu et al., 2021, eq. 3).

        Args:
            value: (B, N, H, D), the levels one after the other.
            value_spatial_shapes: (L, 2) height and width of each level.
            value_spatial_shapes_list: the same as integers.
            level_start_index: (L,) first row of each level.
            sampling_locations: (B, Q, H, L, P, 2) x, y in [0, 1] of the level; points outside read zeros.
            attention_weights: (B, Q, H, L, P).
            im2col_step: of the CUDA kernels; unused here.

        Returns:
            (B, Q, H * D) in the dtype of ``value``.
        """
        if value.device.type != "cpu":
            sampled: Tensor = super().forward(
                value,
                value_spatial_shapes,
                value_spatial_shapes_list,
                level_start_index,
                sampling_locations,
                attention_weights,
                im2col_step,
            )
            return sampled
        batch, tokens, heads, channels = value.shape
        queries = sampling_locations.shape[1]
        with torch.autocast("cpu", enabled=False):
            index, weights = _neighbours(
                sampling_locations.float(), attention_weights.float(), value_spatial_shapes_list, tokens
            )
            rows = value.float().reshape(batch * tokens * heads, channels)
            summed = _weighted_rows(rows, index, weights)
        return summed.view(batch, queries, heads * channels).to(value.dtype)


def use_sparse_attention(model: nn.Module) -> None:
    """Give every deformable attention of a model the sparse sampling."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoMultiscaleDeformableAttention):
            module.attn = SparseDeformableAttention()


def _neighbours(
    locations: Tensor, attention: Tensor, shapes: list[tuple[int, int]], tokens: int
) -> tuple[Tensor, Tensor]:
    """Rows of the value table (B * N * H) that each query reads, and their weights.

    Both are (B * Q * H, L * P * 4).

    Args:
        locations: (B, Q, H, L, P, 2) x, y in [0, 1].
        attention: (B, Q, H, L, P).
        shapes: (height, width) of each level.
        tokens: N.
    """
    batch, _, heads = locations.shape[:3]
    height, width = (torch.tensor(sides)[:, None] for sides in zip(*shapes, strict=True))
    start = torch.tensor([0] + [h * w for h, w in shapes[:-1]]).cumsum(0)[:, None]
    x = locations[..., 0] * width - 0.5
    y = locations[..., 1] * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    x_share, y_share = x - left, y - top
    left, top = left.int(), top.int()
    first = start + tokens * torch.arange(batch).view(-1, 1, 1, 1, 1)
    head = torch.arange(heads).view(-1, 1, 1)
    index, weights = [], []
    for row, row_weight in ((top, (1 - y_share) * attention), (top + 1, y_share * attention)):
        row_weight = row_weight * ((row >= 0) & (row < height))
        row_start = row.clamp(min=0).minimum(height - 1) * width + first
        for column, column_weight in ((left, 1 - x_share), (left + 1, x_share)):
            inside = (column >= 0) & (column < width)
            column = column.clamp(min=0).minimum(width - 1)
            index.append((row_start + column) * heads + head)
            weights.append(row_weight * column_weight * inside)
    return (
        torch.stack(index, -1).flatten(3).flatten(0, 2),
        torch.stack(weights, -1).flatten(3).flatten(0, 2),
    )


def _weighted_rows(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Sum over k of ``weights[q, k] * rows[index[q, k]]``: (R, D), (M, K), (M, K) -> (M, D)."""
    if torch.is_grad_enabled() and (rows.requires_grad or weights.requires_grad):
        summed: Tensor = _WeightedRows.apply(rows, index, weights)  # type: ignore[no-untyped-call]
        return summed
    return F.embedding_bag(index, rows, mode="sum", per_sample_weights=weights)


class _WeightedRows(torch.autograd.Function):
    """embedding_bag whose gradient of the rows is a sparse product: torch's own sorts all indices."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.weights = weights.detach().requires_grad_()
            ctx.summed = F.embedding_bag(index, rows.detach(), mode="sum", per_sample_weights=ctx.weights)
        ctx.count = len(rows)
        ctx.save_for_backward(index)
        return ctx.summed.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        (grad,) = grads
        (index,) = ctx.saved_tensors
        (grad_weights,) = torch.autograd.grad(ctx.summed, ctx.weights, grad)
        ends = torch.arange(0, index.numel() + 1, index.shape[1])
        entries = (ctx.weights.detach().flatten().numpy(), index.flatten().numpy(), ends.numpy())
        table = csr_matrix(entries, shape=(len(index), ctx.count))
        return torch.from_numpy(table.T @ grad.contiguous().numpy()), None, grad_weights
