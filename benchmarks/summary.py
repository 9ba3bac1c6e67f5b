"""From predictions to metrics and markdown tables: means with clustered intervals, paired comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.predictions import Row
from benchmarks.run_config import BASELINES_ONLY
from benchmarks.run_folder import interval_text
from benchmarks.runner import Outcome
from benchmarks.stats import clustered_interval, compare_scores, holm
from benchmarks.tasks.base import Task
from benchmarks.whole_files import write_whole

ALL = "overall"
Summary = dict[str, dict[str, dict[str, Any]]]
"""Protocol -> cell -> interval."""


def group_names(row: Row) -> list[str]:
    """The cells a row counts in: `overall`, and `name=value` for each of its groups."""
    return [ALL, *(f"{name}={value}" for name, values in row["groups"].items() for value in values)]


def _members(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Row indices by cell: overall first, then by group name and value."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for name in group_names(row):
            members.setdefault(name, []).append(index)
    order = {name: k for k, name in enumerate(rows[0]["groups"])} if rows else {}
    return dict(sorted(members.items(), key=lambda item: (order.get(item[0].split("=")[0], -1), item[0])))


def summarise(rows: Sequence[Row], *, seed: int = 0) -> Summary:
    """Protocol -> cell -> interval {mean, low, high, n, n_clusters}, for the rows of one condition.

    `n` counts what the protocol judges; a cell without any is left out.
    """
    members = _members(rows)
    summary: Summary = {}
    for protocol in rows[0]["scores"]:
        judged = {
            name: [rows[i] for i in which if rows[i]["scores"][protocol] is not None]
            for name, which in members.items()
        }
        summary[protocol] = {
            name: asdict(
                clustered_interval(
                    [row["scores"][protocol] for row in kept], [row["cluster"] for row in kept], seed=seed
                )
            )
            for name, kept in judged.items()
            if kept
        }
    return summary


def compare(
    rows_a: Sequence[Row], rows_b: Sequence[Row], protocol: str, *, seed: int = 0, cells: bool = True
) -> dict[str, dict[str, Any]]:
    """Cell -> {difference a - b with its paired clustered interval, permutation p, McNemar or None}.

    Args:
        rows_a: of one system.
        rows_b: of the other, over the same questions.
        protocol: whose scores are compared; questions that it does not judge are left out.
        seed: of the resampling.
        cells: False for `overall` alone.

    Raises:
        ValueError: the two did not answer the same questions.
    """
    by_id = {row["qid"]: row for row in rows_b}
    if {row["qid"] for row in rows_a} != by_id.keys():
        both = len({row["qid"] for row in rows_a} & by_id.keys())
        raise ValueError(
            f"expected two runs over the same questions, got {len(rows_a)} and {len(rows_b)} "
            f"with {both} in common; compare runs of one split, without --limit"
        )
    result = {}
    members = _members(rows_a) if cells else {ALL: list(range(len(rows_a)))}
    for name, which in members.items():
        pairs = [(rows_a[i], by_id[rows_a[i]["qid"]]) for i in which]
        pairs = [pair for pair in pairs if None not in (row["scores"][protocol] for row in pair)]
        if pairs:
            a, b = ([pair[k]["scores"][protocol] for pair in pairs] for k in (0, 1))
            result[name] = asdict(compare_scores(a, b, [x["cluster"] for x, _ in pairs], seed=seed))
    return result


def write_results(out: Path, task: Task, seed: int, outcome: Outcome, identity: Mapping[str, Any]) -> str:
    """Write metrics.json and results.md.

    Args:
        out: the folder.
        task: names, headline, what was dropped.
        seed: of the resampling.
        outcome: the rows.
        identity: model and what it was trained on.

    Returns:
        The markdown.
    """
    summaries = {name: summarise(rows, seed=seed) for name, rows in outcome.rows.items()}
    pairs = pairs_of(list(outcome.rows), identity)
    rows = outcome.rows
    comparisons = {f"{a} - {b}": compare(rows[a], rows[b], task.headline, seed=seed) for a, b in pairs}
    by_protocol = {
        f"{a} - {b}": {p: compare(rows[a], rows[b], p, seed=seed, cells=False).get(ALL) for p in summaries[a]}
        for a, b in pairs
    }
    metrics = {
        "kind": "vqa",
        **about(task, outcome, identity),
        "conditions": summaries,
        "comparisons": comparisons,
        "comparisons_by_protocol": by_protocol,
    }
    write_whole(out / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False))
    tables = [headline_table(summaries, task.headline)]
    tables += [comparison_table(comparisons, task.headline)] if comparisons else []
    groups = [group for group in outcome.samples[0].groups if group != "answer type"]
    tables += [breakdown_table(summaries, task.headline, group) for group in groups]
    tables += [protocols_table(summaries)]
    markdown = "\n\n".join([*introduction(task, metrics), *tables]) + "\n"
    write_whole(out / "results.md", markdown)
    return markdown


def pairs_of(conditions: Sequence[str], identity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is compared: the model under its first condition (predicted, where it ran) with all others.

    And its controls with each other: wrong boxes must not be better than none.
    """
    if identity["model"] == BASELINES_ONLY:
        return []
    lead = "predicted" if "predicted" in conditions else conditions[0]
    pairs = [(lead, other) for other in conditions if other != lead]
    controls = ("shuffled", "none")
    return [*pairs, controls] if lead not in controls and {*controls} <= {*conditions} else pairs


