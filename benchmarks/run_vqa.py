"""Visual question answering with controls and baselines: predictions.jsonl, metrics.json, a markdown table.

    python benchmarks/run_vqa.py --data-dir DATA --split disjoint-test --boxes none predicted --out runs/d
    python benchmarks/run_vqa.py --task boxes --data-dir DATA --boxes none predicted oracle --out runs/b
    python benchmarks/run_vqa.py --compare runs/d:predicted runs/d:nearest-question

Run the same command again after an interruption: it continues, and the result is the same. A checkpoint is
never evaluated on a test that its training split leaks into: see `checkpoints`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args

from benchmarks.baselines import BASELINES
from benchmarks.box_conditions import CONDITIONS, read_regions
from benchmarks.checkpoints import check_regions, check_training, checkpoint_folder, grounder_fingerprint
from benchmarks.manifest import checkpoint_hash, sha256_files, write_manifest
from benchmarks.runner import Generate, Predictions, Row, check_identity, predict, to_row
from benchmarks.summary import (
    breakdown_table,
    compare,
    comparison_table,
    headline_table,
    protocols_table,
    summarise,
)
from benchmarks.tasks.base import Sample, Task
from benchmarks.tasks.box_questions import BoxQuestions
from benchmarks.tasks.vqa_rad import EvalSplit, VqaRad
from grounding.types import MedicalImage, Regions

SEED = 0
MAX_NEW_TOKENS = 16


def main(argv: Sequence[str] | None = None) -> None:
    """Run or compare."""
    args = parse_arguments(argv)
    if args.compare:
        print(compare_runs(*args.compare))
        return
    print(run(args))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags; ends with a usage message where they do not fit together."""
    parser = argparse.ArgumentParser(description="Questions with box controls and baselines.")
    parser.add_argument(
        "--task", choices=("vqa_rad", "boxes"), default="vqa_rad", help="boxes: asked of true boxes"
    )
    parser.add_argument("--data-dir", type=Path, help="folder that holds vqa/vqa_rad or grounding/<set>")
    parser.add_argument("--split", choices=get_args(EvalSplit), default="disjoint-test", help="of vqa_rad")
    parser.add_argument("--boxes", nargs="+", choices=CONDITIONS, default=["predicted"])
    parser.add_argument(
        "--model", default="nano", help="nano, a checkpoint folder, or `baselines` (no model)"
    )
    parser.add_argument(
        "--regions", type=Path, help="regions.jsonl of this split; default: computed with --grounder"
    )
    parser.add_argument("--grounder", default="nano", help="grounder that computes regions")
    parser.add_argument("--out", type=Path, help="output folder; continued where it exists")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--limit", type=int, help="first N questions (a quick look, no result)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two runs: FOLDER or FOLDER:CONDITION")
    args = parser.parse_args(argv)
    if not args.compare and (args.data_dir is None or args.out is None):
        parser.error("--data-dir and --out are needed (or --compare A B)")
    if "oracle" in args.boxes and args.task != "boxes":
        parser.error("VQA-RAD has no true boxes: `--boxes oracle` is for `--task boxes`")
    return args


