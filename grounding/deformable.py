"""Multi-scale deformable attention on CPU as a sparse product.

Every query reads a few points of every level, each blended from its four neighbours: a weighted sum of rows
of the value table. Written so, it is one ``embedding_bag`` forward and one sparse product backward, where the
library samples level by level with ``grid_sample`` and multiplies the samples afterwards. Each level lies in
the table with a border of zeros, so that points outside need no mask. The numbers are the library's but for
rounding; on other devices the library's own implementation runs.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoDeformableLayer,
    MMGroundingDinoMultiscaleDeformableAttention,
)


class LeanDeformableAttention(MMGroundingDinoMultiscaleDeformableAttention):
    """A drop-in for the library's module, with its parameters; on CPU it samples by :func:`sample`."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        spatial_shapes_list: list[tuple[int, int]] | None = None,
        level_start_index: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What queries (B, Q, d) take from the levels (B, N, d), and the weights (B, Q, H, L, P).

        ``reference_points`` are (B, Q, L, 2) points or (B, Q, L, 4) cxcywh boxes in [0, 1];
        ``attention_mask`` (B, N) is True on real tokens.
        """
        if hidden_states.device.type != "cpu" or spatial_shapes_list is None or reference_points is None:
            result: tuple[Tensor, Tensor] = super().forward(
                hidden_states,
                attention_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                position_embeddings,
                reference_points,
                spatial_shapes,
                spatial_shapes_list,
                level_start_index,
                output_attentions,
            )
            return result
        query = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        if torch.is_autocast_enabled("cpu"):
            query = query.to(torch.get_autocast_dtype("cpu"))  # once for two layers
        value = self.value_proj(encoder_hidden_states)
        if attention_mask is not None and not attention_mask.all():
            value = value.masked_fill(~attention_mask[..., None], 0.0)
        points = (self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*points, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1))
        weights = weights.softmax(-1).unflatten(-1, points[1:])
        with torch.autocast("cpu", enabled=False):
            x, y = _pixels(reference_points.float(), offsets.float(), spatial_shapes_list)
            sampled = sample(value.unflatten(-1, (self.n_heads, -1)), x, y, weights, spatial_shapes_list)
        return self.output_proj(sampled), weights


def _pixels(references: Tensor, offsets: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Columns and rows (B, Q, H, L, P) of the points, 0 = the middle of the first pixel of their level.

    Offsets (B, Q, H, L, P, 2) count pixels from a point, and P halves of the sides from the centre of a box.
    """
    sides = torch.tensor(shapes, dtype=torch.float32).flip(1)  # (L, 2) width, height
    start = (references[..., :2] * sides - 0.5)[:, :, None, :, None]
    if references.shape[-1] == 4:
        scale = references[..., 2:] * sides * (0.5 / offsets.shape[-2])
        points = torch.addcmul(start, offsets, scale[:, :, None, :, None])
    else:
        points = start + offsets
    return points[..., 0], points[..., 1]


class LeanDeformableLayer(MMGroundingDinoDeformableLayer):
    """A drop-in for the library's encoder layer, with its parameters.

    Training without dropout, it looks for no infinities: bfloat16 and float32 do not overflow here.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        spatial_shapes_list: list[tuple[int, int]] | None = None,
        level_start_index: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """New image tokens (B, N, d) and the attention's weights; arguments as in the library."""
        places = (
            position_embeddings,
            reference_points,
            spatial_shapes,
            spatial_shapes_list,
            level_start_index,
        )
        if not (self._is_plain() and hidden_states.device.type == "cpu" and torch.is_grad_enabled()):
            result: tuple[Tensor, Tensor] = super().forward(hidden_states, attention_mask, *places)
            return result
        attended, weights = self.self_attn(
            hidden_states, attention_mask, hidden_states, attention_mask, *places, output_attentions
        )
        hidden = self.self_attn_layer_norm(hidden_states + attended)
        return self.final_layer_norm(hidden + self.fc2(self.activation_fn(self.fc1(hidden)))), weights

    def _is_plain(self) -> bool:
        return not (self.training and (self.dropout or self.activation_dropout))


def use_sparse_attention(model: nn.Module) -> None:
    """Give every deformable attention and encoder layer of a model the lean one, with the weights it has."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoDeformableLayer):
            module.__class__ = LeanDeformableLayer
        if isinstance(module, MMGroundingDinoMultiscaleDeformableAttention):
            module.__class__ = LeanDeformableAttention


def sample(value: Tensor, x: Tensor, y: Tensor, attention: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Weighted sums (B, Q, H * D) of points, in the dtype of ``value`` (Deformable DETR, 2021, eq. 3).

    Args:
        value: (B, N, H, D), the levels one after the other.
        x: (B, Q, H, L, P) columns, 0 = the middle of a level's first pixel; points outside read zeros.
        y: The same of the rows.
        attention: (B, Q, H, L, P).
        shapes: (height, width) of each level.
    """
    sampled: Tensor = _Sample.apply(value, x, y, attention.float(), shapes)  # type: ignore[no-untyped-call]
    return sampled.to(value.dtype)


_BORDER = 2  # zeros around a level: all four neighbours of a point that lies outside


