"""Small trainings under one budget, and what they reach: what the ablation and the peer comparison share.

Knows nothing of what is compared.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grounding_answers import CachedAnswers
from benchmarks.grounding_figures import official
from benchmarks.stats import Resampled, resample
from grounding.criterion import CriterionConfig
from grounding.denoising import DenoisingConfig
from grounding.evaluate import find_sets
from grounding.evaluate.detections import Detections
from grounding.evaluate.matching import AT50, Figure, match
from grounding.evaluate.targets import TargetSet, read_targets
from grounding.train_config import TrainConfig

SETS = ("cxr_lungs", "ct_organs", "blood_cells", "brain_tumour_mri", "polyp_endoscopy", "fundus")


@dataclass(frozen=True)
class Budget:
    """What every compared run gets.

    Attributes:
        data_dir: Holds ``grounding/<set>``.
        out: Output folder; a run that is there is not made again.
        sets: Sets that are trained on in equal parts, and evaluated on their validation split.
        steps: Optimiser steps.
        batch_size: Images a step.
        image_size: Side of the network input in pixels.
        limit: Images evaluated a set, None = all.
        workers: Processes that prepare images.
    """

    data_dir: Path
    out: Path
    sets: tuple[str, ...] = SETS
    steps: int = 300
    batch_size: int = 8
    image_size: int = 256
    limit: int | None = None
    workers: int = 1

    @property
    def heading(self) -> str:
        """What a table of these runs holds."""
        return (
            f"AP50 on validation after {self.steps} steps of {self.batch_size} images at {self.image_size} px"
        )

    def config(self, seed: int) -> TrainConfig:
        """The full recipe under this budget: the row that the others are compared with."""
        return TrainConfig(
            sets=dict.fromkeys(self.sets, 1.0),
            image_size=self.image_size,
            batch_size=self.batch_size,
            steps=self.steps,
            warmup_steps=min(50, self.steps // 4 + 1),
            seed=seed,
            workers=self.workers,
            save_every=100,
            denoising=DenoisingConfig(queries=40),
            criterion=CriterionConfig(presence_weight=1.0, modality_weight=0.2),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that make a budget."""
    parser.add_argument("--data-dir", type=Path, required=True, help="holds grounding/<set>/")
    parser.add_argument("--out", type=Path, required=True, help="output folder; finished runs are kept")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names")
    parser.add_argument("--seeds", default="0", help="comma-separated numbers")
    parser.add_argument("--steps", type=int, default=Budget.steps)
    parser.add_argument("--batch-size", type=int, default=Budget.batch_size)
    parser.add_argument("--image-size", type=int, default=Budget.image_size)
    parser.add_argument("--limit", type=int, help="first N images a set (a quick look, no result)")
    parser.add_argument("--workers", type=int, default=Budget.workers)


def budget_of(args: argparse.Namespace) -> Budget:
    """The budget that the flags describe."""
    return Budget(
        args.data_dir,
        args.out,
        tuple(args.sets.split(",")),
        args.steps,
        args.batch_size,
        args.image_size,
        args.limit,
        args.workers,
    )


def evaluate_checkpoint(
    checkpoint: Path, budget: Budget, sets: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """AP50 and AP of a checkpoint on the validation split of each set; its answers are kept beside it."""
    figures = {}
    for targets, answers in answers_of(checkpoint, budget, sets):
        result = official(targets, answers)
        figures[targets.name] = {"ap50": result.ap50, "ap": result.ap}
    return figures


def resampled_ap50(checkpoint: Path, budget: Budget, n_bootstrap: int = 1000) -> dict[str, Resampled]:
    """AP50 of each set, resampled by patient; the same draws for every checkpoint of one budget."""
    return {
        targets.name: resample(
            {"ap50": Figure(match(targets, answers), at=AT50)},
            targets.groups,
            n_bootstrap=n_bootstrap,
            seed=zlib.crc32(targets.name.encode()),
        )["ap50"]
        for targets, answers in answers_of(checkpoint, budget)
    }


def answers_of(
    checkpoint: Path, budget: Budget, sets: Sequence[str] = ()
) -> list[tuple[TargetSet, list[Detections]]]:
    """What a checkpoint answers on each validation split, asked once and kept beside it."""
    from benchmarks.detectors import open_grounder  # loads torch

    cached = CachedAnswers(open_grounder(str(checkpoint)), checkpoint.parent / "answers")
    found = []
    for folder in find_sets(budget.data_dir, sets or budget.sets):
        targets = read_targets(folder, limit=budget.limit)
        found.append((targets, cached.answer(targets, [targets.labels] * len(targets.targets))))
    return found


def mean_ap50(figures: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over the sets."""
    return sum(each["ap50"] for each in figures.values()) / len(figures)


def write_result(folder: Path, figures: Mapping[str, object]) -> None:
    """``result.json`` of one run."""
    (folder / "result.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


def read_result(folder: Path) -> dict[str, dict[str, float]] | None:
    """AP50 and AP by set of a finished run, None where it is not finished."""
    path = folder / "result.json"
    if not path.exists():
        return None
    figures: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return figures


def table(rows: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], sets: Sequence[str]) -> str:
    """Markdown: AP50 of each set, mean over seeds, one row a name; the mean over sets at the end."""
    lines = [f"| | {' | '.join(sets)} | mean | seeds |", "|---|" + "---:|" * (len(sets) + 2)]
    for name, runs in rows.items():
        means = [sum(run[each]["ap50"] for run in runs) / len(runs) for each in sets]
        cells = " | ".join(f"{value:.3f}" for value in [*means, sum(means) / len(means)])
        lines.append(f"| {name} | {cells} | {len(runs)} |")
    return "\n".join(lines)
