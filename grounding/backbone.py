"""EfficientNet-Lite0 as an image backbone: the network, its published weights, its place in transformers.

Knows nothing about text, boxes or training. Registered with ``AutoBackbone``, so that a MM-Grounding-DINO
configuration can name it as ``backbone_config``. On CPU it runs fused kernels, in bfloat16 also in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BackboneOutput

# (expansion, output channels, repeats, stride, kernel) of each stage: EfficientNet-Lite0 (Tan & Le, 2019; the
# "lite" variants drop squeeze-and-excite and use ReLU6).
LITE0_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM_CHANNELS = 32
FEATURE_STAGES = (2, 4, 6)  # the last stages at strides 8, 16 and 32
FEATURE_CHANNELS = (40, 112, 320)
BATCH_NORM_EPS = 1e-3  # TensorFlow's default, with which the weights were published

IN_CHECKPOINT = "model.backbone.conv_encoder.model.network."
"""Before the name of each of its tensors in a grounder's checkpoint."""
_IMAGES_IN_CACHE = 2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConvNorm(nn.Module):
    """A bias-free convolution with a frozen batch norm folded into it, and optionally ReLU6.

    The norm is folded at every forward, so the convolution still trains; on CPU one convolution is several
    times cheaper than one followed by an element-wise scale and shift. Padding is TensorFlow's "same".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        """Random weights and a norm that changes nothing."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight)  # fan-out would let depthwise layers vanish
        self.norm_weight = nn.Buffer(torch.ones(out_channels))
        self.norm_bias = nn.Buffer(torch.zeros(out_channels))
        self.norm_mean = nn.Buffer(torch.zeros(out_channels))
        self.norm_var = nn.Buffer(torch.ones(out_channels))
        self.kernel, self.stride, self.groups, self.relu = kernel, stride, groups, relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        scale = self.norm_weight * torch.rsqrt(self.norm_var + BATCH_NORM_EPS)
        weight = (self.weight * scale[:, None, None, None]).to(x.dtype)
        bias = (self.norm_bias - self.norm_mean * scale).to(x.dtype)
        rows, columns = (_pads(side, self.kernel, self.stride) for side in x.shape[-2:])
        trained = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not _fuses(x, trained):
            padding = self.kernel // 2
            if self.stride > 1:
                x, padding = F.pad(x, (*columns, *rows)), 0
            x = F.conv2d(x, weight, bias, self.stride, padding, groups=self.groups)
            return F.relu6(x, inplace=True) if self.relu else x
        rest = (_lead_with_zeros(weight, rows, columns), bias, self.stride, (rows[1], columns[1]))
        if not trained:
            return _fused(x, *rest, self.groups, self.relu)
        result: Tensor = _FusedConvolution.apply(x, *rest, self.groups, self.relu)  # type: ignore[no-untyped-call]
        return result


