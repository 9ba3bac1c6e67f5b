"""From predictions to metrics and markdown tables: means with clustered intervals, paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.runner import Row
from benchmarks.stats import clustered_interval, mcnemar, paired_interval

ALL = "overall"


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


def summarise(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """Protocol -> cell -> interval {mean, low, high, n, n_clusters}, for the rows of one condition."""
    members = _members(rows)
    return {
        protocol: {
            name: asdict(
                clustered_interval(
                    [rows[i]["scores"][protocol] for i in which],
                    [rows[i]["cluster"] for i in which],
                    seed=seed,
                )
            )
            for name, which in members.items()
        }
        for protocol in rows[0]["scores"]
    }


def compare(
    rows_a: Sequence[Row], rows_b: Sequence[Row], protocol: str, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Cell -> {difference a - b with its paired clustered interval, McNemar where scores are 0 or 1}.

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
    for name, which in _members(rows_a).items():
        pairs = [(rows_a[i], by_id[rows_a[i]["qid"]]) for i in which]
        a, b = ([pair[k]["scores"][protocol] for pair in pairs] for k in (0, 1))
        cell: dict[str, Any] = {
            "difference": asdict(paired_interval(a, b, [x["cluster"] for x, _ in pairs], seed=seed))
        }
        if {*a, *b} <= {0.0, 1.0}:
            cell["mcnemar"] = asdict(mcnemar([v == 1 for v in a], [v == 1 for v in b]))
        result[name] = cell
    return result


def _cell(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "-"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def headline_table(summaries: Mapping[str, dict[str, dict[str, dict[str, Any]]]], protocol: str) -> str:
    """One row a condition: open, closed, overall with 95 % intervals."""
    lines = [f"| boxes / baseline ({protocol}) | open | closed | overall |", "|---|---|---|---|"]
    for condition, by_protocol in summaries.items():
        cells = by_protocol[protocol]
        names = ("answer type=OPEN", "answer type=CLOSED", ALL)
        lines.append(f"| {condition} | " + " | ".join(_cell(cells.get(n)) for n in names) + " |")
    return "\n".join(lines)


def breakdown_table(
    summaries: Mapping[str, dict[str, dict[str, dict[str, Any]]]], protocol: str, group: str
) -> str:
    """One row a value of `group`, one column a condition."""
    conditions = list(summaries)
    values = [n for n in summaries[conditions[0]][protocol] if n.startswith(f"{group}=")]
    lines = [
        f"| {group} ({protocol}) | n | " + " | ".join(conditions) + " |",
        "|---|---:|" + "---|" * len(conditions),
    ]
    for value in values:
        cells = [summaries[c][protocol][value] for c in conditions]
        label = value.split("=", 1)[1]
        lines.append(f"| {label} | {cells[0]['n']} | " + " | ".join(_cell(c) for c in cells) + " |")
    return "\n".join(lines)


def protocols_table(summaries: Mapping[str, dict[str, dict[str, dict[str, Any]]]]) -> str:
    """One row a condition, one column a protocol (overall, no intervals): protocols are not one metric."""
    protocols = list(next(iter(summaries.values())))
    lines = ["| overall by protocol | " + " | ".join(protocols) + " |", "|---|" + "---|" * len(protocols)]
    for condition, by_protocol in summaries.items():
        means = " | ".join(f"{by_protocol[p][ALL]['mean']:.3f}" for p in protocols)
        lines.append(f"| {condition} | {means} |")
    return "\n".join(lines)


def comparison_table(comparisons: Mapping[str, dict[str, dict[str, Any]]], protocol: str) -> str:
    """One row a pair "a - b": differences with paired 95 % intervals, and McNemar over all questions."""
    lines = [
        f"| difference ({protocol}) | open | closed | overall | only a / only b right | McNemar p |",
        "|---|---|---|---|---|---|",
    ]
    for pair, cells in comparisons.items():
        names = ("answer type=OPEN", "answer type=CLOSED", ALL)
        differences = " | ".join(_cell(cells[n]["difference"] if n in cells else None) for n in names)
        test = cells[ALL].get("mcnemar")
        told = f"{test['only_a']} / {test['only_b']} | {test['p']:.3g}" if test else "- | -"
        lines.append(f"| {pair} | {differences} | {told} |")
    return "\n".join(lines)