def about(task: Task, outcome: Outcome, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What every metrics.json begins with."""
    return {
        "task": task.name,
        "split": task.split,
        "model": identity["model"],
        "trained_on": identity.get("trained_on"),
        "headline": task.headline,
        "n": len(outcome.samples),
        "n_clusters": len({sample.cluster for sample in outcome.samples}),
        "cluster": task.cluster,
        "dropped": dict(task.dropped()),
        "failed": outcome.failed,
    }


def introduction(task: Task, metrics: Mapping[str, Any]) -> list[str]:
    """Title and notes of results.md."""
    clusters = f"{metrics['n_clusters']} {task.cluster}s"
    note = f"Means with 95 % bootstrap intervals clustered by {task.cluster} ({clusters})."
    if metrics["trained_on"] is not None:
        note += f" Model trained on: {', '.join(metrics['trained_on']) or 'NOT RECORDED'}."
    if metrics["dropped"]:
        note += " Dropped when read: " + ", ".join(f"{v} {k}" for k, v in metrics["dropped"].items()) + "."
    if failed := {name: count for name, count in metrics["failed"].items() if count}:
        note += (
            f" Without an answer, counted as wrong: {', '.join(f'{v} of {k}' for k, v in failed.items())}."
        )
    return [f"## {task.name} {task.split}, {metrics['model']}: {metrics['n']} samples", note]


def headline_table(summaries: Mapping[str, Summary], protocol: str) -> str:
    """One row a condition: open, closed, overall with 95 % intervals."""
    lines = [f"| boxes / baseline ({protocol}) | open | closed | overall |", "|---|---|---|---|"]
    for condition, by_protocol in summaries.items():
        cells = by_protocol[protocol]
        names = ("answer type=OPEN", "answer type=CLOSED", ALL)
        lines.append(f"| {condition} | " + " | ".join(interval_text(cells.get(n)) for n in names) + " |")
    return "\n".join(lines)


def breakdown_table(summaries: Mapping[str, Summary], protocol: str, group: str) -> str:
    """One row a value of `group`, one column a condition."""
    conditions = list(summaries)
    values = [n for n in summaries[conditions[0]][protocol] if n.startswith(f"{group}=")]
    lines = [
        f"| {group} ({protocol}) | n | " + " | ".join(conditions) + " |",
        "|---|---:|" + "---|" * len(conditions),
    ]
    for value in values:
        cells = [summaries[c][protocol].get(value) for c in conditions]
        label, n = value.split("=", 1)[1], summaries[conditions[0]][protocol][value]["n"]
        lines.append(f"| {label} | {n} | " + " | ".join(interval_text(c) for c in cells) + " |")
    return "\n".join(lines)


def protocols_table(summaries: Mapping[str, Summary]) -> str:
    """One row a condition, one column a protocol (overall, no intervals): protocols are not one metric."""
    protocols = list(next(iter(summaries.values())))
    lines = ["| overall by protocol | " + " | ".join(protocols) + " |", "|---|" + "---|" * len(protocols)]
    for condition, by_protocol in summaries.items():
        means = " | ".join(f"{by_protocol[p][ALL]['mean']:.3f}" if by_protocol[p] else "-" for p in protocols)
        lines.append(f"| {condition} | {means} |")
    return "\n".join(lines)


def comparison_table(comparisons: Mapping[str, dict[str, dict[str, Any]]], protocol: str) -> str:
    """One row a pair "a - b": differences with paired 95 % intervals, and tests over all questions.

    McNemar treats questions as independent; the permutation test exchanges whole clusters, and its p is also
    given adjusted (Holm) for the rows of the table being read together.
    """
    lines = [
        f"| difference ({protocol}) | open | closed | overall | only a / only b right | McNemar p "
        "| permutation p | the same, Holm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    adjusted = holm([cells[ALL]["permutation_p"] for cells in comparisons.values()])
    for (pair, cells), p in zip(comparisons.items(), adjusted, strict=True):
        names = ("answer type=OPEN", "answer type=CLOSED", ALL)
        differences = " | ".join(interval_text(cells[n]["difference"] if n in cells else None) for n in names)
        test = cells[ALL].get("mcnemar")
        told = f"{test['only_a']} / {test['only_b']} | {test['p']:.3g}" if test else "- | -"
        lines.append(f"| {pair} | {differences} | {told} | {cells[ALL]['permutation_p']:.3g} | {p:.3g} |")
    return "\n".join(lines)
