"""Report generation with box controls and baselines: predictions.jsonl, metrics.json, a markdown table.

    python benchmarks/run_report.py --data-dir DATA --task mimic_cxr --boxes none predicted --out runs/m
    python benchmarks/run_report.py --data-dir DATA --task iu_xray --model baselines --out runs/iu

The findings section of each study of the official split, from one frontal image; studies without findings are
dropped and counted, empty reports are scored as they are. The output holds reports of a training part where
baselines ran: keep it as the data is kept. Exit codes and resuming as in `run_vqa`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.baselines import REPORT_BASELINES
from benchmarks.metrics.radeval_scores import radeval_scores
from benchmarks.report_figures import (
    UNCERTAIN,
    ReportStatistics,
    difference_table,
    differences,
    figure_table,
    figures,
)
from benchmarks.run_config import RunConfig, add_flags, read_config
from benchmarks.runner import Outcome, exit_code
from benchmarks.session import run_session
from benchmarks.summary import about, introduction, pairs_of
from benchmarks.tasks.iu_xray import IuXray
from benchmarks.tasks.mimic_cxr import MimicCxr
from benchmarks.tasks.report import ReportTask
from benchmarks.whole_files import write_whole

REPORT_TASKS: Mapping[str, type[ReportTask]] = {"mimic_cxr": MimicCxr, "iu_xray": IuXray}


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description="Reports with box controls and baselines.")
    add_flags(parser, task=list(REPORT_TASKS))
    args = parser.parse_args(argv)
    try:
        config = read_config(args, "mimic_cxr")
    except ValueError as error:
        parser.error(str(error))
    return run(config)


def run(config: RunConfig) -> int:
    """Generate, score and write.

    Raises:
        ValueError: settings do not fit together.
    """
    if config.task not in REPORT_TASKS:
        raise ValueError(f"task must be one of {', '.join(REPORT_TASKS)}, got {config.task!r}")
    if "oracle" in config.boxes:
        raise ValueError("reports have no true boxes here: leave --boxes oracle out")
    kind = REPORT_TASKS[config.task]
    task = kind(config.data_dir, config.split or kind.splits[0], references=config.references)
    return run_session(task, config, REPORT_BASELINES, partial(write_results, task, config))


def write_results(task: ReportTask, config: RunConfig, outcome: Outcome, identity: Mapping[str, Any]) -> str:
    """statistics.jsonl, metrics.json and results.md; returns the markdown."""
    references = [sample.reference for sample in outcome.samples]
    counted = {
        name: ReportStatistics.count(
            [sample.sample_id for sample in outcome.samples],
            [sample.cluster for sample in outcome.samples],
            [row["prediction"] for row in rows],
            references,
            task.words,
        )
        for name, rows in outcome.rows.items()
    }
    lines = "".join(statistics.to_lines(name) for name, statistics in counted.items())
    write_whole(config.out / "statistics.jsonl", lines)
    comparisons = {
        f"{a} - {b}": differences(counted[a], counted[b], seed=config.seed)
        for a, b in pairs_of(list(counted), identity)
    }
    metrics: dict[str, Any] = {
        "kind": "report",
        **about(task, outcome, identity),
        "references": task.references,
        "uncertain": UNCERTAIN,
        "empty": {
            name: sum(not row["prediction"].strip() for row in rows) for name, rows in outcome.rows.items()
        },
        "conditions": {name: figures(statistics, seed=config.seed) for name, statistics in counted.items()},
        "comparisons": comparisons,
    }
    if config.radeval:
        metrics["radeval"] = {name: _radeval(rows, references) for name, rows in outcome.rows.items()}
    write_whole(config.out / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False))
    markdown = _markdown(task, metrics)
    write_whole(config.out / "results.md", markdown)
    return markdown


def _radeval(rows: Sequence[Mapping[str, Any]], references: Sequence[str]) -> dict[str, Any]:
    found = radeval_scores([row["prediction"] for row in rows], references)
    return {"scores": found.scores, "unavailable": found.unavailable}


def _markdown(task: ReportTask, metrics: Mapping[str, Any]) -> str:
    title, note = introduction(task, metrics)
    note += (
        f" References: {metrics['references']}. Labels by this project's rules (not CheXbert), uncertain = "
        f"{metrics['uncertain']}. Empty reports: "
        + ", ".join(f"{count} of {name}" for name, count in metrics["empty"].items())
        + "."
    )
    tables = [figure_table(metrics["conditions"], lambda name: not name.startswith("f1/"))]
    tables += [difference_table(metrics["comparisons"])] if metrics["comparisons"] else []
    tables += [figure_table(metrics["conditions"], lambda name: name.startswith("f1/"))]
    for name, found in metrics.get("radeval", {}).items():
        told = [f"{key} {value:.3f}" for key, value in found["scores"].items()]
        told += [f"{key} unavailable ({reason})" for key, reason in found["unavailable"].items()]
        tables.append(f"{name}, by radeval: {'; '.join(told)}")
    return "\n\n".join([title, note, *tables]) + "\n"


if __name__ == "__main__":
    sys.exit(exit_code(main))