class _Sample(torch.autograd.Function):
    """:func:`sample`, whose gradient of the rows is a sparse product: torch's own sorts all indices."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, x: Tensor, y: Tensor, attention: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        batch, queries = x.shape[:2]
        table = _bordered(value, shapes)
        index, x_share, y_share = _neighbours(x, y, shapes, table.shape[1])
        lower = attention * y_share
        upper = attention - lower
        upper_right, lower_right = upper * x_share, lower * x_share
        corners = (upper - upper_right, upper_right, lower - lower_right, lower_right)
        weights = torch.stack(corners, -1).view(index.shape)
        rows = table.view(-1, value.shape[-1])
        summed = F.embedding_bag(index, rows, mode="sum", per_sample_weights=weights)
        ctx.save_for_backward(rows, index, weights, x_share, y_share, attention)
        ctx.shapes, ctx.value_shape, ctx.dtype = shapes, value.shape, value.dtype
        return summed.view(batch, queries, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, index, weights, x_share, y_share, attention = ctx.saved_tensors
        grad = grads[0].contiguous().view(len(index), -1)
        bags = torch.arange(len(index), dtype=index.dtype)
        ends = torch.arange(0, index.numel() + 1, index.shape[1], dtype=index.dtype)
        dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, rows, index.flatten(), ends[:-1], bags.repeat_interleave(index.shape[1]), 0
        )
        first, right, below, last = dots.view(*attention.shape, 4).unbind(-1)
        upper, lower = right - first, last - below
        top = torch.addcmul(first, upper, x_share)
        down = torch.addcmul(below, lower, x_share) - top
        grad_attention = torch.addcmul(top, down, y_share)
        grad_x = torch.lerp(upper, lower, y_share) * attention
        grad_value = None
        if ctx.needs_input_grad[0]:
            entries = (weights.flatten().numpy(), index.flatten().numpy(), ends.numpy())
            matrix = csr_matrix(entries, shape=(len(index), len(rows)))
            grad_value = _without_border(torch.from_numpy(matrix.T @ grad.numpy()), ctx)
        return grad_value, grad_x, down * attention, grad_attention, None


def _inner(table: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """The levels (B, height, width, H, D) of a table (B, rows, H, D), their borders left out."""
    sides = [(height + 2 * _BORDER, width + 2 * _BORDER) for height, width in shapes]
    levels = table.split([height * width for height, width in sides], 1)
    within = slice(_BORDER, -_BORDER)
    return [level.unflatten(1, side)[:, within, within] for level, side in zip(levels, sides, strict=True)]


def _bordered(value: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """(B, N, H, D) to a float32 table (B, rows, H, D) in which every level has a border of zeros."""
    batch, _, heads, channels = value.shape
    rows = sum((height + 2 * _BORDER) * (width + 2 * _BORDER) for height, width in shapes)
    table = torch.zeros(batch, rows, heads, channels)
    levels = value.split([height * width for height, width in shapes], 1)
    for inner, level, shape in zip(_inner(table, shapes), levels, shapes, strict=True):
        inner.copy_(level.unflatten(1, shape))
    return table


def _without_border(rows: Tensor, ctx: Any) -> Tensor:
    """The gradient of the values from that of the table's rows."""
    batch, _, heads, channels = ctx.value_shape
    grad = torch.empty(ctx.value_shape, dtype=ctx.dtype)
    levels = grad.split([height * width for height, width in ctx.shapes], 1)
    inner = _inner(rows.view(batch, -1, heads, channels), ctx.shapes)
    for level, part, shape in zip(levels, inner, ctx.shapes, strict=True):
        level.unflatten(1, shape).copy_(part)
    return grad


def _neighbours(
    x: Tensor, y: Tensor, shapes: list[tuple[int, int]], rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Four rows of the table for each point, and how far to the right and below the first the point lies.

    Args:
        x: (B, Q, H, L, P) columns.
        y: The same of the rows.
        shapes: (height, width) of each level.
        rows: Of one image in the table.

    Returns:
        Rows (B * Q * H, L * P * 4) int32, the shares (B, Q, H, L, P) in [0, 1) of x and of y.
    """
    batch, _, heads = x.shape[:3]
    height, width = (torch.tensor(sides)[:, None].float() for sides in zip(*shapes, strict=True))
    stride = width + 2 * _BORDER
    blocks = ((height + 2 * _BORDER) * stride)[:, 0].cumsum(0)
    start = F.pad(blocks[:-1], (1, 0))[:, None] + _BORDER * stride + _BORDER
    outside = torch.tensor(-float(_BORDER))
    x, y = x.clamp(outside, width), y.clamp(outside, height)
    left, top = x.floor(), y.floor()
    first = torch.addcmul(left + start, top, stride).int()  # exact in float32: a table has < 2 ** 24 rows
    image = torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1) * rows
    head = torch.arange(heads, dtype=torch.int32).view(-1, 1, 1)
    first = first.add_(image).mul_(heads).add_(head)
    corners = torch.cat([torch.zeros_like(stride), torch.ones_like(stride), stride, stride + 1], 1)
    index = first[..., None] + (corners.int() * heads)[:, None]
    return index.view(-1, index.shape[3:].numel()), x - left, y - top
