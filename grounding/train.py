"""Train Med-GLIP: ``python -m grounding.train --config grounding/configs/nano.yaml --out runs/nano``.

Writes to the output folder: ``log.jsonl`` (losses, learning rate, seconds, images a second), ``loss.png``,
``state.pt`` (everything needed to resume, written atomically) and ``checkpoint/`` (the exponential moving
average of the weights, ready for ``Grounder.from_pretrained``). The same command continues an interrupted
run.

Several processes: ``torchrun --nproc_per_node 2 -m grounding.train ...``; a step then has the same images,
and the same gradients, as with one. Sharded weights (FSDP), for networks that fill a GPU: ``accelerate launch
--config_file grounding/configs/fsdp.yaml -m grounding.train ...``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader
from tqdm import tqdm

from .checkpoint import TEXT_ENCODER, load_checkpoint, load_published
from .config import load_config
from .criterion import GroundingCriterion
from .data.coco import CocoSet, read_coco
from .data.mixture import Batch, GroundingMixture, collate
from .data.phantoms.sets import phantom_sets
from .modeling import MedGLIPConfig, MedGLIPForGrounding
from .nano import new_nano
from .packaged import checkpoint_folder
from .prompts import load_tokenizer
from .train_config import TrainConfig
from .trainer import Trainer
from .training_log import TrainingLog, plot_losses


def train(
    config: TrainConfig, data_dir: Path, out: Path, criterion: GroundingCriterion | None = None
) -> Path:
    """Run or resume a training; returns the folder of the final checkpoint.

    Args:
        config: The run.
        data_dir: Holds ``grounding/<set>/train.json``.
        out: Output folder.
        criterion: In place of the one that ``config.criterion`` describes.

    Raises:
        ValueError: If ``batch_size`` does not divide among processes and micro-batches.
    """
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    model, own_text_encoder = starting_model(config)
    trainer = Trainer(config, model, criterion, own_text_encoder=own_text_encoder)
    trainer.restore(out)
    accelerator = trainer.accelerator
    with accelerator.main_process_first():
        sets, weights = training_sets(config, data_dir, out, trainer.model.config)
    mixture = GroundingMixture(
        sets,
        weights,
        load_tokenizer(),
        trainer.model.config,
        config.augment,
        picture_sides(config),
        config.seed,
        config.denoising,
    )
    parts = step_positions(config, trainer.step, accelerator.process_index, accelerator.num_processes)
    loader = DataLoader(
        mixture,
        batch_sampler=parts,
        collate_fn=collate,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    if accelerator.is_main_process:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
        with TrainingLog(out, trainer.step, config.tensorboard) as log:
            _run(trainer, loader, out, log)
        plot_losses(out / "log.jsonl", out / "loss.png")
    else:
        _run(trainer, loader, out, None)
    return out / "checkpoint"


def _run(trainer: Trainer, loader: DataLoader, out: Path, log: TrainingLog | None) -> None:
    """All steps that are left; the main process writes the log."""
    config = trainer.config
    progress = tqdm(total=config.steps, initial=trainer.step, disable=log is None)
    before = time.perf_counter()
    for batches in _groups(loader, config.accumulate):
        started = time.perf_counter()
        entry = trainer.train_step(batches)
        now = time.perf_counter()
        speed = {"seconds": round(now - started, 3), "images_s": round(config.batch_size / (now - before), 2)}
        before = now
        if log is not None:
            log.write(trainer.step, speed | entry)
        progress.set_postfix(loss=f"{entry['loss']:.2f}", images_s=speed["images_s"])
        progress.update()
        if trainer.step % config.save_every == 0 or trainer.step == config.steps:
            trainer.save(out)
    progress.close()


def _groups(loader: DataLoader, count: int) -> Iterator[list[Batch]]:
    """The micro-batches of each step."""
    group: list[Batch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == count:
            yield group
            group = []


def step_positions(config: TrainConfig, first: int, process: int, processes: int) -> list[list[int]]:
    """Positions in the mixture of each micro-batch of one process, from step ``first`` to the last.

    A step has the same ``batch_size`` images whatever the number of processes.

    Raises:
        ValueError: If they do not divide evenly.
    """
    shares = processes * config.accumulate
    if config.batch_size % shares:
        raise ValueError(
            f"expected a batch_size that divides among {processes} processes x {config.accumulate} "
            f"micro-batches, got {config.batch_size}"
        )
    size = config.batch_size // shares
    return [
        list(range(start, start + size))
        for step in range(first, config.steps)
        for micro in range(config.accumulate)
        for start in [step * config.batch_size + (process * config.accumulate + micro) * size]
    ]


def picture_sides(config: TrainConfig) -> np.ndarray:
    """Side in pixels of the picture of every example of a run, in order."""
    sides = np.full(config.steps * config.batch_size, config.image_size)
    sides[: config.first_steps * config.batch_size] = config.first_image_size
    return sides


def starting_model(config: TrainConfig) -> tuple[MedGLIPForGrounding, bool]:
    """The network that a run starts from, and whether its text encoder is its own (not a base weight).

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it does not fit.
    """
    if config.start is None:
        return new_nano(config.image_size), False
    folder = checkpoint_folder(config.start)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"expected a checkpoint folder or a packaged name, got {config.start!r}")
    published = json.loads((folder / "config.json").read_text())["model_type"] != MedGLIPConfig.model_type
    model = load_published(folder) if published else load_checkpoint(folder)
    model.config.image_size = config.image_size
    if published:
        return model, True
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        return model, any(name.startswith(TEXT_ENCODER) for name in list(tensors.keys()))


def training_sets(
    config: TrainConfig, data_dir: Path, out: Path, model_config: MedGLIPConfig
) -> tuple[list[CocoSet], list[float]]:
    """All sets of a run with their weights: new ones, old ones, phantoms; their labels are stated."""
    names = [*config.sets, *config.replay]
    sets = [
        read_coco(data_dir / "grounding" / name, "train").without_held_out(config.hold_out) for name in names
    ]
    sets = [without_sides(each) if each.name in config.turned else each for each in sets]
    weights = list(config.sets.values())
    state_labels(model_config, sets, kept=config.start is not None)
    if config.phantoms:
        drawn = phantom_sets(out / "phantoms", config.phantom_images)
        sets[len(config.sets) : len(config.sets)] = drawn
        weights += [config.phantoms / len(drawn)] * len(drawn)
    if config.replay:
        new, old = sum(weights), sum(config.replay.values())
        weights = [weight / new * (1 - config.replay_share) for weight in weights]
        weights += [weight / old * config.replay_share for weight in config.replay.values()]
    return sets, weights


def without_sides(coco: CocoSet) -> CocoSet:
    """The set as one whose pictures may be turned and mirrored.

    Raises:
        ValueError: If one of its labels names a side.
    """
    if sided := [label for label in coco.labels if {"left", "right"} & set(label.lower().split())]:
        raise ValueError(
            f"{coco.name}: pictures cannot be mirrored, {sided} have sides; take it out of `turned`"
        )
    return replace(coco, turned=True)


def state_labels(config: MedGLIPConfig, sets: Sequence[CocoSet], kept: bool = False) -> None:
    """Write down what a model is trained on: every label of ``sets`` and the kinds of image it is seen in.

    Modalities that share a conditioning (CR and DX) stand together. Phantoms do not count. What the start
    stated before is ``kept`` or replaced.
    """
    known = dict(config.label_modalities or {}) if kept else {}
    config.labels = list(
        dict.fromkeys([*(config.labels if kept else ()), *(label for each in sets for label in each.labels)])
    )
    config.label_modalities = {
        label: [
            code
            for group in config.modalities
            if set(known.get(label, ())) & set(group)
            or any(label in each.labels and each.modalities & set(group) for each in sets)
            for code in group
        ]
        for label in config.labels
    }


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
