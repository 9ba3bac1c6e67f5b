"""Grounding benchmark: `grounding.evaluate` over every set, with a run manifest and plots.

python benchmarks/run_grounding.py --data-dir DATA --checkpoint nano --out runs/grounding
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkpoints import grounder_folder
from benchmarks.manifest import checkpoint_hash, sha256_files, write_manifest
from benchmarks.plots import plot_detection
from grounding.evaluate import add_arguments, evaluate_sets, find_sets, markdown_table


def main(argv: Sequence[str] | None = None) -> None:
    """Write results.json, results.md, results.png and manifest.json; print the table."""
    parser = argparse.ArgumentParser(description="COCO figures of a grounder, with manifest and plots.")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    args = parser.parse_args(argv)
    from grounding.predictor import Grounder

    started = time.monotonic()
    results = evaluate_sets(Grounder.from_pretrained(args.checkpoint, device=args.device), args)
    table = markdown_table(results)
    args.out.mkdir(parents=True, exist_ok=True)
    figures = {name: r.to_dict() for name, r in results.items()}
    (args.out / "results.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    (args.out / "results.md").write_text(table + "\n", encoding="utf-8")
    plot_detection(results, args.out / "results.png")
    settings = {
        "checkpoint": args.checkpoint,
        "checkpoint_sha256": checkpoint_hash(grounder_folder(args.checkpoint)),
        "limit": args.limit,
        "batch_size": args.batch_size,
        "data_sha256": {
            f.name: sha256_files([f / "val.json"]) for f in find_sets(args.data_dir, list(results))
        },
    }
    write_manifest(args.out / "manifest.json", settings, seconds=round(time.monotonic() - started, 1))
    print(table)


if __name__ == "__main__":
    main()
