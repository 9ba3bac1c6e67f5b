"""The whole VQA-RAD table by one command: both splits, all conditions, every protocol, baselines, tests.

    python benchmarks/vqa_rad_table.py --data-dir DATA --official-model FOLDER --out runs/table

Each split is answered by its own checkpoint, trained on its own training part; without one for the official
split, that split has its baselines only. Every run is kept in the output folder and continued there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import run_vqa
from benchmarks.run_config import BASELINES_ONLY, RunConfig
from benchmarks.run_folder import interval_text
from benchmarks.runner import exit_code
from benchmarks.stats import holm

SPLITS = ("disjoint-test", "official-test")
CONDITIONS = ("none", "predicted", "shuffled")


def main(argv: Sequence[str] | None = None) -> int:
    """Run both splits, write table.json and table.md, print the table; returns the worse exit code."""
    parser = argparse.ArgumentParser(description="VQA-RAD: conditions x protocols x splits, with baselines.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="output folder; continued where it exists")
    parser.add_argument("--disjoint-model", default="nano", help="trained on disjoint-train")
    parser.add_argument("--official-model", default=BASELINES_ONLY, help="trained on official-train")
    parser.add_argument("--grounder", default="nano")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--limit", type=int, help="N questions a split (a quick look, no result)")
    parser.add_argument("--cache", type=Path, help="folder of answers that runs share")
    args = parser.parse_args(argv)
    models = dict(zip(SPLITS, (args.disjoint_model, args.official_model), strict=True))
    code = 0
    for split, model in models.items():
        config = RunConfig(
            task="vqa_rad",
            split=split,
            data_dir=args.data_dir,
            out=args.out / split,
            model=model,
            boxes=CONDITIONS,
            grounder=args.grounder,
            dtype=args.dtype,
            device=args.device,
            threads=args.threads,
            batch_size=args.batch_size,
            limit=args.limit,
            cache=args.cache,
        )
        code = max(code, run_vqa.run(config))
    folders = [args.out / split / "metrics.json" for split in SPLITS]
    rows = table_rows([json.loads(path.read_text(encoding="utf-8")) for path in folders])
    (args.out / "table.json").write_text(json.dumps(rows, indent=2, allow_nan=False), encoding="utf-8")
    text = markdown(rows)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return code


def table_rows(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a split and condition, from the runs' metrics.json.

    A row has "split", "condition", "model" (None for a baseline), "n", "n_clusters", "scores" (protocol ->
    cell -> interval) and, unless it is the lead itself, "lead_minus_this": per protocol the difference of
    the split's lead condition and this one, with its tests; "holm_p" adjusts the permutation p of `exact` for
    all rows of the table.
    """
    rows = []
    for run in runs:
        lead = next(iter(run["comparisons_by_protocol"]), "").partition(" - ")[0]
        for condition, scores in run["conditions"].items():
            rows.append(
                {
                    "split": run["split"],
                    "condition": condition,
                    "model": run["model"] if condition in CONDITIONS else None,
                    "n": run["n"],
                    "n_clusters": run["n_clusters"],
                    "scores": scores,
                    "lead_minus_this": run["comparisons_by_protocol"].get(f"{lead} - {condition}"),
                }
            )
    compared = [row for row in rows if row["lead_minus_this"]]
    p_values = holm([row["lead_minus_this"]["exact"]["permutation_p"] for row in compared])
    for row, p in zip(compared, p_values, strict=True):
        row["holm_p"] = p
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table with its notes."""
    protocols = list(rows[0]["scores"])
    columns = [
        "split",
        "boxes / baseline",
        "exact open",
        "exact closed",
        *(f"{p} overall" for p in protocols),
    ]
    columns += [
        "predicted - this (exact)",
        "only a / only b right",
        "McNemar p",
        "permutation p",
        "the same, Holm",
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        exact = row["scores"]["exact"]
        cells = [row["split"], row["condition"]]
        cells += [interval_text(exact.get(f"answer type={kind}")) for kind in ("OPEN", "CLOSED")]
        cells += [interval_text(row["scores"][protocol].get("overall")) for protocol in protocols]
        lines.append(f"| {' | '.join([*cells, *_tests(row)])} |")
    sizes = {row["split"]: f"{row['n']} questions of {row['n_clusters']} images" for row in rows}
    models = {row["split"]: row["model"] for row in rows if row["model"]}
    notes = [
        f"{split}: {size}, model {models.get(split, 'none (baselines only)')}"
        for split, size in sizes.items()
    ]
    return (
        f"VQA-RAD. {'; '.join(notes)}. Means with 95 % bootstrap intervals clustered by image. Protocols are"
        " not one metric; vila-m3 judges closed questions only. McNemar treats questions as independent, the"
        " permutation test exchanges whole images; Holm adjusts for all its rows.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _tests(row: Mapping[str, Any]) -> list[str]:
    found = (row["lead_minus_this"] or {}).get("exact")
    if found is None:
        return ["-"] * 5
    test = found["mcnemar"]
    return [
        interval_text(found["difference"]),
        f"{test['only_a']} / {test['only_b']}",
        f"{test['p']:.3g}",
        f"{found['permutation_p']:.3g}",
        f"{row['holm_p']:.3g}",
    ]


if __name__ == "__main__":
    sys.exit(exit_code(main))
