"""Which weights are trained, how fast, and when: frozen parts, parameter groups, learning rate."""

from __future__ import annotations

import math

from torch import nn

from .modeling import MedGLIPForGrounding
from .train_config import TrainConfig


def freeze(model: MedGLIPForGrounding, config: TrainConfig) -> None:
    """Freeze what a run does not train: the text encoder, parts of the backbone, heads without a loss."""
    model.model.text_backbone.requires_grad_(False)
    backbone = model.model.backbone
    if config.tune == "full":
        freeze_stages(model, config.frozen_stages)
    else:
        backbone.requires_grad_(False)
    model.modality_embedding.requires_grad_(config.modality_conditioning)
    model.modality_head.requires_grad_(config.criterion.modality_weight > 0)
    model.presence_head.requires_grad_(config.criterion.presence_weight > 0)
    model.denoising_projection.requires_grad_(config.denoising.queries > 0)


def freeze_stages(model: MedGLIPForGrounding, count: int) -> None:
    """Freeze the stem and the first ``count`` stages of an EfficientNet backbone.

    Raises:
        ValueError: If the backbone has no such stages.
    """
    if not count:
        return
    network = getattr(model.model.backbone.conv_encoder.model, "network", None)
    if network is None:
        raise ValueError(
            f"expected an EfficientNet backbone for frozen_stages={count}; with this one set "
            "frozen_stages: 0, or tune: frozen_backbone"
        )
    for module in [network.stem, *network.stages[:count]]:
        module.requires_grad_(False)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Backbone and transformer, each with and without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not any("embed" in part for part in name.split(".")[-2:])
            groups.setdefault(("conv_encoder" in name, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * (config.backbone_factor if backbone else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in groups.items()
    ]


def rate_factor(step: int, config: TrainConfig) -> float:
    """Learning rate relative to its peak: linear warm-up, constant, cosine to zero over the last part."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_steps = max(int(config.steps * config.decay_fraction), 1)
    done = (step - (config.steps - decay_steps)) / decay_steps
    return 1.0 if done <= 0 else 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
