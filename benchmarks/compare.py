"""Paired comparison of any two runs over the same samples: differences, intervals, tests.

    python benchmarks/compare.py runs/a:predicted runs/b:predicted
    python benchmarks/compare.py runs/a runs/b

The second form compares every condition that both runs have. Reads what runs wrote, no data set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report_figures import ReportStatistics, difference_table
from benchmarks.report_figures import differences as report_differences
from benchmarks.run_folder import check_same_data, read_run
from benchmarks.runner import exit_code
from benchmarks.summary import compare, comparison_table

SEED = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description="Compare two runs, question by question or report by report."
    )
    parser.add_argument("a", help="FOLDER or FOLDER:CONDITION")
    parser.add_argument("b", help="the same; differences are a - b")
    parser.add_argument("--protocol", help="of questions; default: the headline of A")
    parser.add_argument("--json", action="store_true", help="figures in place of a table")
    args = parser.parse_args(argv)
    kind, found, protocol = compare_runs(args.a, args.b, args.protocol)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print(difference_table(found) if kind == "report" else comparison_table(found, protocol))
    return 0


def compare_runs(a: str, b: str, protocol: str | None = None) -> tuple[str, dict[str, Any], str]:
    """Compare two runs.

    Args:
        a: FOLDER or FOLDER:CONDITION; without a condition every one that both runs have is compared.
        b: the same.
        protocol: of questions; None for the headline of `a`.

    Returns:
        What was run ("vqa" or "report"), "a - b" -> figures as in metrics.json, and the protocol.

    Raises:
        ValueError: the runs are on other data, have no condition in common, or are of grounding.
    """
    run_a, run_b = (read_run(_folder(name)) for name in (a, b))
    check_same_data(run_a, run_b)
    if run_a.kind == "grounding":
        raise ValueError(f"{a}: boxes are compared by run_grounding.py --peers grounder:CHECKPOINT")
    pairs = _pairs(a, b, run_a.metrics, run_b.metrics)
    protocol = protocol or str(run_a.metrics["headline"])
    known = list(run_a.metrics["conditions"][pairs[0][0]])
    if protocol not in known:
        raise ValueError(f"{a}: expected a protocol of {', '.join(known)}, got {protocol!r}")
    found = {}
    for condition_a, condition_b in pairs:
        name = f"{_folder(a).name}:{condition_a} - {_folder(b).name}:{condition_b}"
        if run_a.kind == "report":
            found[name] = report_differences(
                _statistics(a, condition_a), _statistics(b, condition_b), seed=SEED
            )
        else:
            found[name] = compare(run_a.rows[condition_a], run_b.rows[condition_b], protocol, seed=SEED)
    return run_a.kind, found, protocol


def _pairs(
    a: str, b: str, metrics_a: Mapping[str, Any], metrics_b: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The conditions to compare."""
    have_a, have_b = list(metrics_a["conditions"]), list(metrics_b["conditions"])
    named_a, named_b = a.partition(":")[2], b.partition(":")[2]
    for name, folder, have in ((named_a, a, have_a), (named_b, b, have_b)):
        if name and name not in have:
            raise ValueError(f"{folder}: expected a condition of {have}, got {name!r}")
    if named_a and named_b:
        return [(named_a, named_b)]
    pairs = [(c, c) for c in have_a if c in have_b and (not (named_a or named_b) or c in (named_a, named_b))]
    if not pairs:
        raise ValueError(f"{a} has {have_a}, {b} has {have_b}: name one each, such as FOLDER:predicted")
    return pairs


def _folder(name: str) -> Path:
    return Path(name.partition(":")[0])


def _statistics(name: str, condition: str) -> ReportStatistics:
    return ReportStatistics.read(_folder(name) / "statistics.jsonl", condition)


if __name__ == "__main__":
    sys.exit(exit_code(main))
