"""Grounding benchmark: every figure of `grounding.evaluate` on every set, our grounder beside its peers.

python benchmarks/run_grounding.py --data-dir DATA --checkpoint nano --out runs/grounding
python benchmarks/run_grounding.py --data-dir DATA --out runs/peers --peers transformers:FOLDER results:FOLDER

What the detectors answered is kept in the output folder and read again when the same command is repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import grounder_folder
from benchmarks.grounding_answers import AnswerSource, CachedAnswers, CocoResults
from benchmarks.grounding_figures import SetFigures, differences, intervals, measure, pooled, pooled_slices
from benchmarks.grounding_plots import plot_failures, plot_froc, plot_precision_recall, plot_reliability
from benchmarks.grounding_tables import report
from benchmarks.manifest import checkpoint_hash, sha256_files, write_manifest
from benchmarks.plots import plot_detection
from benchmarks.whole_files import write_whole
from grounding.calibration import FILE_NAME as CALIBRATION_FILE
from grounding.evaluate import add_arguments, find_sets, markdown_table
from grounding.evaluate.absent import draw_foreign
from grounding.evaluate.targets import TargetSet, read_targets

Run = dict[str, SetFigures]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(description="All grounding figures, with intervals, plots and manifest.")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--dtype", default="auto", help="of the grounders: float32, bfloat16 or auto")
    parser.add_argument(
        "--no-calibration", action="store_true", help="raw scores, though calibration.json lies beside it"
    )
    parser.add_argument(
        "--phrases-per-pass",
        nargs="*",
        type=int,
        default=[],
        metavar="K",
        help="ask the checkpoint again, K phrases a forward pass: each K is one more detector",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        default=[],
        metavar="KIND:PATH",
        help="grounder:CHECKPOINT, transformers:FOLDER_OR_ID (a zero-shot detector), results:FOLDER (COCO)",
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples behind each interval")
    parser.add_argument("--seed", type=int, default=0, help="of the phrases of other modalities")
    parser.add_argument("--gallery", action="store_true", help="draw failures (real images: never commit)")
    return parser.parse_args(argv)


def open_sources(args: argparse.Namespace) -> list[AnswerSource]:
    """The checkpoint first, then the peers in the order given.

    Raises:
        ValueError: a peer of an unknown kind, or two detectors of one name.
    """
    from benchmarks.detectors import ZeroShotDetector, open_grounder  # loads torch

    opened = partial(open_grounder, device=args.device, dtype=args.dtype, calibrated=not args.no_calibration)
    sources: list[AnswerSource] = [
        _cached(opened(args.checkpoint, phrases_per_pass=count), args)
        for count in (None, *args.phrases_per_pass)
    ]
    for peer in args.peers:
        kind, _, path = peer.partition(":")
        if kind == "grounder":
            sources.append(_cached(opened(path), args))
        elif kind == "transformers":
            sources.append(_cached(ZeroShotDetector.from_pretrained(path, device=args.device), args))
        elif kind == "results":
            sources.append(CocoResults(Path(path)))
        else:
            raise ValueError(f"expected grounder:, transformers: or results: and a path, got {peer!r}")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f"expected detectors of different names, got {names}; rename a folder")
    return sources


def _cached(detector: Any, args: argparse.Namespace) -> CachedAnswers:
    folder = args.out / "answers" / detector.name
    return CachedAnswers(detector, folder, batch_size=args.batch_size, progress=_show)


def _show(done: int, total: int) -> None:
    print(f"\r{done}/{total} images", end="" if done < total else "\n", file=sys.stderr, flush=True)


def run(source: AnswerSource, sets: Sequence[TargetSet], args: argparse.Namespace) -> Run:
    """All figures of one detector on all sets."""
    figures = {}
    for targets in sets:
        print(f"{source.name}: {targets.name}", file=sys.stderr)
        own = source.answer(targets, [targets.labels] * len(targets.targets))
        foreign = []
        if source.open_vocabulary:
            others = [each for each in sets if each is not targets]
            foreign = source.answer(targets, draw_foreign(targets, others, seed=args.seed))
        figures[targets.name] = measure(targets, own, foreign, source.threshold, n_bootstrap=args.bootstrap)
    return figures


def write(out: Path, runs: dict[str, Run]) -> None:
    """results.json of the first detector, results-NAME.json of the others, tables, summary and plots."""
    out.mkdir(parents=True, exist_ok=True)
    first, *others = runs
    for name, figures in runs.items():
        path = out / ("results.json" if name == first else f"results-{name}.json")
        write_whole(path, json.dumps({key: each.to_dict() for key, each in figures.items()}, indent=2))
        plot_precision_recall(figures, out / "plots" / f"precision-recall-{name}.png")
        plot_reliability(figures, out / "plots" / f"reliability-{name}.png")
    summary = {
        "mean over sets": {name: intervals(pooled(each.values())) for name, each in runs.items()},
        "modality and granularity": {
            name: {" / ".join(key): intervals(m) for key, m in pooled_slices(each.values()).items()}
            for name, each in runs.items()
        },
        "differences": {f"{first} - {name}": differences(runs[first], runs[name]) for name in others},
    }
    write_whole(out / "summary.json", json.dumps(summary, indent=2))
    write_whole(out / "results.md", report(runs))
    plot_detection({key: each.coco for key, each in runs[first].items()}, out / "results.png")
    plot_froc(runs, out / "plots" / "froc.png")


def calibration_hash(args: argparse.Namespace) -> str | None:
    """sha256 of the checkpoint's calibration; None where there is none, or it was not used."""
    folder = grounder_folder(args.checkpoint)
    path = None if folder is None else folder / CALIBRATION_FILE
    return sha256_files([path]) if path and path.is_file() and not args.no_calibration else None


def shown_from(source: AnswerSource, sets: Sequence[TargetSet]) -> dict[str, Any]:
    """What a detector shows by default: the least score of each label, and the least presence."""
    labels = dict.fromkeys(label for targets in sets for label in targets.labels)
    scores = {label: float(source.threshold.score(label)) for label in labels}
    return {"scores": scores, "presence": source.threshold.presence}


def main(argv: Sequence[str] | None = None) -> None:
    """Write results, tables, plots and manifest.json; print the COCO table of the checkpoint."""
    args = parse(argv)
    started = time.monotonic()
    folders = find_sets(args.data_dir, [s for s in args.sets.split(",") if s])
    sets = [read_targets(folder, limit=args.limit) for folder in folders]
    sources = open_sources(args)
    runs = {source.name: run(source, sets, args) for source in sources}
    write(args.out, runs)
    if args.gallery:
        for source in sources:
            for name, figures in runs[source.name].items():
                plot_failures(figures, source.threshold, args.out / "gallery" / source.name / f"{name}.png")
    settings = {
        "checkpoint": args.checkpoint,
        "checkpoint_sha256": checkpoint_hash(grounder_folder(args.checkpoint)),
        "calibration_sha256": calibration_hash(args),
        "thresholds": {source.name: shown_from(source, sets) for source in sources},
        "phrases_per_pass": args.phrases_per_pass,
        "peers": args.peers,
        "limit": args.limit,
        "batch_size": args.batch_size,
        "bootstrap": args.bootstrap,
        "seed": args.seed,
        "data_sha256": {folder.name: sha256_files([folder / "val.json"]) for folder in folders},
    }
    write_manifest(args.out / "manifest.json", settings, seconds=round(time.monotonic() - started, 1))
    print(markdown_table({name: each.coco for name, each in runs[sources[0].name].items()}))


if __name__ == "__main__":
    main()
