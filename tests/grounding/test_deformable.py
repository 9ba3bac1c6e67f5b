"""The sparse deformable attention against the library's, forward and backward, and by hand."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoDeformableLayer,
    MMGroundingDinoMultiscaleDeformableAttention,
    MultiScaleDeformableAttention,
)

from grounding.deformable import (
    LeanDeformableAttention,
    LeanDeformableLayer,
    sample,
    use_sparse_attention,
)

SHAPES = [(5, 7), (3, 4), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)


def by_library(value, locations, weights):
    shapes = torch.tensor(SHAPES)
    starts = torch.cat((torch.zeros(1, dtype=torch.long), shapes.prod(1).cumsum(0)[:-1]))
    return MultiScaleDeformableAttention()(value, shapes, SHAPES, starts, locations, weights, 64)


def by_us(value, locations, weights):
    height, width = torch.tensor(SHAPES).T[..., None]
    return sample(value, locations[..., 0] * width - 0.5, locations[..., 1] * height - 0.5, weights, SHAPES)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(2, TOKENS, 4, 8, generator=generator)
    locations = torch.rand(2, 6, 4, 3, 2, 2, generator=generator) * 3 - 1  # some outside, some far
    weights = torch.rand(2, 6, 4, 3, 2, generator=generator).softmax(-1)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_the_library_s(seed):
    results = []
    for attend in (by_library, by_us):
        tensors = inputs(seed)
        output = attend(*tensors)
        (output * torch.arange(output.numel()).view_as(output).cos()).sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in tensors)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_without_gradient_the_same_numbers():
    tensors = inputs()
    with torch.no_grad():
        plain = by_us(*tensors)
    torch.testing.assert_close(plain, by_us(*tensors).detach())


def test_the_middle_of_a_pixel_reads_that_pixel():
    value = torch.zeros(1, TOKENS, 1, 1)
    value[0, 2 * 7 + 3] = 5.0  # first level, row 2, column 3
    locations = torch.full((1, 1, 1, 3, 1, 2), -1.0)  # outside: reads zeros
    locations[0, 0, 0, 0, 0] = torch.tensor([3.5 / 7, 2.5 / 5])
    weights = torch.tensor([0.5, 0.25, 0.25]).view(1, 1, 1, 3, 1)
    torch.testing.assert_close(by_us(value, locations, weights), torch.full((1, 1, 1), 2.5))


def test_the_dtype_of_the_value_stays():
    value, locations, weights = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        assert by_us(value.bfloat16(), locations, weights).dtype == torch.bfloat16


@pytest.mark.parametrize("coordinates", [2, 4])
def test_the_whole_module_is_the_library_s(coordinates, tiny_config, randomise):
    library = MMGroundingDinoMultiscaleDeformableAttention(tiny_config(), num_heads=4, n_points=2)
    randomise(library, 3)
    ours = copy.deepcopy(library)
    use_sparse_attention(nn.ModuleList([ours]))
    assert type(ours) is LeanDeformableAttention
    shapes = torch.tensor(SHAPES)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 30:] = False
    results = []
    for module in (library, ours):
        torch.manual_seed(4)
        tensors = [torch.randn(2, length, 32, requires_grad=True) for length in (6, TOKENS)]
        references = torch.rand(2, 6, 3, coordinates, requires_grad=True)
        output, weights = module(
            tensors[0],
            mask,
            tensors[1],
            position_embeddings=torch.randn(2, 6, 32),
            reference_points=references,
            spatial_shapes=shapes,
            spatial_shapes_list=SHAPES,
        )
        output.square().sum().backward()
        gradients = [tensor.grad for tensor in (*tensors, references, *module.parameters())]
        results.append([output, weights, *gradients])
    for theirs, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_whole_layer_is_the_library_s(dropout, tiny_config, randomise):
    library = MMGroundingDinoDeformableLayer(tiny_config(dropout=dropout)).train()
    randomise(library, 5)
    ours = copy.deepcopy(library)
    use_sparse_attention(nn.ModuleList([ours]))
    assert type(ours) is LeanDeformableLayer and list(ours.state_dict()) == list(library.state_dict())
    results = []
    for layer in (library, ours):
        torch.manual_seed(6)
        tokens = torch.randn(2, TOKENS, 32, requires_grad=True)
        places = (torch.randn(2, TOKENS, 32), torch.rand(2, TOKENS, 3, 2), torch.tensor(SHAPES), SHAPES)
        hidden, weights = layer(tokens, torch.ones(2, TOKENS, dtype=torch.bool), *places)
        hidden.square().sum().backward()
        results.append([hidden, weights, tokens.grad, *(p.grad for p in layer.parameters())])
    for theirs, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)
