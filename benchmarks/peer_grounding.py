"""Ours against the stock detector under equal conditions: the training, not the architecture, is compared.

    python benchmarks/peer_grounding.py --data-dir DATA --out runs/peer --seeds 0,1,2

Both start from the same weights and see the same examples in the same order for the same number of steps,
with the same optimiser, schedule and moving average; both are read by the same predictor. The stock side is
transformers' ``MMGroundingDinoForObjectDetection`` with its own loss as it comes. Where prompts differ within
a batch that loss may raise IndexError; such a step trains nothing and is counted. The gain of a set is the
mean over seeds; its interval comes from resampling patients, the same for both sides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import MMGroundingDinoForObjectDetection

from benchmarks.small_runs import (
    Budget,
    add_arguments,
    budget_of,
    evaluate_checkpoint,
    mean_ap50,
    read_result,
    resampled_ap50,
    table,
    write_result,
)
from benchmarks.stats import Resampled, pool
from grounding.checkpoint import save_checkpoint
from grounding.data.mixture import Batch, GroundingMixture, collate
from grounding.modeling import MedGLIPForGrounding
from grounding.prompts import load_tokenizer
from grounding.schedule import freeze, parameter_groups, rate_factor
from grounding.train import picture_sides, starting_model, step_positions, train, training_sets
from grounding.train_config import TrainConfig

Figures = Mapping[str, Mapping[str, float]]


@dataclass
class StockRun:
    """The library's network in training, with the average of its weights.

    Attributes:
        network: The library's, sharing weights with nobody.
        config: The run.
        failed: Steps in which the library's loss raised.
    """

    network: MMGroundingDinoForObjectDetection
    config: TrainConfig
    failed: int = 0

    def __post_init__(self) -> None:
        """Optimiser and average as ours has them."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network.to(self.device).train()
        self.network.model.text_backbone.eval()
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, self.config), betas=(0.9, 0.999))
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}
        self.step = 0

    def train_step(self, batch: Batch) -> None:
        """One optimiser step, or one failure of the library's loss."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate_factor(self.step, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._loss(batch.to(self.device))
        except IndexError:
            self.failed += 1
        else:
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(list(self.trained.values()), self.config.clip_norm)
            self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - decay)

    def _loss(self, batch: Batch) -> torch.Tensor:
        labels = [{"class_labels": t.phrase_index, "boxes": t.boxes} for t in batch.targets]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            output = self.network(
                pixel_values=batch.pixel_values,
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                labels=labels,
            )
        loss: torch.Tensor = output.loss
        return loss

    def state(self) -> dict[str, torch.Tensor]:
        """The averaged weights under the network's names."""
        trained = {p.data_ptr(): self.average[name] for name, p in self.trained.items()}
        state = self.network.state_dict()
        return {name: trained.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}


def train_stock(config: TrainConfig, data_dir: Path, out: Path) -> tuple[Path, int]:
    """Train the library's network with its own loss; its checkpoint in our layout, and the failed steps."""
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    ours, _ = starting_model(config)
    freeze(ours, config)
    run = StockRun(stock_twin(ours), config)
    sets, weights = training_sets(config, data_dir, out, ours.config)
    mixture = GroundingMixture(
        sets,
        weights,
        load_tokenizer(),
        ours.config,
        config.augment,
        picture_sides(config),
        config.seed,
        config.denoising,  # unused, but drawn: so the examples are those that ours sees
    )
    loader = DataLoader(
        mixture,
        batch_sampler=step_positions(config, 0, 0, 1),
        collate_fn=collate,
        num_workers=config.workers,
    )
    for batch in tqdm(loader, desc="stock"):
        run.train_step(batch)
    save_checkpoint(ours.config, run.state(), out / "checkpoint")
    return out / "checkpoint", run.failed


def stock_twin(ours: MedGLIPForGrounding) -> MMGroundingDinoForObjectDetection:
    """The library's network with the same weights, frozen in the same places."""
    stock = MMGroundingDinoForObjectDetection(ours.config)
    stock.load_state_dict(
        {name: tensor for name, tensor in ours.state_dict().items() if name in stock.state_dict()}
    )
    frozen = {name for name, parameter in ours.named_parameters() if not parameter.requires_grad}
    for name, parameter in stock.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return stock


def run_pair(seed: int, budget: Budget) -> tuple[Figures, Figures]:
    """Figures of ours and stock with one seed, trained where they are not there yet."""
    config = budget.config(seed)
    found: list[Figures] = []
    for side in ("ours", "stock"):
        folder = budget.out / f"{side}-{seed}"
        figures = read_result(folder)
        if figures is None:
            if side == "ours":
                checkpoint, failed = train(config, budget.data_dir, folder), 0
            else:
                checkpoint, failed = train_stock(config, budget.data_dir, folder)
            figures = evaluate_checkpoint(checkpoint, budget)
            write_result(
                folder, {"seed": seed, "steps": config.steps, "failed_steps": failed, "figures": figures}
            )
        found.append(figures)
    return found[0], found[1]


def gains(seeds: Sequence[int], budget: Budget) -> dict[str, Resampled]:
    """Paired differences of AP50, mean over seeds, by set and as the mean over sets."""
    by_set: dict[str, list[Resampled]] = {name: [] for name in budget.sets}
    for seed in seeds:
        ours, stock = (
            resampled_ap50(budget.out / f"{side}-{seed}" / "checkpoint", budget) for side in ("ours", "stock")
        )
        for name, differences in by_set.items():
            differences.append(ours[name].minus(stock[name]))
    means = {name: pool(differences) for name, differences in by_set.items()}
    return {**means, "mean over sets": pool(list(means.values()))}


def main(argv: Sequence[str] | None = None) -> None:
    """Train both sides with every seed; write and print AP50 per set and the difference a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    budget, seeds = budget_of(args), [int(seed) for seed in args.seeds.split(",")]
    pairs = [run_pair(seed, budget) for seed in seeds]
    rows = {"ours": [ours for ours, _ in pairs], "stock": [stock for _, stock in pairs]}
    failed = [
        json.loads((budget.out / f"stock-{seed}" / "result.json").read_text())["failed_steps"]
        for seed in seeds
    ]
    lines = [
        budget.heading,
        "",
        table(rows, budget.sets),
        "",
        "Gain in AP50, ours - stock, with its 95 % interval:",
        "",
        *(f"- {name}: {gain.interval()}" for name, gain in gains(seeds, budget).items()),
        "",
        *(
            f"seed {seed}: mean AP50 ours - stock {mean_ap50(ours) - mean_ap50(stock):+.3f}; "
            f"steps in which the stock loss raised: {count}"
            for seed, (ours, stock), count in zip(seeds, pairs, failed, strict=True)
        ),
        "",
    ]
    text = "\n".join(lines)
    (budget.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
