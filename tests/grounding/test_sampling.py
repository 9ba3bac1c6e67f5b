"""Sampling of the prepared network against the library's, and by hand."""

import copy

import pytest
import torch
from torch import nn
from transformers import MMGroundingDinoConfig
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoMultiscaleDeformableAttention,
)

from grounding.sampling import _layout, _neighbours, use_point_sampling

SHAPES = [(5, 7), (3, 4), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)


@pytest.mark.parametrize("coordinates", [2, 4])
@torch.no_grad()
def test_values_are_the_library_s_inside_and_outside(coordinates):
    generator = torch.Generator().manual_seed(0)
    config = MMGroundingDinoConfig(d_model=16, num_feature_levels=3)
    theirs = MMGroundingDinoMultiscaleDeformableAttention(config, num_heads=4, n_points=2)
    for parameter in theirs.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    ours = copy.deepcopy(nn.ModuleList([theirs]))
    use_point_sampling(ours)
    shapes = torch.tensor(SHAPES)
    arguments = {
        "hidden_states": torch.randn(2, 9, 16, generator=generator),
        "attention_mask": torch.rand(2, TOKENS, generator=generator) > 0.2,
        "encoder_hidden_states": torch.randn(2, TOKENS, 16, generator=generator),
        "position_embeddings": torch.randn(2, 9, 16, generator=generator),
        "reference_points": torch.rand(2, 9, 3, coordinates, generator=generator),
        "spatial_shapes": shapes,
        "spatial_shapes_list": SHAPES,
        "level_start_index": torch.cat((torch.zeros(1, dtype=torch.long), shapes.prod(1).cumsum(0)[:-1])),
    }
    torch.testing.assert_close(ours[0](**arguments)[0], theirs(**arguments)[0], atol=1e-4, rtol=1e-4)


def test_the_edges_of_the_table_are_zeros_and_never_another_level_s_pixels():
    layout = _layout(((2, 3), (1, 1)), 1, 1, torch.device("cpu"))
    table = layout.table(torch.arange(1.0, 8.0)[:, None])[:, 0]
    # rows of 3 + 1 entries: one above, two pictured, two below; then 4 rows of 2, and two entries to spare
    pictured = [0, 1, 2, 3, 0, 4, 5, 6]
    assert table.tolist() == [0] * 4 + pictured + [0] * 8 + [0, 0, 0, 7, 0, 0, 0, 0] + [0, 0]
    for far in (-50.0, 50.0):
        points = torch.tensor([[far, far, far, far, 0.0, 0.0]])
        index, weights = _neighbours(points, torch.zeros(2, 1, 2), None, layout)
        assert (table[index.long()] * weights).abs().sum() == 0
