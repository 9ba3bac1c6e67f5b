"""What fine-tuning on new sets costs on the old ones, with and without showing the old ones again.

    python benchmarks/forget_grounding.py --data-dir DATA --out runs/forget

A checkpoint is trained on the old sets, then on the new ones in several ways, always from that checkpoint.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.small_runs import (
    Budget,
    add_arguments,
    budget_of,
    evaluate_checkpoint,
    read_result,
    table,
    write_result,
)
from grounding.train import train

OLD, NEW = ("cxr_lungs", "ct_organs", "blood_cells", "polyp_endoscopy"), ("nuclei", "fetal_head_ultrasound")
WAYS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "all weights, 30 % replay": {"replay_share": 0.3},
    "backbone frozen": {"tune": "frozen_backbone"},
    "LoRA": {"tune": "lora"},
    "LoRA, 30 % replay": {"tune": "lora", "replay_share": 0.3},
}


def before(old: Sequence[str], seed: int, budget: Budget) -> Path:
    """A checkpoint that knows the old sets."""
    folder = budget.out / f"before-{seed}"
    if read_result(folder) is None:
        config = replace(budget.config(seed), sets=dict.fromkeys(old, 1.0))
        figures = evaluate_checkpoint(train(config, budget.data_dir, folder), budget)
        write_result(folder, {"seed": seed, "figures": figures})
    return folder / "checkpoint"


def after(
    name: str, start: Path, sets: tuple[Sequence[str], Sequence[str]], seed: int, budget: Budget
) -> Path:
    """Fine-tune ``start`` in one of the ``WAYS``; ``sets`` are the old and the new ones."""
    old, new = sets
    folder = budget.out / f"{'-'.join(re.findall('[a-z0-9]+', name.lower()))}-{seed}"
    if read_result(folder) is None:
        way = dict(WAYS[name])
        replay = dict.fromkeys(old, 1.0) if "replay_share" in way else {}
        config = replace(
            budget.config(seed), sets=dict.fromkeys(new, 1.0), replay=replay, start=str(start), **way
        )
        figures = evaluate_checkpoint(train(config, budget.data_dir, folder), budget)
        write_result(folder, {"way": name, "seed": seed, "figures": figures})
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    """Train before and after in every way; write and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--old", default=",".join(OLD), help="comma-separated names; what may be forgotten")
    parser.add_argument("--new", default=",".join(NEW), help="comma-separated names; what is learned then")
    args = parser.parse_args(argv)
    old, new = args.old.split(","), args.new.split(",")
    budget = replace(budget_of(args), sets=(*old, *new))
    rows: dict[str, list[dict[str, dict[str, float]]]] = {}
    for seed in map(int, args.seeds.split(",")):
        start = before(old, seed, budget)
        folders = {"before": start.parent}
        folders |= {name: after(name, start, (old, new), seed, budget) for name in WAYS}
        for name, folder in folders.items():
            result = read_result(folder)
            assert result is not None
            rows.setdefault(name, []).append(result)
    heading = (
        f"{budget.heading} on the old sets ({', '.join(old)}), and as many on the new ({', '.join(new)})"
    )
    text = f"{heading}\n\n{table(rows, budget.sets)}\n"
    (budget.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
