"""The parts of a page on a run of questions or of reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gallery import answer_cards, images_of, pick
from benchmarks.markup import Html, section, table, tag
from benchmarks.plots import Dot, interval_plot, legend
from benchmarks.predictions import Row
from benchmarks.run_folder import RunFolder, interval_text, is_baseline
from benchmarks.stats import holm
from benchmarks.summary import ALL

Cells = Mapping[str, Any]
HOLM = (
    "The table makes several comparisons: its last column gives the permutation p-values adjusted for all of "
    "its rows (Holm); read that one against 0.05. Intervals are not adjusted. McNemar treats questions as "
    "independent, the permutation test exchanges whole {cluster}s."
)
MODEL_OR_BASELINE = ("model, by the boxes it was shown", "baseline")


class Group(NamedTuple):
    """Answers of one kind ("right" or "wrong"): those shown, and how many there are."""

    name: str
    kind: str
    shown: Sequence[Row]
    total: int


def answer_sections(run: RunFolder, data_dir: Path | None, regions: Path | None, count: int) -> list[Html]:
    """Of questions: results, comparisons, breakdowns, protocols, gallery."""
    rows, headline = run.rows[run.lead], run.metrics["headline"]
    scored = [(row, row["scores"][headline]) for row in rows if row["scores"][headline] is not None]
    right = [row for row, score in scored if score >= 0.5]
    wrong = [row for row, score in scored if score < 0.5]
    sure = sorted((row for row in wrong if row["confidence"] is not None), key=lambda row: -row["confidence"])
    groups = [
        Group("Right", "right", pick(right, count), len(right)),
        Group("Wrong", "wrong", pick(wrong, count), len(wrong)),
        Group("Wrong and most sure", "wrong", sure[:count], len(sure)),
    ]
    return [
        _introduction(run),
        _results(run),
        _comparisons(run),
        _breakdowns(run),
        _protocols(run),
        _gallery(run, groups, data_dir, regions),
    ]


def report_sections(run: RunFolder, data_dir: Path | None, regions: Path | None, count: int) -> list[Html]:
    """Of reports: results, comparisons, observations, gallery."""
    ranked = sorted(run.rows[run.lead], key=lambda row: -(row["scores"]["rouge_l"] or 0.0))
    half = min(count, len(ranked) // 2)
    groups = [
        Group("Nearest to their references (ROUGE-L)", "right", ranked[:half], len(ranked)),
        Group("Farthest from them", "wrong", ranked[len(ranked) - half :][::-1], len(ranked)),
    ]
    return [
        _introduction(run),
        _report_results(run),
        _report_comparisons(run),
        _observations(run),
        _gallery(run, groups, data_dir, regions),
    ]


def _introduction(run: RunFolder) -> Html:
    metrics = run.metrics
    cluster = metrics.get("cluster", "image")
    told = (
        f"{metrics['n']} samples of {metrics['n_clusters']} {cluster}s. Means with 95 % bootstrap intervals "
        f"that draw whole {cluster}s; headline: {metrics['headline']}."
    )
    if metrics.get("trained_on") is not None:
        told += f" The model was trained on: {', '.join(metrics['trained_on']) or 'not recorded'}."
    if run.settings.get("limit") or run.settings.get("offset"):
        told += " A part of the split only: a quick look, no result."
    if dropped := metrics.get("dropped"):
        told += " Dropped when read: " + ", ".join(f"{n} {why}" for why, n in dropped.items()) + "."
    if failed := {name: n for name, n in metrics.get("failed", {}).items() if n}:
        told += " Without an answer, counted as wrong: "
        told += ", ".join(f"{n} of {name}" for name, n in failed.items()) + "."
    return tag("p", told)


def _results(run: RunFolder) -> Html:
    conditions, protocol = run.metrics["conditions"], run.metrics["headline"]
    parts = [ALL, *(cell for cell in conditions[run.lead][protocol] if cell.startswith("answer type="))]
    rows = [
        [name, *(interval_text(cells[protocol].get(part)) for part in parts)]
        for name, cells in conditions.items()
    ]
    return section(
        f"Results ({protocol})",
        legend(MODEL_OR_BASELINE),
        interval_plot(
            [
                Dot.of(name, cells[protocol][ALL], int(is_baseline(name)))
                for name, cells in conditions.items()
            ],
            f"{protocol}, all questions",
        ),
        table(
            ["condition", *(part.partition("=")[2].lower() or part for part in parts)],
            rows,
            marked=[list(conditions).index(run.lead)],
        ),
    )


def _comparisons(run: RunFolder) -> Html:
    comparisons: dict[str, Cells] = run.metrics["comparisons"]
    if not comparisons:
        return Html()
    overall = {pair: cells[ALL] for pair, cells in comparisons.items()}
    return section(
        f"Paired differences ({run.metrics['headline']})",
        interval_plot([Dot.of(p, cell["difference"]) for p, cell in overall.items()], "a - b", signed=True),
        comparison_rows(overall),
        tag("p", HOLM.format(cluster=run.metrics.get("cluster", "image")), class_="remark"),
    )


def comparison_rows(overall: Mapping[str, Cells]) -> Html:
    """One row a pair with everything that was tested; p-values of older runs may be absent."""
    tested = {pair: c["permutation_p"] for pair, c in overall.items() if c.get("permutation_p") is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    rows = []
    for pair, cell in overall.items():
        test = cell.get("mcnemar")
        told = [f"{test['only_a']} / {test['only_b']}", f"{test['p']:.3g}"] if test else ["-", "-"]
        p = [f"{found[pair]:.3g}" if pair in found else "-" for found in (tested, adjusted)]
        rows.append([pair, interval_text(cell["difference"]), *told, *p])
    head = ["a - b", "difference", "only a / only b right", "McNemar p", "permutation p", "the same, Holm"]
    return table(head, rows)


def _breakdowns(run: RunFolder) -> Html:
    conditions, protocol = run.metrics["conditions"], run.metrics["headline"]
    lead = conditions[run.lead][protocol]
    groups = dict.fromkeys(cell.partition("=")[0] for cell in lead if cell != ALL)
    parts = []
    for group in groups:
        cells = {name.partition("=")[2]: name for name in lead if name.startswith(f"{group}=")}
        rows = [
            [label, lead[name]["n"], *(interval_text(c[protocol].get(name)) for c in conditions.values())]
            for label, name in cells.items()
        ]
        dots = [Dot.of(f"{label} ({lead[name]['n']})", lead[name]) for label, name in cells.items()]
        parts += [
            interval_plot(dots, f"By {group}: {run.lead}"),
            _folded(f"All conditions by {group}", table([group, "n", *conditions], rows)),
        ]
    note = (
        "Cells are not adjusted for being many: a difference between two of them is a question, no finding."
    )
    return section("Breakdowns", *parts, tag("p", note, class_="remark") if parts else "")


def _protocols(run: RunFolder) -> Html:
    conditions = run.metrics["conditions"]
    protocols = list(conditions[run.lead])
    rows = [
        [name, *(interval_text(cells[p].get(ALL)) for p in protocols)] for name, cells in conditions.items()
    ]
    note = "Protocols are not one metric: compare within a column only."
    return section(
        "Protocols, all questions", table(["condition", *protocols], rows), tag("p", note, class_="remark")
    )


def _report_results(run: RunFolder) -> Html:
    conditions, headline = run.metrics["conditions"], run.metrics["headline"]
    names = [name for name in conditions[run.lead] if not name.startswith("f1/")]
    rows = [[name, *(interval_text(c[name][ALL]) for c in conditions.values())] for name in names]
    dots = [Dot.of(name, cells[headline][ALL], int(is_baseline(name))) for name, cells in conditions.items()]
    empty = ", ".join(f"{n} of {name}" for name, n in run.metrics.get("empty", {}).items())
    note = (
        f"References: {run.metrics.get('references', 'raw')}. Labels by this project's rules, not CheXbert; "
        f"an uncertain mention counts as {run.metrics.get('uncertain', '-')}. Empty reports: {empty or '-'}."
    )
    return section(
        f"Results ({headline})",
        legend(MODEL_OR_BASELINE),
        interval_plot(dots, f"{headline}, all reports"),
        table(["metric", *conditions], rows),
        tag("p", note, class_="remark"),
        *(_radeval(name, found) for name, found in run.metrics.get("radeval", {}).items()),
    )


def _radeval(condition: str, found: Mapping[str, Mapping[str, Any]]) -> Html:
    told = [f"{name} {value:.3f}" for name, value in found["scores"].items()]
    told += [f"{name} unavailable ({why})" for name, why in found["unavailable"].items()]
    return tag("p", f"{condition}, by radeval: {'; '.join(told)}")


def _report_comparisons(run: RunFolder) -> Html:
    comparisons, headline = run.metrics["comparisons"], run.metrics["headline"]
    if not comparisons:
        return Html()
    names = [n for n in next(iter(comparisons.values())) if not n.startswith("f1/")]
    rows = [[n, *(interval_text(cells[n]["difference"]) for cells in comparisons.values())] for n in names]
    note = "Differences of the same resamples. Intervals are not adjusted for standing in one table."
    return section(
        f"Paired differences ({headline})",
        interval_plot(
            [Dot.of(pair, cells[headline]["difference"]) for pair, cells in comparisons.items()],
            "a - b",
            signed=True,
        ),
        table(["metric", *comparisons], rows),
        tag("p", note, class_="remark"),
    )


def _observations(run: RunFolder) -> Html:
    lead = run.metrics["conditions"][run.lead]
    found = {name.partition("/")[2]: cells[ALL] for name, cells in lead.items() if name.startswith("f1/")}
    return section(
        "Observations",
        interval_plot([Dot.of(name, interval) for name, interval in found.items()], f"F1: {run.lead}"),
    )


def _gallery(run: RunFolder, groups: Sequence[Group], data_dir: Path | None, regions: Path | None) -> Html:
    images = {} if data_dir is None else images_of(run, data_dir)
    boxes = run.regions(regions) if run.lead == "predicted" else {}
    parts = []
    for group in groups:
        if group.shown:
            parts.append(tag("h3", f"{group.name}: {len(group.shown)} of {group.total}"))
            parts.append(answer_cards(group.shown, images, boxes, group.kind))
    how = "right and wrong ones are drawn at random, always the same"
    note = f"Condition {run.lead}; {'ranked by ROUGE-L' if run.kind == 'report' else how}."
    note += "" if images else " Images are shown with --data-dir."
    return section("Answers", tag("p", note, class_="remark"), *parts) if parts else Html()


def _folded(title: str, content: Html) -> Html:
    return tag("details", tag("summary", title), content)
