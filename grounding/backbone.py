"""EfficientNet-Lite0 as an image backbone: the network, its published weights, its place in transformers.

Knows nothing about text, boxes or training. Registered with ``AutoBackbone``, so that a MM-Grounding-DINO
configuration can name it as ``backbone_config``.
"""

from __future__ import annotations

from pathlib import Path

import torch
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
        weight = self.weight * scale[:, None, None, None]
        bias = self.norm_bias - self.norm_mean * scale
        padding = self.kernel // 2
        if self.stride > 1:
            x, padding = _pad_same(x, self.kernel, self.stride), 0
        x = F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), self.stride, padding, groups=self.groups)
        return F.relu6(x, inplace=True) if self.relu else x


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad (B, C, H, W) as TensorFlow's "same" does: the odd pixel goes to the right and the bottom."""
    height, width = x.shape[-2:]
    pad_h = max((-(-height // stride) - 1) * stride + kernel - height, 0)
    pad_w = max((-(-width // stride) - 1) * stride + kernel - width, 0)
    return F.pad(x, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))


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
        """(B, 3, H, W) to ``[(B, 40, H/8, W/8), (B, 112, H/16, W/16), (B, 320, H/32, W/32)]``."""
        x = self.stem(pixel_values)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in FEATURE_STAGES:
                features.append(x)
        return features

    @classmethod
    def from_base_weights(cls, folder: Path | None = None) -> EfficientNetLite:
        """The network with its published ImageNet weights, from ``folder`` or the base-weight cache."""
        if folder is None:
            from .base_weights import fetch

            folder = fetch("efficientnet-lite0")
        network = cls()
        network.load_published(load_file(Path(folder) / "model.safetensors"))
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
