"""How many images a second a training step takes, ours against a naive one, on this machine.

    python benchmarks/bench_training.py --data-dir DATA --steps 5 --out training_speed.json

Both sides take the same steps on the same batches, from the same weights and with the same losses, heads and
denoising queries, one after the other in turn. The naive side runs transformers' kernels in float32, with
images in the layout that they come in and a focal loss left to autograd; ours is what ``grounding.train``
does. Making the examples is not counted. Seconds of the processor are given beside the clock's: other
programs lengthen those less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from grounding.config import load_config
from grounding.criterion import GroundingCriterion
from grounding.data.mixture import Batch, GroundingMixture, collate
from grounding.modeling import MedGLIPForGrounding
from grounding.prompts import load_tokenizer
from grounding.train import starting_model, training_sets
from grounding.train_config import TrainConfig
from grounding.trainer import Trainer

RECIPE: Final = Path(__file__).resolve().parent.parent / "grounding" / "configs" / "nano_v1.yaml"
SIDES: Final = ("naive", "ours")


class PlainCriterion(GroundingCriterion):
    """The same losses, the focal one as its formula reads."""

    def _focal_loss(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        alpha = self.config.focal_alpha
        logits = logits.masked_fill(~mask, -30.0)  # padding carries -inf, whose gradient is NaN
        cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        wrong = (target - logits.sigmoid()).abs()
        weight = (alpha * target + (1 - alpha) * (1 - target)) * mask
        return (weight * wrong**self.config.focal_gamma * cost).sum((-2, -1))


def trainers(config: TrainConfig) -> dict[str, Trainer]:
    """The naive side and ours, with equal weights."""
    model, own_text = starting_model(config)
    plain = MedGLIPForGrounding(_without_kernels(model))
    plain.load_state_dict(model.state_dict())
    ours = Trainer(config, model, own_text_encoder=own_text)
    criterion = PlainCriterion(config.criterion)
    naive = Trainer(replace(config, bf16=False), plain, criterion, own_text_encoder=own_text)
    naive.model.to(memory_format=torch.contiguous_format)
    naive.model.model.backbone.conv_encoder.model.register_forward_pre_hook(
        lambda _, arguments: (arguments[0].contiguous(), *arguments[1:])
    )
    return {"naive": naive, "ours": ours}


def _without_kernels(model: MedGLIPForGrounding) -> Any:
    """The configuration of the same network with the library's own attention."""
    return type(model.config).from_dict({**model.config.to_dict(), "disable_custom_kernels": True})


def batches(config: TrainConfig, data_dir: Path, count: int, model_config: Any) -> list[Batch]:
    """``count`` batches of the recipe's mixture."""
    with tempfile.TemporaryDirectory() as folder:
        sets, weights = training_sets(config, data_dir, Path(folder), model_config)
        images = count * config.batch_size
        sides = np.full(images, config.image_size)
        arguments = (config.augment, sides, config.seed, config.denoising)
        mixture = GroundingMixture(sets, weights, load_tokenizer(), model_config, *arguments)
        rows = [range(start, start + config.batch_size) for start in range(0, images, config.batch_size)]
        return [collate([mixture[index] for index in row]) for row in rows]


def time_steps(
    steps: Mapping[str, Callable[[Batch], object]], data: Sequence[Batch]
) -> dict[str, list[tuple[float, float]]]:
    """Clock and processor seconds of every step of each side, in turn; the first batch warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in steps}
    for index, batch in enumerate(data):
        for side, step in steps.items():
            clock, processor = time.perf_counter(), time.process_time()
            step(batch)
            if index:
                seconds[side].append((time.perf_counter() - clock, time.process_time() - processor))
    return seconds


def summarise(seconds: dict[str, list[tuple[float, float]]], batch_size: int) -> dict[str, Any]:
    """Median seconds a step and images a second of each side, and how many times faster ours is."""
    result: dict[str, Any] = {}
    for side, values in seconds.items():
        clock, processor = (statistics.median(column) for column in zip(*values, strict=True))
        result[side] = {
            "step_seconds": clock,
            "step_processor_seconds": processor,
            "images_per_second": batch_size / clock,
            "images_per_processor_second": batch_size / processor,
        }
    naive, ours = (result[side] for side in SIDES)
    result["ratio"] = naive["step_seconds"] / ours["step_seconds"]
    result["processor_ratio"] = naive["step_processor_seconds"] / ours["step_processor_seconds"]
    return result


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MEDGLIP_DATA"))
    parser.add_argument("--config", type=Path, default=RECIPE, help="recipe whose step is timed")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side, after one to warm up")
    parser.add_argument("--threads", type=int, help="torch's threads; default: torch's own choice")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.data_dir is None:
        parser.error("expected --data-dir or the environment variable MEDGLIP_DATA")
    if options.threads:
        torch.set_num_threads(options.threads)
    config = load_config(TrainConfig, options.config, {"start": "nano", "phantom_images": 2})
    sides = trainers(config)
    data = batches(config, Path(options.data_dir), options.steps + 1, sides["ours"].model.config)
    steps = {
        side: lambda batch, trainer=trainer: trainer.train_step([batch]) for side, trainer in sides.items()
    }
    result = summarise(time_steps(steps, data), config.batch_size)
    result |= {"threads": torch.get_num_threads(), "batch_size": config.batch_size, "steps": options.steps}
    result["device"] = str(sides["ours"].device)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    rates = ", ".join(f"{side} {result[side]['images_per_second']:.2f}" for side in SIDES)
    print(
        f"images/s: {rates} ({result['ratio']:.2f} x by the clock, {result['processor_ratio']:.2f} x by the "
        f"processor's time; {result['threads']} thread(s))"
    )
    return result


if __name__ == "__main__":
    main()
