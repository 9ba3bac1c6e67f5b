"""The command `python -m grounding.evaluate`: COCO figures of our own grounder on the validation splits."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..tiling import BatchGrounder
from .coco import DetectionResult, markdown_table
from .dataset import evaluate_dataset, find_sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags, shared with benchmarks/run_grounding.py."""
    parser.add_argument(
        "--data-dir", required=True, help="folder that holds grounding/<set>/val.json and images/"
    )
    parser.add_argument("--sets", default="", help="comma-separated set names; default: every set found")
    parser.add_argument("--checkpoint", default="nano", help="grounder: a shipped name, a folder or a hub id")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=8, help="images a forward pass")
    parser.add_argument(
        "--limit", type=int, default=None, help="first N images a set (a quick look, no result)"
    )


def evaluate_sets(grounder: BatchGrounder, args: argparse.Namespace) -> dict[str, DetectionResult]:
    """Evaluate the sets that `add_arguments`' flags name; progress goes to stderr."""
    results = {}
    for folder in find_sets(args.data_dir, [s for s in args.sets.split(",") if s]):
        started = time.monotonic()
        results[folder.name] = evaluate_dataset(
            grounder,
            folder / "val.json",
            folder / "images",
            batch_size=args.batch_size,
            limit=args.limit,
            progress=partial(_show, folder.name),
        )
        print(f" in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def _show(name: str, done: int, total: int) -> None:
    print(f"\r{name}: {done}/{total} images", end="", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description="COCO figures of a grounder on the validation splits.")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    args = parser.parse_args(argv)
    from ..predictor import Grounder

    results = evaluate_sets(Grounder.from_pretrained(args.checkpoint, device=args.device), args)
    print(markdown_table(results))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({n: r.to_dict() for n, r in results.items()}, indent=2), encoding="utf-8"
        )