def _pads(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels that TensorFlow's "same" puts before and after ``side`` pixels: the odd one comes after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _lead_with_zeros(weight: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """The weight for a convolution that pads both sides as the end is to be padded.

    A pixel too many before the image meets a zero put before the weight, far smaller to copy than the image.
    """
    odd_rows, odd_columns = rows[1] - rows[0], columns[1] - columns[0]
    return F.pad(weight, (odd_columns, 0, odd_rows, 0)) if odd_rows or odd_columns else weight


def _fuses(x: Tensor, trained: bool) -> bool:
    """Whether convolution and ReLU6 run as one kernel: on a CPU with oneDNN, in training only in bfloat16.

    Not where the network is traced: other runtimes do not know the kernel.
    """
    dtypes = (torch.bfloat16,) if trained else (torch.bfloat16, torch.float32)
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return x.device.type == "cpu" and x.dtype in dtypes and _HAS_FUSED and not traced


_HAS_FUSED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
_BLOCK = 16  # channels of a dense convolution that stands for as many depthwise ones


def _fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int,
    padding: tuple[int, int],
    groups: int,
    relu: bool,
) -> Tensor:
    """Convolution and, where ``relu`` says so, ReLU6: oneDNN's kernel that torch's compiler uses too."""
    last = ("hardtanh", [0.0, 6.0], "") if relu else ("none", [], "")
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, [stride, stride], [1, 1], groups, *last
    )
    return result


class _FusedConvolution(torch.autograd.Function):
    """:func:`_fused` with the gradients that are fastest on a CPU's bfloat16 units.

    A 1 x 1 convolution has those of a matrix product. The library's gradient of a depthwise 5 x 5 weight is
    several times slower than that of a dense convolution of 16 x 16 channels, of which the diagonal is
    wanted. A depthwise convolution's gradient of the input is a convolution with the weight turned round, of
    the gradient with zeros between its pixels where there is a stride.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        y = _fused(x, weight, bias, *rest)
        ctx.save_for_backward(x, weight, y)
        ctx.stride, ctx.padding, ctx.groups, ctx.relu = rest
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        grad = grads[0].to(y.dtype).contiguous(memory_format=torch.channels_last)
        if ctx.relu:
            grad = torch.ops.aten.hardtanh_backward(grad, y, 0.0, 6.0)
        wanted = ctx.needs_input_grad[:2]
        if weight.shape[2:] == (1, 1) and ctx.groups == 1:
            gradients = _pointwise_gradients(grad, x, weight, wanted)
        elif ctx.groups == len(weight) and ctx.groups % _BLOCK == 0:
            gradients = _depthwise_gradients(ctx, grad, x, weight, wanted)
        else:
            gradients = _gradients(ctx, grad, x, weight, ctx.groups, wanted)
        return (*gradients, None, None, None, None, None)


Gradients = tuple[Tensor | None, Tensor | None]
"""Of a convolution's input and weight, None where not wanted."""


def _pointwise_gradients(grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> Gradients:
    matrix, pixels = weight[:, :, 0, 0], grad.permute(0, 2, 3, 1)
    grad_x = (pixels @ matrix).permute(0, 3, 1, 2) if wanted[0] else None
    if not wanted[1]:
        return grad_x, None
    grad_weight = pixels.flatten(0, 2).T @ x.permute(0, 2, 3, 1).flatten(0, 2)
    return grad_x, grad_weight[:, :, None, None]


def _depthwise_gradients(
    ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
) -> Gradients:
    grad_x = grad_weight = None
    if wanted[0]:
        around = [side - 1 - pad for side, pad in zip(weight.shape[2:], ctx.padding, strict=True)]
        spread = grad if ctx.stride == 1 else _spread(grad, ctx.stride, x.shape[2:], weight.shape[2:], around)
        grad_x = F.conv2d(spread, weight.flip(2, 3), None, 1, around, groups=ctx.groups)
    if wanted[1]:
        dense = weight.new_empty(len(weight), _BLOCK, *weight.shape[2:])
        _, blocks = _gradients(ctx, grad, x, dense, ctx.groups // _BLOCK, (False, True))
        assert blocks is not None
        own = blocks.unflatten(0, (-1, _BLOCK)).diagonal(dim1=1, dim2=2)  # (C / 16, kernel, kernel, 16)
        grad_weight = own.permute(0, 3, 1, 2).reshape(weight.shape)
    return grad_x, grad_weight


def _spread(
    grad: Tensor, stride: int, sides: Sequence[int], kernel: Sequence[int], around: Sequence[int]
) -> Tensor:
    """The gradient with zeros between its pixels, so that a convolution padded ``around`` gives ``sides``."""
    height, width = (side + size - 1 - 2 * pad for side, size, pad in zip(sides, kernel, around, strict=True))
    spread = grad.new_zeros(len(grad), height, width, grad.shape[1]).permute(0, 3, 1, 2)  # channels last
    spread[:, :, ::stride, ::stride] = grad
    return spread


def _gradients(
    ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool]
) -> Gradients:
    strides = [ctx.stride, ctx.stride]
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, strides, ctx.padding, [1, 1], False, [0, 0], groups, [*wanted, False]
    )
    return gradients[0], gradients[1]


class InvertedResidual(nn.Module):
    """Expand (1x1), filter per channel (kxk), project (1x1); a shortcut where the shape allows it."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int, kernel: int) -> None:
        """Random weights; ``expansion`` is the ratio of hidden to input channels."""
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNorm(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, 1, relu=False)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        """Random weights; see :meth:`from_base_weights` for the published ones."""
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for expansion, out_channels, repeats, stride, kernel in LITE0_STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(channels, out_channels, expansion, 1 if index else stride, kernel)
                )
                channels = out_channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to ``[(B, 40, H/8, W/8), (B, 112, H/16, W/16), (B, 320, H/32, W/32)]``.

        What keeps no gradient runs on CPU for a few images at a time, whose maps stay in the cache.
        """
        if torch.is_autocast_enabled(pixel_values.device.type):
            pixel_values = pixel_values.to(torch.get_autocast_dtype(pixel_values.device.type))
        first = self._first_trained() if pixel_values.device.type == "cpu" else 0
        parts = pixel_values.split(_IMAGES_IN_CACHE if first else len(pixel_values))
        maps = [self._run(self.stem(part), 0, first) for part in parts]
        *features, x = maps[0] if len(maps) == 1 else [torch.cat(each) for each in zip(*maps, strict=True)]
        return [*features, *self._run(x, first, len(self.stages))[:-1]]

    def _run(self, x: Tensor, start: int, stop: int) -> list[Tensor]:
        """Stages ``start`` to ``stop``: the feature maps among their outputs, then the last output."""
        features = []
        for index in range(start, stop):
            x = self.stages[index](x)
            if index in FEATURE_STAGES:
                features.append(x)
        return [*features, x]

    def _first_trained(self) -> int:
        """The first stage that keeps a gradient; the number of stages where none does."""
        if not torch.is_grad_enabled():
            return len(self.stages)
        trained = [any(p.requires_grad for p in part.parameters()) for part in (self.stem, *self.stages)]
        return max(trained.index(True) - 1, 0) if any(trained) else len(self.stages)

    @classmethod
    def from_base_weights(cls, folder: Path | None = None) -> EfficientNetLite:
        """The network with its published ImageNet weights, from ``folder`` or the base-weight cache."""
        if folder is None:
            from .base_weights import fetch

            folder = fetch("efficientnet-lite0")
        network = cls()
        network.load_published(load_file(Path(folder) / "model.safetensors"))
        return network

    @classmethod
    def from_checkpoint(cls, folder: Path) -> EfficientNetLite:
        """The backbone of one of our grounders, in float32, for another network to see with.

        Raises:
            FileNotFoundError: If the folder holds no checkpoint.
            ValueError: If it has another backbone.
        """
        path = folder / "model.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"expected a checkpoint with {path.name}, there is none in {folder}")
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(IN_CHECKPOINT)]
            state = {name.removeprefix(IN_CHECKPOINT): file.get_tensor(name).float() for name in names}
        network = cls()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{path} has another backbone than EfficientNet-Lite0: {error}") from error
        return network

    def load_published(self, tensors: dict[str, Tensor]) -> None:
        """Copy the tensors of the published checkpoint into this network.

        Raises:
            ValueError: If a tensor is missing or has another shape.
        """
        for module, convolution, norm in self._published_names():
            sources = {"weight": f"{convolution}.weight", "norm_weight": f"{norm}.weight"}
            sources |= {"norm_bias": f"{norm}.bias", "norm_mean": f"{norm}.running_mean"}
            sources |= {"norm_var": f"{norm}.running_var"}
            for name, key in sources.items():
                target, value = getattr(module, name), tensors.get(key)
                if value is None or value.shape != target.shape:
                    got = "nothing" if value is None else tuple(value.shape)
                    raise ValueError(
                        f"EfficientNet-Lite0 tensor {key}: expected {tuple(target.shape)}, got {got}; "
                        "fetch the base weights again with `medglip fetch`"
                    )
                with torch.no_grad():
                    target.copy_(value)

    def _published_names(self) -> list[tuple[ConvNorm, str, str]]:
        """(module, published convolution, published batch norm) of every convolution, in network order."""
        names = [(self.stem, "_conv_stem", "_bn0")]
        blocks = [module for module in self.stages.modules() if isinstance(module, InvertedResidual)]
        for index, block in enumerate(blocks):
            if block.expand is not None:
                names.append((block.expand, f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0"))
            names.append((block.depthwise, f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1"))
            names.append((block.project, f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2"))
        return names


class EfficientNetLiteConfig(PreTrainedConfig):
    """Configuration of :class:`EfficientNetLiteBackbone`; the architecture is fixed to Lite0."""

    model_type = "efficientnet_lite"


class EfficientNetLiteBackbone(PreTrainedModel):
    """:class:`EfficientNetLite` behind transformers' backbone interface (``channels``, ``feature_maps``)."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        """Random weights."""
        super().__init__(config)
        self.network = EfficientNetLite()
        self.channels = list(FEATURE_CHANNELS)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation of the layers' own constructors."""

    def forward(self, pixel_values: Tensor, return_dict: bool = True) -> BackboneOutput:
        """Features of (B, 3, H, W) ImageNet-normalised pixels at strides 8, 16, 32 as ``feature_maps``."""
        return BackboneOutput(feature_maps=tuple(self.network(pixel_values)))


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
