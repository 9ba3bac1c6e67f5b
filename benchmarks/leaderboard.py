"""Many runs in one table a data set: markdown and HTML, named protocol, intervals, baselines, paired tests.

    python -m benchmarks.leaderboard runs/a runs/b runs/c --protocol exact --out runs/leaderboard

Runs stand in one table only where the hashes of their data are equal. Questions, reports and grounding alike.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.markup import Html, document, section, table, tag
from benchmarks.page_answers import MODEL_OR_BASELINE
from benchmarks.plots import Dot, interval_plot, legend
from benchmarks.report_figures import ReportStatistics, differences
from benchmarks.run_folder import MEAN, Data, Kind, RunFolder, interval_text, is_baseline, read_run
from benchmarks.runner import exit_code
from benchmarks.stats import holm
from benchmarks.summary import ALL, compare

BESIDE: Mapping[Kind, tuple[str, ...]] = {
    "vqa": ("answer type=OPEN", "answer type=CLOSED"),
    "report": ("label_macro_14", "bleu_4", "rouge_l", "cider"),
    "grounding": ("ap", "acc50", "box_recall50", "auroc_foreign"),
}
"""What stands beside the protocol: cells of questions, metrics of reports and boxes."""
NOTE = (
    "95 % bootstrap intervals that draw whole clusters. Differences are paired: the first row less this one. "
    "p-values (permutation of whole clusters) are adjusted for the table (Holm), and still kind to the first "
    "row, since it was chosen for being first."
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One line: a run under one condition, a baseline, or a detector."""

    run: RunFolder
    condition: str
    figures: Mapping[str, Any]
    """Metric or cell -> interval, the protocol's overall figure first."""
    failed: int

    @property
    def baseline(self) -> bool:
        """Whether it is no model of the run."""
        return self.run.kind != "grounding" and is_baseline(self.condition)

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.run.kind == "grounding" or self.baseline:
            return self.condition
        return f"{self.run.model}, boxes {self.condition}"

    @property
    def score(self) -> float:
        """What the table is sorted by."""
        return float(next(iter(self.figures.values()))["mean"])


