"""Figures of generated reports with intervals: what is counted of each report, and the metrics of a resample.

Keeps counts and labels, no text: two runs are compared from their statistics.jsonl alone. Definitions are
those of `benchmarks.metrics`; here they are computed from counts, so that patients can be drawn anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.metrics.chexpert_rules import FIVE, OBSERVATIONS
from benchmarks.metrics.labeller import label_report
from benchmarks.metrics.meteor import meteor_exact
from benchmarks.metrics.overlap import NGRAM_SIZES, cider, rouge_l
from benchmarks.stats import Metric, Resampled, resample

Floats = npt.NDArray[np.float64]
UNCERTAIN = "positive"
"""What an uncertain mention counts as."""
N_BOOTSTRAP = 1000
MEANS = ("rouge_l", "cider", "meteor_exact")

_TINY, _SMALL = 1e-15, 1e-9  # the COCO evaluation's guards, as in `benchmarks.metrics.overlap`


@dataclass(frozen=True, eq=False)
class ReportStatistics:
    """What is counted of each of N reports.

    Attributes:
        ids: study names.
        clusters: patients.
        bleu: (N, 10): n-grams right for n = 1..4, n-grams said, words said, words of the reference.
        means: "rouge_l", "cider", "meteor_exact" of each report, (N,) each.
        said: observations of the prediction, bool (N, 14); uncertain ones are positive.
        true: those of the reference.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    bleu: Floats
    means: Mapping[str, Floats]
    said: npt.NDArray[np.bool_]
    true: npt.NDArray[np.bool_]

    @classmethod
    def count(
        cls,
        ids: Sequence[str],
        clusters: Sequence[str],
        predictions: Sequence[str],
        references: Sequence[str],
        words: Callable[[str], list[str]],
    ) -> ReportStatistics:
        """Count predictions against references, all of one length; `words` splits a text."""
        said, true = [words(text) for text in predictions], [words(text) for text in references]
        means = {
            "rouge_l": [rouge_l(s, [t]) for s, t in zip(said, true, strict=True)],
            "cider": cider(said, [[t] for t in true]),
            "meteor_exact": [meteor_exact(s, [t]) for s, t in zip(said, true, strict=True)],
        }
        return cls(
            tuple(ids),
            tuple(clusters),
            np.array([bleu_counts(s, t) for s, t in zip(said, true, strict=True)], dtype=np.float64),
            {name: np.array(values) for name, values in means.items()},
            np.array([positive(text) for text in predictions]),
            np.array([positive(text) for text in references]),
        )

    def to_lines(self, condition: str) -> str:
        """JSON lines, one a report."""
        lines = [
            {
                "qid": self.ids[k],
                "boxes": condition,
                "cluster": self.clusters[k],
                "bleu": self.bleu[k].tolist(),
                **{name: float(values[k]) for name, values in self.means.items()},
                "said": [name for name, is_said in zip(OBSERVATIONS, self.said[k], strict=True) if is_said],
                "true": [name for name, is_true in zip(OBSERVATIONS, self.true[k], strict=True) if is_true],
            }
            for k in range(len(self.ids))
        ]
        return "".join(json.dumps(line) + "\n" for line in lines)

    @classmethod
    def read(cls, path: Path, condition: str) -> ReportStatistics:
        """Read the lines of a condition.

        Raises:
            ValueError: there is none.
        """
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["boxes"] == condition]
        if not rows:
            raise ValueError(f"{path} holds nothing of the condition {condition!r}; run the benchmark again")
        return cls(
            tuple(row["qid"] for row in rows),
            tuple(row["cluster"] for row in rows),
            np.array([row["bleu"] for row in rows]),
            {name: np.array([row[name] for row in rows]) for name in MEANS},
            np.array([[name in row["said"] for name in OBSERVATIONS] for row in rows]),
            np.array([[name in row["true"] for name in OBSERVATIONS] for row in rows]),
        )

    def resampled(self, *, seed: int) -> dict[str, Resampled]:
        """Every metric, of the set and of its resamples by cluster."""
        return resample(metrics_of(self), self.clusters, n_bootstrap=N_BOOTSTRAP, seed=seed)


def bleu_counts(said: Sequence[str], true: Sequence[str]) -> list[int]:
    """Right n-grams for n = 1..4, said n-grams, words said, words of the reference."""
    right = []
    for n in NGRAM_SIZES:
        grams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in (said, true)]
        right.append((grams[0] & grams[1]).total())
    return [*right, *(max(0, len(said) - n + 1) for n in NGRAM_SIZES), len(said), len(true)]


