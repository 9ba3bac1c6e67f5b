"""What each part of the training is worth: one small run a row, all under one budget.

    python benchmarks/ablate_grounding.py --row full --data-dir DATA --out runs/ablation
    python benchmarks/ablate_grounding.py --row fault_a --data-dir DATA --out runs/ablation
    ...
    python benchmarks/ablate_grounding.py --row all --data-dir DATA --out runs/ablation

Each row can be run by itself; the table, ``table.md`` in the output folder, holds the rows that are there.
Every row is ``full`` with one thing changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.small_runs import (
    Budget,
    add_arguments,
    budget_of,
    evaluate_checkpoint,
    read_result,
    table,
    write_result,
)
from grounding.criterion import CriterionConfig, GroundingCriterion, GroundingTarget, StepSize
from grounding.denoising import DenoisingConfig, DenoisingQueries
from grounding.outputs import GroundingOutput
from grounding.train import train
from grounding.train_config import TrainConfig


class FaultyCriterion(GroundingCriterion):
    """The criterion with the library's faults put back in, to see what they cost."""

    def __init__(self, config: CriterionConfig, *, fault_a: bool, fault_b: bool) -> None:
        """``fault_a``: tokens of another image's prompt. ``fault_b``: proposals without gradient."""
        super().__init__(config)
        self.fault_a, self.fault_b = fault_a, fault_b

    def forward(
        self,
        output: GroundingOutput,
        targets: list[GroundingTarget],
        token_mask: Tensor,
        denoising: DenoisingQueries | None = None,
        size: StepSize | None = None,
    ) -> dict[str, Tensor]:
        """As the criterion's; with fault B the proposals' losses train nothing."""
        if self.fault_b:
            output = replace(
                output,
                proposal_logits=output.proposal_logits.detach(),
                proposal_boxes=output.proposal_boxes.detach(),
            )
        return super().forward(output, targets, token_mask, denoising, size)

    def _token_targets(self, targets: list[GroundingTarget], index: int, columns: Tensor) -> Tensor:
        """Fault A: image i > 0 offsets its labels by its own number of phrases into all images' maps.

        The library stops where that lies past the end; here the last row is taken.
        """
        if not self.fault_a or index == 0:
            return super()._token_targets(targets, index, columns)
        rows = torch.cat([target.positive_map for target in targets])
        faulty = targets[index].phrase_index[columns] + len(targets[index].positive_map)
        return rows[faulty.clamp(max=len(rows) - 1)]


@dataclass(frozen=True)
class Row:
    """How one row differs from the full recipe.

    Attributes:
        what: Its name in the table.
        changes: Fields of the configuration.
        augment: Fields of its augmentation.
        faults: Faults put back, of "a" and "b".
        phantoms_first: Train on phantoms, for as many steps again, before the real sets.
    """

    what: str
    changes: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    faults: str = ""
    phantoms_first: bool = False


ROWS = {
    "full": Row("full recipe"),
    "fault_a": Row("fault A: tokens of the wrong prompt", faults="a"),
    "fault_b": Row("fault B: proposals without gradient", faults="b"),
    "faults_ab": Row("faults A and B", faults="ab"),
    "no_denoising": Row("without denoising", {"denoising": DenoisingConfig(queries=0)}),
    "no_negatives": Row("without absent phrases", augment={"absent_phrases": 0, "annotated_absent": 0.0}),
    "no_modality": Row("without modality conditioning", {"modality_conditioning": False}),
    "phantoms": Row("pre-trained on phantoms", phantoms_first=True),
}


def run_row(name: str, seed: int, budget: Budget) -> dict[str, dict[str, float]]:
    """Train and evaluate one row with one seed, or read what an earlier run found."""
    folder = budget.out / f"{name}-{seed}"
    known = read_result(folder)
    if known is not None:
        return known
    row, config = ROWS[name], budget.config(seed)
    config = replace(config, **row.changes, augment=replace(config.augment, **row.augment))
    if row.phantoms_first:
        config = replace(config, start=str(_train_on_phantoms(config, budget, folder / "phantoms_first")))
    criterion = None
    if row.faults:
        criterion = FaultyCriterion(config.criterion, fault_a="a" in row.faults, fault_b="b" in row.faults)
    checkpoint = train(config, budget.data_dir, folder, criterion)
    figures = evaluate_checkpoint(checkpoint, budget)
    write_result(folder, {"row": name, "seed": seed, "steps": config.steps, "figures": figures})
    return figures


def _train_on_phantoms(config: TrainConfig, budget: Budget, folder: Path) -> Path:
    """A checkpoint that has seen phantoms only."""
    return train(replace(config, sets={}, phantoms=1.0), budget.data_dir, folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the wanted rows; write and print the table of all rows that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", choices=[*ROWS, "all"], default="all")
    add_arguments(parser)
    args = parser.parse_args(argv)
    budget, seeds = budget_of(args), [int(seed) for seed in args.seeds.split(",")]
    for name in ROWS if args.row == "all" else [args.row]:
        for seed in seeds:
            run_row(name, seed, budget)
    there = {}
    for name, row in ROWS.items():
        results = [read_result(budget.out / f"{name}-{seed}") for seed in seeds]
        found = [result for result in results if result is not None]
        if found:
            there[row.what] = found
    text = f"{budget.heading}\n\n{table(there, budget.sets)}\n"
    (budget.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