def run(args: argparse.Namespace) -> str:
    """Answer, score and write; returns the markdown that is also in results.md."""
    started = time.monotonic()
    task: Task = BoxQuestions(args.data_dir) if args.task == "boxes" else VqaRad(args.data_dir, args.split)
    samples = task.samples()[: args.limit]
    identity = {
        "task": task.name,
        "split": task.split,
        "limit": args.limit,
        "batch_size": args.batch_size,
        "max_new_tokens": MAX_NEW_TOKENS,
        "seed": SEED,
        "data_sha256": sha256_files(task.files()),
        "model": "baselines",
    }
    predictions_path = args.out / "predictions.jsonl"
    conditions = list(BASELINES)
    if args.model == "baselines":
        check_identity(args.out / "identity.json", identity)
        predictions = Predictions(predictions_path)
    else:
        conditions = [*args.boxes, *conditions]
        folder = checkpoint_folder(args.model)
        trained_on = check_training(folder, args.model, task)
        identity |= {
            "model": args.model,
            "model_sha256": checkpoint_hash(folder),
            "trained_on": trained_on,
        }
        check_identity(args.out / "identity.json", identity)
        regions_path = regions_file(args, task) if {"predicted", "shuffled"} & {*args.boxes} else None
        if regions_path:
            check_identity(args.out / "regions.json", regions_identity(args, regions_path))
        predictions = Predictions(predictions_path)
        answer_with_model(args, task, samples, regions_path, predictions)
    run_baselines(task, samples, predictions)
    predictions.finish(conditions, samples)
    markdown = write_results(args.out, task, conditions, samples, predictions, identity)
    write_manifest(args.out / "manifest.json", identity, seconds=round(time.monotonic() - started, 1))
    return markdown


def regions_file(args: argparse.Namespace, task: Task) -> Path:
    """The given regions, or those that the grounder gives the task, written to the output folder."""
    if args.regions is not None:
        check_regions(args.regions, args.grounder)
        return Path(args.regions)
    from grounding import Grounder

    path: Path = args.out / "regions.jsonl"
    task.predict_regions(Grounder.from_pretrained(args.grounder, device=args.device), path, args.limit)
    return path


def regions_identity(args: argparse.Namespace, path: Path) -> dict[str, str | None]:
    """What the regions are: their hash, and the grounder's where it computed them here."""
    identity: dict[str, str | None] = {"regions_sha256": sha256_files([path])}
    if args.regions is None:
        identity |= {"grounder": args.grounder, "grounder_sha256": grounder_fingerprint(args.grounder)}
    return identity


def answer_with_model(
    args: argparse.Namespace,
    task: Task,
    samples: Sequence[Sample],
    regions_path: Path | None,
    predictions: Predictions,
) -> None:
    """Answer all samples under each of `args.boxes`; the model loads only where an answer is missing."""
    by_condition: dict[str, Mapping[str, Regions]] = {"none": {}}
    if regions_path is not None:
        by_condition["predicted"] = read_regions(regions_path, samples)
    if "oracle" in args.boxes:
        by_condition["oracle"] = task.oracle_regions()
    if "shuffled" in args.boxes:
        by_condition["shuffled"] = task.shuffle_regions(samples, by_condition["predicted"], SEED)
    generate = model_answers(args.model, args.device, by_condition)
    for condition in args.boxes:
        predict(
            task,
            samples,
            condition,
            generate,
            predictions,
            batch_size=args.batch_size,
            length=partial(prompt_length, by_condition[condition]),
        )


def prompt_length(regions: Mapping[str, Regions], sample: Sample) -> int:
    """Roughly the length of a prompt in characters: the question, and about 20 a region."""
    return len(sample.prompt) + 20 * len(regions.get(sample.sample_id, ()))


def model_answers(model: str, device: str, by_condition: Mapping[str, Mapping[str, Regions]]) -> Generate:
    """A `generate` for the runner; images and the model load on first use and are kept."""
    from llm.types import SpatialPrompt

    open_image = lru_cache(maxsize=256)(MedicalImage.open)

    @lru_cache(maxsize=1)
    def load() -> Any:
        from llm.generate import load_model

        return load_model(model, device=device)

    def generate(batch: Sequence[Sample], condition: str) -> list[tuple[str, float | None]]:
        regions = by_condition[condition]
        prompts = [SpatialPrompt(s.prompt, open_image(s.image_path), regions.get(s.sample_id)) for s in batch]
        generations = load().generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
        return [(g.text, g.confidence) for g in generations]

    return generate


def run_baselines(task: Task, samples: Sequence[Sample], predictions: Predictions) -> None:
    """Add the language-only baselines, fitted on the split's own training part."""
    if all((s.sample_id, name) in predictions.rows for s in samples for name in BASELINES):
        return
    train = task.train_samples()
    for name, baseline in BASELINES.items():
        answers = baseline(train, samples)
        predictions.append([to_row(task, s, name, a, None) for s, a in zip(samples, answers, strict=True)])