def positive(text: str) -> list[bool]:
    """The 14 observations of a report, present or uncertain."""
    labels = label_report(text)
    return [labels.get(name) in ("present", "uncertain") for name in OBSERVATIONS]


def metrics_of(statistics: ReportStatistics) -> dict[str, Metric]:
    """Metric name -> (times that each report counts (B, N) -> the metric (B,))."""
    metrics: dict[str, Metric] = {}
    for size, names in ((14, OBSERVATIONS), (5, FIVE)):
        columns = [OBSERVATIONS.index(name) for name in names]
        said, true = statistics.said[:, columns], statistics.true[:, columns]
        metrics[f"label_micro_{size}"] = partial(f1, said, true, micro=True)
        metrics[f"label_macro_{size}"] = partial(f1, said, true, micro=False)
    metrics |= {f"bleu_{n}": partial(_bleu, statistics.bleu, n) for n in NGRAM_SIZES}
    metrics |= {name: partial(_mean, values) for name, values in statistics.means.items()}
    for k, name in enumerate(OBSERVATIONS):
        one = slice(k, k + 1)
        metrics[f"f1/{name}"] = partial(f1, statistics.said[:, one], statistics.true[:, one], micro=True)
    return metrics


def figures(statistics: ReportStatistics, *, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Metric -> {"overall": interval}, as in the metrics.json of questions."""
    found = statistics.resampled(seed=seed)
    return {name: {"overall": asdict(each.interval())} for name, each in found.items()}


def differences(a: ReportStatistics, b: ReportStatistics, *, seed: int) -> dict[str, dict[str, Any]]:
    """Metric -> {"difference": interval of a - b on the same resamples}.

    Raises:
        ValueError: the two are not over the same reports, in the same order.
    """
    if (a.ids, a.clusters) != (b.ids, b.clusters):
        raise ValueError(
            f"expected two runs over the same reports, got {len(a.ids)} and {len(b.ids)} with "
            f"{len({*a.ids} & {*b.ids})} in common; compare runs of one split, without --limit"
        )
    mine, theirs = (statistics.resampled(seed=seed) for statistics in (a, b))
    return {name: {"difference": asdict(mine[name].minus(theirs[name]).interval())} for name in mine}


def figure_table(summaries: Mapping[str, Mapping[str, Any]], shown: Callable[[str], bool]) -> str:
    """One row a metric, one column a condition."""
    conditions = list(summaries)
    lines = ["| metric | " + " | ".join(conditions) + " |", "|---|" + "---|" * len(conditions)]
    for name in filter(shown, summaries[conditions[0]]):
        cells = " | ".join(_cell(summaries[c][name]["overall"]) for c in conditions)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def difference_table(comparisons: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a metric, one column a pair "a - b"."""
    pairs = list(comparisons)
    lines = ["| difference | " + " | ".join(pairs) + " |", "|---|" + "---|" * len(pairs)]
    for name in comparisons[pairs[0]]:
        if not name.startswith("f1/"):
            cells = " | ".join(_cell(comparisons[pair][name]["difference"]) for pair in pairs)
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _cell(interval: Mapping[str, Any]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _mean(values: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ values / weights.sum(axis=1))


def _bleu(counts: Floats, n: int, weights: Floats) -> Floats:
    """BLEU-n of each resample."""
    total = weights @ counts
    ratios = (total[:, :n] + _TINY) / (total[:, 4 : 4 + n] + _SMALL)
    length = (total[:, 8] + _TINY) / (total[:, 9] + _SMALL)
    penalty = np.where(length < 1, np.exp(1 - 1 / np.minimum(length, 1)), 1.0)
    return np.asarray(np.prod(ratios, axis=1) ** (1 / n) * penalty)


def f1(said: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_], weights: Floats, *, micro: bool) -> Floats:
    """F1 of each resample; an observation that is positive nowhere has 0 and counts in the macro mean."""
    right, either = weights @ (said & true), weights @ said + weights @ true
    if micro:
        right, either = right.sum(axis=1, keepdims=True), either.sum(axis=1, keepdims=True)
    return np.asarray((2 * right / np.maximum(either, 1)).mean(axis=1))