@dataclass(frozen=True, eq=False)
class Board:
    """The entries on one data set, best first, and the first one's difference to each other's."""

    kind: Kind
    data: Data
    protocol: str
    entries: tuple[Entry, ...]
    differences: tuple[Mapping[str, Any] | None, ...]
    """{difference: interval, permutation_p or none}; None for the first entry, and for detectors."""

    @property
    def heading(self) -> str:
        """The data, a part of it where it is one, and the protocol."""
        part = ", ".join(
            f"{name} {value}" for name, value in self.data.window if value not in (None, 0, "raw")
        )
        return f"{self.data.name}{f' ({part})' if part else ''}: {self.protocol}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows."""
        beside = [name for name in BESIDE[self.kind] if name != self.protocol]
        tests = [each.get("permutation_p") if each else None for each in self.differences]
        known = [p for p in tests if p is not None]
        adjusted = iter(holm(known))
        told = ["-" if p is None else f"{next(adjusted):.3g}" for p in tests]
        head = ["", "who", "run", self.protocol, *(name.partition("=")[2].lower() or name for name in beside)]
        rows = [
            [
                str(place),
                entry.name + (" (baseline)" if entry.baseline else ""),
                entry.run.path.name,
                *(interval_text(entry.figures.get(name)) for name in [next(iter(entry.figures)), *beside]),
                interval_text(None if difference is None else difference["difference"]),
                p,
                str(entry.failed),
            ]
            for place, (entry, difference, p) in enumerate(
                zip(self.entries, self.differences, told, strict=True), start=1
            )
        ]
        return [*head, "first - this", "p (Holm)", "failed"], rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; with --out write leaderboard.md and leaderboard.html."""
    parser = argparse.ArgumentParser(description="A leaderboard over runs, one table a data set.")
    parser.add_argument("runs", nargs="+", type=Path, help="output folders")
    parser.add_argument("--protocol", help="protocol or metric to rank by; default: each kind's headline")
    parser.add_argument("--out", type=Path, help="folder for leaderboard.md and leaderboard.html")
    args = parser.parse_args(argv)
    boards = make_boards([read_run(path) for path in args.runs], args.protocol)
    text = to_markdown(boards)
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "leaderboard.md").write_text(text, encoding="utf-8")
        (args.out / "leaderboard.html").write_text(to_html(boards), encoding="utf-8")
    return 0


def make_boards(runs: Sequence[RunFolder], protocol: str | None = None) -> list[Board]:
    """One board a data set, in the order of the runs.

    Raises:
        ValueError: a run does not have the protocol.
    """
    groups: dict[tuple[Kind, Data], list[RunFolder]] = {}
    for run in runs:
        groups.setdefault((run.kind, run.data), []).append(run)
    return [_board(kind, data, own, protocol) for (kind, data), own in groups.items()]


def _board(kind: Kind, data: Data, runs: Sequence[RunFolder], protocol: str | None) -> Board:
    headline = "ap50" if kind == "grounding" else str(runs[0].metrics["headline"])
    chosen = protocol or headline
    entries: list[Entry] = []
    for run in runs:
        for entry in _entries(run, chosen):
            known = [e for e in entries if e.baseline and e.condition == entry.condition]
            if not any(entry.baseline and e.figures == entry.figures for e in known):  # in every run the same
                entries.append(entry)
    entries.sort(key=lambda entry: -entry.score)
    found = [_difference(entries[0], other, chosen) for other in entries[1:]]
    return Board(kind, data, chosen, tuple(entries), (None, *found))


def _entries(run: RunFolder, protocol: str) -> list[Entry]:
    conditions = run.metrics[MEAN] if run.kind == "grounding" else run.metrics["conditions"]
    first = next(iter(conditions.values()))
    if protocol not in first:
        raise ValueError(f"{run.path}: expected a protocol of {', '.join(first)}, got {protocol!r}")
    failed = run.metrics.get("failed", {})
    entries = []
    for name, cells in conditions.items():
        if run.kind == "vqa":
            figures = {
                cell: cells[protocol][cell] for cell in (ALL, *BESIDE["vqa"]) if cell in cells[protocol]
            }
        elif run.kind == "report":
            figures = {m: cells[m][ALL] for m in (protocol, *BESIDE["report"])}
        else:
            figures = {m: cells[m] for m in (protocol, *BESIDE["grounding"]) if m in cells}
        entries.append(Entry(run, name, figures, failed.get(name, 0)))
    return entries


def _difference(first: Entry, other: Entry, protocol: str) -> Mapping[str, Any] | None:
    """The paired difference, tested where rows of single samples are kept."""
    kind = first.run.kind
    if kind == "vqa":
        mine, theirs = (entry.run.rows[entry.condition] for entry in (first, other))
        return compare(mine, theirs, protocol, cells=False).get(ALL)
    if kind == "report":
        counted = [
            ReportStatistics.read(e.run.path / "statistics.jsonl", e.condition) for e in (first, other)
        ]
        return differences(*counted, seed=0)[protocol]
    told = first.run.metrics["differences"].get(f"{first.condition} - {other.condition}", {}).get(MEAN, {})
    return {"difference": told[protocol]} if first.run is other.run and protocol in told else None


def warnings(boards: Sequence[Board]) -> list[str]:
    """What must be said of tables whose data have one name and differ all the same."""
    named: dict[str, list[Board]] = {}
    for board in boards:
        named.setdefault(board.data.name, []).append(board)
    return [
        f"{name}: {len(own)} tables, since the data of these runs differ (hashes or part of the split); "
        "figures of two tables are not comparable."
        for name, own in named.items()
        if len(own) > 1
    ]


def to_markdown(boards: Sequence[Board]) -> str:
    """The tables with their data's hashes."""
    parts = []
    for board in boards:
        head, rows = board.table()
        lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
        parts += [f"## {board.heading}", "\n".join(lines), f"Data: sha256 {board.data.digest}."]
    return "\n\n".join([*parts, NOTE, *warnings(boards)]) + "\n"


def to_html(boards: Sequence[Board]) -> str:
    """The same as a page, with plots."""
    return document(
        "Leaderboard",
        "Med-GLIP Agent",
        *(tag("p", text, class_="notice") for text in warnings(boards)),
        *map(_section, boards),
        tag("p", NOTE, class_="remark"),
    )


def _section(board: Board) -> Html:
    head, rows = board.table()
    dots = [
        Dot.of(f"{place} {entry.name}", next(iter(entry.figures.values())), int(entry.baseline))
        for place, entry in enumerate(board.entries, start=1)
    ]
    data = tag("p", "Data: sha256 ", tag("code", board.data.digest), class_="remark")
    key = legend(MODEL_OR_BASELINE) if any(entry.baseline for entry in board.entries) else ""
    return section(board.heading, key, interval_plot(dots, board.protocol), table(head, rows), data)


if __name__ == "__main__":
    sys.exit(exit_code(main))
