"""Multi-scale deformable attention for inference: few passes over memory, no gradient.

What :mod:`grounding.deformable` computes, arranged for speed: one product gives all offsets and attention
weights, coordinates stay in pixels and float32, the value table is padded with zeros so that no point needs a
test whether it lies inside, and queries go through in chunks that stay in the cache. Knows no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoMultiscaleDeformableAttention,
)

CHUNK = 256  # queries at a time on CPU: what they need fits the second-level cache

Shapes = tuple[tuple[int, int], ...]
"""(height, width) of each level."""


class PointSampling(MMGroundingDinoMultiscaleDeformableAttention):
    """A drop-in for the library's module, with its parameters; made by :func:`use_point_sampling`."""

    points: nn.Linear
    """To (x, y, attention) of every head, level and point: 3 * H * L * P, in this order."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        spatial_shapes_list: list[tuple[int, int]] | None = None,
        level_start_index: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor, None]:
        """As the library's: (B, Q, d) from queries (B, Q, d), tokens (B, N, d), and which are real (B, N).

        ``reference_points`` are (B, Q, L, 2) or (B, Q, L, 4) in [0, 1].
        """
        assert reference_points is not None and spatial_shapes_list is not None
        queries = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        points = self.points(queries)
        values = self.value_proj(encoder_hidden_states)
        if not bool(attention_mask.all()):
            values = values.masked_fill(~attention_mask[..., None], 0.0)
        layout = _layout(tuple(spatial_shapes_list), self.n_heads, self.n_points, values.device)
        centre, reach = _pixels(reference_points, layout, self.n_points)
        sampled = [
            _sample(
                layout.table(value),
                points[row],
                centre[:, row],
                None if reach is None else reach[:, row],
                layout,
            )
            for row, value in enumerate(values)
        ]
        return self.output_proj(torch.stack(sampled).to(values.dtype)), None


def use_point_sampling(model: nn.Module) -> None:
    """Give every deformable attention of a model this sampling, with the weights it has."""
    for module in model.modules():
        if isinstance(module, MMGroundingDinoMultiscaleDeformableAttention):
            module.points = _joined(module)
            del module.sampling_offsets, module.attention_weights
            module.__class__ = PointSampling


def _joined(module: MMGroundingDinoMultiscaleDeformableAttention) -> nn.Linear:
    """One layer for offsets and attention: the rows of all x, all y, all attention weights."""
    offsets, attention = module.sampling_offsets, module.attention_weights
    joined = nn.Linear(offsets.in_features, 3 * attention.out_features, device=offsets.weight.device)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([offsets.weight[::2], offsets.weight[1::2], attention.weight]))
        joined.bias.copy_(torch.cat([offsets.bias[::2], offsets.bias[1::2], attention.bias]))
    return joined


@dataclass(frozen=True)
class _Layout:
    """Where the values of each level stand in the padded table: constants of one set of shapes.

    A level of (h, w) has h + 3 rows of w + 1 entries: a row of zeros above and two below, a column of zeros
    at the left, which also ends the row before.

    Attributes:
        shapes: (height, width) of each level.
        heads: H.
        sizes: float (L, 2) width and height.
        last: float (2, H * L * P) greatest x and y that are read: the width and the height.
        stride: float (H * L * P,) entries from one row of a level to the next, times H.
        origin: float (H * L * P,) entry of the pixel (0, 0), its head included.
        down: int32 (H * L * P,) the same as integers.
        level: int64 (H * L * P,) which level it is.
        entries: Rows of the table of one image, all heads together.
    """

    shapes: Shapes
    heads: int
    sizes: Tensor
    last: Tensor
    stride: Tensor
    origin: Tensor
    down: Tensor
    level: Tensor
    entries: int

    def table(self, value: Tensor) -> Tensor:
        """(N, d) to the padded table (entries * H, d / H) in float32."""
        table = torch.zeros(self.entries, value.shape[-1], device=value.device)
        read = write = 0
        for height, width in self.shapes:
            level = table[write : write + (height + 3) * (width + 1)].view(height + 3, width + 1, -1)
            level[1 : height + 1, 1:] = value[read : read + height * width].view(height, width, -1)
            read, write = read + height * width, write + (height + 3) * (width + 1)
        return table.view(self.entries * self.heads, -1)


@lru_cache(maxsize=32)
def _layout(shapes: Shapes, heads: int, points: int, device: torch.device) -> _Layout:
    sizes = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float32)
    widths = [width + 1 for _, width in shapes]
    starts = [0]
    for height, width in shapes:
        starts.append(starts[-1] + (height + 3) * (width + 1))
    levels = torch.arange(len(shapes)).repeat_interleave(points)
    stride = torch.tensor(widths)[levels] * heads
    origin = (torch.tensor(starts[:-1]) + torch.tensor(widths) + 1)[levels] * heads
    origin = origin + torch.arange(heads)[:, None]
    return _Layout(
        shapes,
        heads,
        sizes.to(device),
        sizes[levels].T.repeat(1, heads).contiguous().to(device),
        stride.repeat(heads).float().to(device),
        origin.flatten().float().to(device),
        stride.repeat(heads).int().to(device),
        levels.repeat(heads).to(device),
        starts[-1] + 2,
    )


def _pixels(references: Tensor, layout: _Layout, points: int) -> tuple[Tensor, Tensor | None]:
    """Centres (2, B, Q, L), x and y in pixels of each level; pixels that an offset of 1 means, None = one."""
    centre = references[..., :2].float() * layout.sizes - 0.5
    if references.shape[-1] == 2:
        return _planes(centre), None
    return _planes(centre), _planes(references[..., 2:].float() * layout.sizes * (0.5 / points))


def _planes(pairs: Tensor) -> Tensor:
    """(B, Q, L, 2) to (2, B, Q, L), contiguous."""
    return pairs.movedim(-1, 0).contiguous()


def _sample(table: Tensor, points: Tensor, centre: Tensor, reach: Tensor | None, layout: _Layout) -> Tensor:
    """Weighted sums (Q, d) of the rows of ``table`` about the points (Q, 3 * H * L * P) of one image.

    ``centre`` and ``reach`` are (2, Q, L).
    """
    count = points.shape[0]
    sampled = torch.empty(count, table.shape[1] * layout.heads, device=table.device)
    step = CHUNK if table.device.type == "cpu" else count
    for start in range(0, count, step):
        rows = slice(start, start + step)
        index, weights = _neighbours(
            points[rows].float(), centre[:, rows], None if reach is None else reach[:, rows], layout
        )
        sums = F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
        sampled[rows] = sums.view(-1, sampled.shape[1])
    return sampled


def _neighbours(
    points: Tensor, centre: Tensor, reach: Tensor | None, layout: _Layout
) -> tuple[Tensor, Tensor]:
    """Rows of the table that each query and head reads, and their weights: (Q * H, 4 * L * P) both."""
    x, y, attention = points.chunk(3, -1)
    left, x_share = _split(x, centre[0], None if reach is None else reach[0], layout.last[0], layout)
    top, y_share = _split(y, centre[1], None if reach is None else reach[1], layout.last[1], layout)
    first = left.mul_(layout.heads).addcmul_(top, layout.stride).add_(layout.origin).int()
    below = first + layout.down
    attention = attention.view(len(points), layout.heads, -1).softmax(-1).view_as(x_share)
    lower = attention * y_share
    upper = attention.sub_(lower)
    lower_right, upper_right = lower * x_share, upper * x_share
    corners = (first, first + layout.heads, below, below + layout.heads)
    shares = (upper.sub_(upper_right), upper_right, lower.sub_(lower_right), lower_right)
    return _bags(corners, layout.heads), _bags(shares, layout.heads)


def _bags(parts: tuple[Tensor, ...], heads: int) -> Tensor:
    """Four of (Q, H * L * P) as (Q * H, 4 * L * P)."""
    return torch.cat([part.view(len(part) * heads, -1) for part in parts], 1)


def _split(
    offset: Tensor, centre: Tensor, reach: Tensor | None, last: Tensor, layout: _Layout
) -> tuple[Tensor, Tensor]:
    """Whole pixels and the share of the next one, (Q, H * L * P) both; beyond the level all reads zeros.

    Args:
        offset: (Q, H * L * P).
        centre: (Q, L).
        reach: (Q, L) or None.
        last: (H * L * P,) greatest coordinate.
        layout: Says which level each column belongs to.
    """
    place = centre.index_select(1, layout.level)
    if reach is None:
        place.add_(offset)
    else:
        place.addcmul_(offset, reach.index_select(1, layout.level))
    torch.minimum(place.clamp_(min=-1.0), last, out=place)
    whole = place.floor()
    return whole, place.sub_(whole)