def write_results(
    out: Path,
    task: Task,
    conditions: Sequence[str],
    samples: Sequence[Sample],
    predictions: Predictions,
    identity: Mapping[str, Any],
) -> str:
    """metrics.json and results.md; returns the markdown."""
    rows = {c: predictions.of(c, samples) for c in conditions}
    summaries = {c: summarise(r, seed=SEED) for c, r in rows.items()}
    lead = conditions[0]
    others = [c for c in conditions if c != lead] if lead not in BASELINES else []
    if "predicted" in others:  # the claim is about predicted boxes, whatever was named first
        lead, others = "predicted", [lead, *(c for c in others if c != "predicted")]
    comparisons = {f"{lead} - {c}": compare(rows[lead], rows[c], task.headline, seed=SEED) for c in others}
    metrics = {
        "task": task.name,
        "split": task.split,
        "model": identity["model"],
        "trained_on": identity.get("trained_on"),
        "headline": task.headline,
        "n": len(samples),
        "n_clusters": len({s.cluster for s in samples}),
        "conditions": summaries,
        "comparisons": comparisons,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    title = f"## {task.name} {task.split}, {identity['model']}: {len(samples)} questions"
    clusters = f"{metrics['n_clusters']} {task.cluster}s"
    note = f"Means with 95 % bootstrap intervals clustered by {task.cluster} ({clusters})."
    if "trained_on" in identity:
        note += f" Model trained on: {', '.join(identity['trained_on']) or 'NOT RECORDED'}."
    tables = [headline_table(summaries, task.headline)]
    tables += [comparison_table(comparisons, task.headline)] if comparisons else []
    groups = [g for g in samples[0].groups if g != "answer type"]
    tables += [breakdown_table(summaries, task.headline, g) for g in groups]
    tables += [protocols_table(summaries)]
    markdown = "\n\n".join([title, note, *tables]) + "\n"
    (out / "results.md").write_text(markdown, encoding="utf-8")
    return markdown


def compare_runs(a: str, b: str) -> str:
    """Paired comparison of two runs' headline scores, as a markdown table.

    Args:
        a: FOLDER or FOLDER:CONDITION; without a condition every one that both runs have is compared.
        b: the same.
    """
    (rows_a, protocol), (rows_b, _) = _load(a), _load(b)
    if len(rows_a) == 1 and len(rows_b) == 1:
        pairs = [(next(iter(rows_a)), next(iter(rows_b)))]
    else:
        pairs = [(c, c) for c in rows_a if c in rows_b]
    if not pairs:
        raise ValueError(
            f"{a} has {list(rows_a)}, {b} has {list(rows_b)}: name one each, such as FOLDER:predicted"
        )
    comparisons: dict[str, dict[str, dict[str, Any]]] = {}
    for ca, cb in pairs:
        name = f"{Path(a.split(':')[0]).name}:{ca} - {Path(b.split(':')[0]).name}:{cb}"
        comparisons[name] = compare(rows_a[ca], rows_b[cb], protocol, seed=SEED)
    return comparison_table(comparisons, protocol)


def _load(name: str) -> tuple[dict[str, list[Row]], str]:
    """Rows by condition, and the headline protocol, of FOLDER[:CONDITION]."""
    folder, _, condition = name.partition(":")
    metrics = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
    rows: dict[str, list[Row]] = {}
    for row in Predictions(Path(folder) / "predictions.jsonl").rows.values():
        rows.setdefault(row["boxes"], []).append(row)
    if condition and condition not in rows:
        raise ValueError(f"{folder}: expected a condition of {list(rows)}, got {condition!r}")
    return ({condition: rows[condition]} if condition else rows), metrics["headline"]


if __name__ == "__main__":
    main()
