"""The sparse deformable attention against the library's, forward and backward, and by hand."""

import pytest
import torch
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import MultiScaleDeformableAttention

from grounding.deformable import SparseDeformableAttention

SHAPES = [(5, 7), (3, 4), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)


def sample(attention, value, locations, weights):
    shapes = torch.tensor(SHAPES)
    starts = torch.cat((torch.zeros(1, dtype=torch.long), shapes.prod(1).cumsum(0)[:-1]))
    return attention(value, shapes, SHAPES, starts, locations, weights, 64)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(2, TOKENS, 4, 8, generator=generator)
    locations = torch.rand(2, 6, 4, 3, 2, 2, generator=generator) * 1.6 - 0.3  # some outside
    weights = torch.rand(2, 6, 4, 3, 2, generator=generator).softmax(-1)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_the_library_s(seed):
    results = []
    for attention in (MultiScaleDeformableAttention(), SparseDeformableAttention()):
        tensors = inputs(seed)
        output = sample(attention, *tensors)
        (output * torch.arange(output.numel()).view_as(output).cos()).sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in tensors)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_without_gradient_the_same_numbers():
    tensors = inputs()
    with torch.no_grad():
        plain = sample(SparseDeformableAttention(), *tensors)
    torch.testing.assert_close(plain, sample(SparseDeformableAttention(), *tensors).detach())


def test_the_middle_of_a_pixel_reads_that_pixel():
    value = torch.zeros(1, TOKENS, 1, 1)
    value[0, 2 * 7 + 3] = 5.0  # first level, row 2, column 3
    locations = torch.full((1, 1, 1, 3, 1, 2), -1.0)  # outside: reads zeros
    locations[0, 0, 0, 0, 0] = torch.tensor([3.5 / 7, 2.5 / 5])
    weights = torch.tensor([0.5, 0.25, 0.25]).view(1, 1, 1, 3, 1)
    torch.testing.assert_close(
        sample(SparseDeformableAttention(), value, locations, weights), torch.full((1, 1, 1), 2.5)
    )


def test_the_dtype_of_the_value_stays():
    value, locations, weights = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            sample(SparseDeformableAttention(), value.bfloat16(), locations, weights).dtype == torch.bfloat16
        )
