"""EfficientNet-Lite0: padding, folded norms, shapes and published names, against hand-made numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig

from grounding.backbone import (
    BATCH_NORM_EPS,
    ConvNorm,
    EfficientNetLite,
    EfficientNetLiteConfig,
    InvertedResidual,
    _lead_with_zeros,
    _pads,
)

# (index of the block, input channels, hidden channels, output channels, kernel), written out from the
# published network, not from the code under test.
BLOCKS = [
    (0, 32, 32, 16, 3),
    (1, 16, 96, 24, 3),
    (2, 24, 144, 24, 3),
    (3, 24, 144, 40, 5),
    (4, 40, 240, 40, 5),
    (5, 40, 240, 80, 3),
    (6, 80, 480, 80, 3),
    (7, 80, 480, 80, 3),
    (8, 80, 480, 112, 5),
    (9, 112, 672, 112, 5),
    (10, 112, 672, 112, 5),
    (11, 112, 672, 192, 5),
    (12, 192, 1152, 192, 5),
    (13, 192, 1152, 192, 5),
    (14, 192, 1152, 192, 5),
    (15, 192, 1152, 320, 3),
]


def published_shapes():
    """Name -> shape of the published tensors, classifier left out."""
    layers = {"_conv_stem": ("_bn0", (32, 3, 3, 3))}
    for index, inputs, hidden, outputs, kernel in BLOCKS:
        block = f"_blocks.{index}"
        if index:  # the first block does not expand
            layers[f"{block}._expand_conv"] = (f"{block}._bn0", (hidden, inputs, 1, 1))
        layers[f"{block}._depthwise_conv"] = (f"{block}._bn1", (hidden, 1, kernel, kernel))
        layers[f"{block}._project_conv"] = (f"{block}._bn2", (outputs, hidden, 1, 1))
    shapes = {}
    for convolution, (norm, shape) in layers.items():
        shapes[f"{convolution}.weight"] = shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{name}"] = shape[:1]
    return shapes


@pytest.fixture(scope="module")
def published():
    """A made checkpoint in which tensor number i is filled with i."""
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(published_shapes().items())}


def test_published_names_reach_their_layers(published):
    network = EfficientNetLite()
    network.load_published(published)
    pairs = {
        "_conv_stem": ("_bn0", network.stem),
        "_blocks.0._depthwise_conv": ("_blocks.0._bn1", network.stages[0][0].depthwise),
        "_blocks.3._expand_conv": ("_blocks.3._bn0", network.stages[2][0].expand),
        "_blocks.3._depthwise_conv": ("_blocks.3._bn1", network.stages[2][0].depthwise),
        "_blocks.10._project_conv": ("_blocks.10._bn2", network.stages[4][2].project),
        "_blocks.15._project_conv": ("_blocks.15._bn2", network.stages[6][0].project),
    }
    for convolution, (norm, layer) in pairs.items():
        assert torch.equal(layer.weight, published[f"{convolution}.weight"])
        assert torch.equal(layer.norm_weight, published[f"{norm}.weight"])
        assert torch.equal(layer.norm_bias, published[f"{norm}.bias"])
        assert torch.equal(layer.norm_mean, published[f"{norm}.running_mean"])
        assert torch.equal(layer.norm_var, published[f"{norm}.running_var"])


def test_every_published_tensor_is_used_once(published):
    network = EfficientNetLite()
    network.load_published(published)
    values = sorted({tensor.unique().item() for tensor in network.state_dict().values()})
    assert values == [float(i) for i in range(len(published))]


@pytest.mark.parametrize("shape", [None, (1, 2)])
def test_published_tensor_missing_or_misshapen_is_named(published, shape):
    broken = dict(published)
    del broken["_blocks.3._bn1.running_mean"]
    if shape:
        broken["_blocks.3._bn1.running_mean"] = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"_blocks\.3\._bn1\.running_mean: expected \(144,\), got"):
        EfficientNetLite().load_published(broken)


@pytest.mark.parametrize(
    ("size", "kernel", "before", "after"),
    [(5, 3, 1, 1), (4, 3, 0, 1), (4, 5, 1, 2), (5, 5, 2, 2), (7, 3, 1, 1)],
)
def test_same_padding_puts_the_odd_pixel_right_and_below(size, kernel, before, after):
    torch.manual_seed(0)
    assert _pads(size, kernel, 2) == (before, after)
    weight, other = torch.randn(1, 1, kernel, kernel), _pads(9, kernel, 2)
    for shape, rows, columns in (((size, 9), (before, after), other), ((9, size), other, (before, after))):
        image = torch.randn(1, 1, *shape)
        led = _lead_with_zeros(weight, rows, columns)
        got = F.conv2d(image, led, stride=2, padding=(rows[1], columns[1]))
        torch.testing.assert_close(got, F.conv2d(F.pad(image, (*columns, *rows)), weight, stride=2))


def test_strided_convolution_by_hand():
    layer = ConvNorm(1, 1, 3, stride=2, relu=False)
    nn.init.ones_(layer.weight)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 1, 4, 4)
    # One row and one column of zeros follow: windows of 3 x 3, 3 x 2, 2 x 3 and 2 x 2 pixels.
    expected = torch.tensor([[[[18.0, 21.0], [12.0, 14.0]]]]) / 1.001**0.5
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("stride", "groups", "relu"), [(1, 1, True), (1, 4, False), (2, 4, True)])
def test_folded_norm_equals_convolution_then_batch_norm(stride, groups, relu):
    torch.manual_seed(0)
    layer = ConvNorm(4, 8, 3, stride, groups, relu)
    norm = nn.BatchNorm2d(8, eps=1e-3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.rand(8) * 4 + 1)
        norm.bias.copy_(torch.randn(8) * 2)
        norm.running_mean.copy_(torch.randn(8))
        norm.running_var.copy_(torch.rand(8) * 1e-2)  # small, so that the epsilon shows
        layer.norm_weight.copy_(norm.weight)
        layer.norm_bias.copy_(norm.bias)
        layer.norm_mean.copy_(norm.running_mean)
        layer.norm_var.copy_(norm.running_var)
    x = torch.randn(2, 4, 9, 9)  # with an odd size, "same" pads one pixel on each side
    expected = norm(F.conv2d(x, layer.weight, stride=stride, padding=1, groups=groups))
    expected = expected.clamp(0, 6) if relu else expected
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


# (input channels, output channels, kernel, stride, groups): a matrix product, depthwise with and without
# stride, and those left to the library.
KERNELS = [(8, 32, 1, 1, 1), (32, 32, 5, 1, 32), (16, 16, 5, 2, 16), (16, 16, 3, 2, 16), (3, 8, 3, 2, 1)]


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("relu", [True, False])
def test_bfloat16_kernels_have_the_values_and_gradients_of_float32(shape, relu):
    torch.manual_seed(0)
    layer = ConvNorm(*shape, relu=relu)
    layer.norm_bias.normal_(1.0)
    layer.weight.data = layer.weight.data.bfloat16().float()  # the same numbers on both sides
    layer.norm_var.fill_(1.0 - BATCH_NORM_EPS)
    x = torch.randn(2, shape[0], 13, 12).bfloat16().contiguous(memory_format=torch.channels_last)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        layer.zero_grad()
        leaf = x.detach().to(dtype).requires_grad_()
        y = layer(leaf)
        assert y.dtype == dtype
        (y * torch.arange(y.numel()).view_as(y).cos()).sum().backward()
        results.append([y.detach(), leaf.grad, layer.weight.grad.clone()])
    for expected, got in zip(*results, strict=True):
        assert (got.float() - expected).norm() < 0.04 * expected.norm()


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("relu", [True, False])
def test_float32_is_the_same_in_one_kernel_without_gradient(shape, relu):
    torch.manual_seed(0)
    layer = ConvNorm(*shape, relu=relu)
    layer.norm_bias.normal_(1.0)
    x = torch.randn(2, shape[0], 13, 12).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        got = layer(x)
    torch.testing.assert_close(got, layer(x).detach(), rtol=1e-4, atol=1e-5)


def test_chunks_without_gradient_change_nothing():
    torch.manual_seed(0)
    network, images = EfficientNetLite(), torch.randn(3, 3, 64, 64)
    whole = network(images)
    for part in (network.stem, *network.stages[:3]):
        part.requires_grad_(False)
    some = network(images)
    with torch.no_grad():
        none = network(images)
    assert some[1].requires_grad and not some[0].requires_grad and not none[1].requires_grad
    for expected, *others in zip(whole, some, none, strict=True):
        for got in others:
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_norm_is_frozen_and_convolution_trains():
    layer = ConvNorm(3, 4, 1)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    before = layer.norm_mean.clone()
    layer.train()(torch.randn(2, 3, 4, 4)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert torch.equal(layer.norm_mean, before)


def test_shortcut_only_where_the_shape_allows_it():
    assert InvertedResidual(8, 8, 6, 1, 3).shortcut
    assert not InvertedResidual(8, 8, 6, 2, 3).shortcut
    assert not InvertedResidual(8, 16, 6, 1, 3).shortcut


def test_features_at_strides_8_16_32():
    torch.manual_seed(0)
    with torch.no_grad():
        features = EfficientNetLite()(torch.randn(1, 3, 96, 128))
    assert [tuple(f.shape) for f in features] == [(1, 40, 12, 16), (1, 112, 6, 8), (1, 320, 3, 4)]
    assert all(f.std() > 1e-3 for f in features)  # a fresh network's signal does not vanish


def test_transformers_builds_the_backbone_from_its_configuration():
    assert isinstance(AutoConfig.for_model("efficientnet_lite"), EfficientNetLiteConfig)
    backbone = AutoBackbone.from_config(EfficientNetLiteConfig())
    assert backbone.channels == [40, 112, 320]
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 64)).feature_maps
    assert [tuple(f.shape[1:]) for f in maps] == [(40, 8, 8), (112, 4, 4), (320, 2, 2)]


def test_base_weights_fit(base_weights):
    network = EfficientNetLite.from_base_weights(base_weights / "efficientnet-lite0")
    assert network.stem.norm_var.max() > 1  # not the initial ones
