"""Train Med-GLIP: ``python -m grounding.train --config grounding/configs/nano.yaml --out runs/nano``.

Writes to the output folder: ``log.jsonl`` (losses, learning rate, seconds), ``loss.png``, ``state.pt``
(everything needed to resume, written atomically) and ``checkpoint/`` (the exponential moving average of the
weights, ready for ``Grounder.from_pretrained``). The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from .checkpoint import save_checkpoint
from .config import load_config
from .criterion import CriterionConfig, GroundingCriterion
from .data.coco import CocoSet, read_coco
from .data.mixture import AugmentConfig, Batch, GroundingMixture, collate
from .data.phantoms.sets import phantom_sets
from .modeling import MedGLIPConfig, MedGLIPForGrounding, new_nano
from .prompts import load_tokenizer


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        sets: Weight of each set (a folder under ``<data-dir>/grounding``) in the mixture.
        phantoms: Weight of the phantoms in the mixture, shared evenly by their modalities.
        phantom_images: Phantoms drawn of each modality.
        image_size: Side of the square network input in pixels.
        batch_size: Images a step.
        steps: Optimiser steps in all.
        learning_rate: Peak learning rate of the transformer.
        backbone_factor: Learning rate of the image backbone relative to ``learning_rate``.
        frozen_stages: Backbone stages (after the stem) that are not trained.
        weight_decay: AdamW's weight decay, not applied to norms, biases and embeddings.
        warmup_steps: Steps of linear warm-up.
        decay_fraction: Last part of the run in which the learning rate falls to zero along a cosine.
        clip_norm: Largest norm of the gradient.
        ema_decay: Decay of the moving average of the weights.
        seed: Seed of initialisation, order and augmentation.
        workers: Processes that prepare images.
        save_every: Steps between two saved states.
        bf16: Run the transformer in bfloat16 (the backbone stays in float32, where it is faster on CPU).
        criterion: Loss weights.
        augment: Augmentation.
    """

    sets: dict[str, float]
    phantoms: float = 0.0
    phantom_images: int = 60
    image_size: int = 320
    batch_size: int = 8
    steps: int = 2000
    learning_rate: float = 4e-4
    backbone_factor: float = 0.25
    frozen_stages: int = 2
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    save_every: int = 100
    bf16: bool = True
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class Trainer:
    """A training run whose whole state can be saved and restored."""

    def __init__(self, config: TrainConfig, model: MedGLIPForGrounding, device: torch.device) -> None:
        """A run at step 0; :meth:`restore` continues one."""
        self.config, self.device = config, device
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.model.model.text_backbone.eval()  # frozen: no dropout
        freeze_stages(model, config.frozen_stages)
        self.criterion = GroundingCriterion(config.criterion)
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.999))
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = {name: p.detach().clone() for name, p in self.trainable.items()}
        self.step = 0

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns the losses, the gradient norm and the learning rate."""
        factor = rate_factor(self.step, self.config)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        losses = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(list(self.trainable.values()), self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {name: value.item() for name, value in losses.items()} | {
            "gradient_norm": norm.item(),
            "learning_rate": self.config.learning_rate * factor,
        }

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses of one batch, with gradient."""
        pixels = batch.pixel_values.to(self.device, memory_format=torch.channels_last)
        mask = batch.attention_mask.to(self.device)
        image = self.model.encode_image(pixels)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            text = self.model.encode_text(batch.input_ids.to(self.device), mask)
            output = self.model.ground(image, text, batch.modality_ids.to(self.device))
        targets = [
            type(target)(*(getattr(target, name).to(self.device) for name in target.__dataclass_fields__))
            for target in batch.targets
        ]
        return self.criterion(output, targets, mask.bool())

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average starts short, so that early checkpoints are not held back by the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.trainable.values()), 1 - decay)

    def averaged_state(self) -> dict[str, torch.Tensor]:
        """The model's state dict with the averaged weights in place of the trained ones."""
        state = self.model.state_dict()
        trained = {p.data_ptr(): self.average[name] for name, p in self.trainable.items()}
        return {name: trained.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}

    def save(self, folder: Path) -> None:
        """Write ``state.pt`` (atomically) and ``checkpoint/``."""
        state = {
            "step": self.step,
            "weights": {name: p.detach() for name, p in self.trainable.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, folder / "state.tmp")
        os.replace(folder / "state.tmp", folder / "state.pt")
        save_checkpoint(self.model.config, self.averaged_state(), folder / "checkpoint")

    def restore(self, path: Path) -> None:
        """Continue from a ``state.pt``."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state["weights"][name])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def freeze_stages(model: MedGLIPForGrounding, count: int) -> None:
    """Freeze the stem and the first ``count`` stages of an EfficientNet backbone."""
    network = model.model.backbone.conv_encoder.model.network
    for module in [network.stem, *network.stages[:count]] if count else []:
        module.requires_grad_(False)


def parameter_groups(model: MedGLIPForGrounding, config: TrainConfig) -> list[dict]:
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


def train(config: TrainConfig, data_dir: Path, out: Path) -> Path:
    """Run or resume a training; returns the folder of the final checkpoint."""
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(config, new_nano(config.image_size), device)
    if (out / "state.pt").exists():
        trainer.restore(out / "state.pt")
    drop_log_after(out / "log.jsonl", trainer.step)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    sets = [read_coco(data_dir / "grounding" / name, "train") for name in config.sets]
    state_labels(trainer.model.config, sets)
    weights = list(config.sets.values())
    if config.phantoms:
        drawn = phantom_sets(out / "phantoms", config.phantom_images)
        sets += drawn
        weights += [config.phantoms / len(drawn)] * len(drawn)
    mixture = GroundingMixture(
        sets,
        weights,
        load_tokenizer(),
        trainer.model.config,
        config.augment,
        config.steps * config.batch_size,
        config.seed,
    )
    rest = Subset(mixture, range(trainer.step * config.batch_size, len(mixture)))
    loader = DataLoader(
        rest,
        batch_size=config.batch_size,
        collate_fn=collate,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    with open(out / "log.jsonl", "a") as log, tqdm(total=config.steps, initial=trainer.step) as progress:
        for batch in loader:
            started = time.perf_counter()
            entry = trainer.train_step(batch)
            seconds = time.perf_counter() - started
            log.write(json.dumps({"step": trainer.step, "seconds": round(seconds, 3), **entry}) + "\n")
            log.flush()
            progress.set_postfix(loss=f"{entry['loss']:.2f}", images_s=f"{config.batch_size / seconds:.1f}")
            progress.update()
            if trainer.step % config.save_every == 0 or trainer.step == config.steps:
                trainer.save(out)
    plot_losses(out / "log.jsonl", out / "loss.png")
    return out / "checkpoint"


def state_labels(config: MedGLIPConfig, sets: Sequence[CocoSet]) -> None:
    """Write down what a model is trained on: every label of ``sets`` and the kinds of image it is seen in.

    Modalities that share a conditioning (CR and DX) stand together. Phantoms do not count.
    """
    config.labels = list(dict.fromkeys(label for each in sets for label in each.labels))
    config.label_modalities = {
        label: [
            code
            for group in config.modalities
            if any(label in each.labels and each.modalities & set(group) for each in sets)
            for code in group
        ]
        for label in config.labels
    }


def drop_log_after(log: Path, step: int) -> None:
    """Remove what an interrupted run logged after its last saved state, since those steps are run again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text(
            "".join(line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step)
        )


def plot_losses(log: Path, picture: Path) -> None:
    """Draw the losses of the last decoder layer and of the proposals against the step."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    window = max(len(entries) // 100, 1)
    for name in ("class", "box", "giou", "class_proposals", "giou_proposals"):
        values = [entry[name] for entry in entries]
        smooth = [sum(values[i : i + window]) / window for i in range(0, len(values) - window + 1, window)]
        axes.plot(
            [entries[i]["step"] for i in range(0, len(values) - window + 1, window)], smooth, label=name
        )
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="Training losses")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the fields of TrainConfig")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MEDGLIP_DATA"), help="or MEDGLIP_DATA"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder; an interrupted run continues")
    parser.add_argument("--steps", type=int, help="overrides the configuration")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("expected --data-dir or the environment variable MEDGLIP_DATA")
    overrides = {} if arguments.steps is None else {"steps": arguments.steps}
    config = load_config(TrainConfig, arguments.config, overrides)
    print(f"checkpoint written to {train(config, Path(arguments.data_dir), arguments.out)}")


if __name__ == "__main__":
    main()
