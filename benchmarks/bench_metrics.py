"""Speed of scoring, parity of the text metrics with reference implementations, quality of the labeller.

    python benchmarks/bench_metrics.py --data-dir DATA --write

Times are processor time of one core, both sides in one run. Reference implementations are optional (`pip
install pycocoevalcap sacrebleu rouge-score`); one that is absent is named, and its row is left out. `--write`
puts the figures into docs/results/metrics.json, from which `python -m benchmarks.metrics.scoring_page` takes
them.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.metrics.label_check import check_labeller
from benchmarks.metrics.overlap import bleu, cider, report_tokens, rouge_l
from benchmarks.metrics.protocols import PROTOCOLS, by_answer_type
from benchmarks.metrics.scoring_page import CASES, FIGURES, read_cases

REPORTS = "reports/iu_xray_reports.jsonl.gz"

Pairs = Sequence[tuple[list[str], list[str]]]
"""Words of a text and of its one reference."""


@dataclass(frozen=True)
class Comparison:
    """One of our metrics beside a reference implementation; both give the figures that are compared."""

    metric: str
    reference: str
    module: str
    ours: Callable[[Pairs], list[float]]
    theirs: Callable[[Pairs], list[float]]


def time_protocols(count: int) -> dict[str, float]:
    """Score `count` answers, drawn from the truth table and made distinct, by every protocol."""
    cases = read_cases()
    drawn = [cases[k % len(cases)] for k in range(count)]
    predictions = [f"{case.prediction} {k}" if k % 2 else case.prediction for k, case in enumerate(drawn)]
    start = time.process_time()
    for score in PROTOCOLS.values():
        by_answer_type(score, predictions, [c.truth for c in drawn], [c.answer_type for c in drawn])
    return {"predictions": count, "seconds": time.process_time() - start}


def report_pairs(path: Path, count: int) -> Pairs:
    """Findings against another report's, a third against a part of themselves, by a fixed seed."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [words for line in lines if len(words := report_tokens(json.loads(line)["findings"])) > 3]
    draw = random.Random(0)
    pairs = []
    for k in range(count):
        true = draw.choice(texts)
        pairs.append((draw.choice(texts) if k % 3 else true[: draw.randint(1, len(true))], true))
    return pairs


def compare(comparison: Comparison, pairs: Pairs) -> dict[str, Any]:
    """Largest difference and ratio of times; both sides start from words, as lists or joined by spaces."""
    start = time.process_time()
    ours = comparison.ours(pairs)
    middle = time.process_time()
    theirs = comparison.theirs(pairs)
    end = time.process_time()
    return {
        "metric": comparison.metric,
        "reference": comparison.reference,
        "pairs": len(pairs),
        "largest difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "times faster": (end - middle) / (middle - start),
    }


def _coco(pairs: Pairs) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    truths = {k: [" ".join(true)] for k, (_, true) in enumerate(pairs)}
    return truths, {k: [" ".join(said)] for k, (said, _) in enumerate(pairs)}


def _our_bleu(pairs: Pairs) -> list[float]:
    scores = bleu([said for said, _ in pairs], [[true] for _, true in pairs])
    return [*scores.corpus, *(score for row in scores.each for score in row)]


def _coco_bleu(pairs: Pairs) -> list[float]:
    from pycocoevalcap.bleu.bleu import Bleu

    corpus, each = Bleu(4).compute_score(*_coco(pairs), verbose=0)
    return [*corpus, *(score for row in zip(*each, strict=True) for score in row)]


def _sacre_bleu(pairs: Pairs) -> list[float]:
    import sacrebleu

    said, true = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    score = sacrebleu.corpus_bleu(said, [true], tokenize="none", smooth_method="none", force=True).score
    return [score / 100]


def _our_cider(pairs: Pairs) -> list[float]:
    return cider([said for said, _ in pairs], [[true] for _, true in pairs])


def _coco_cider(pairs: Pairs) -> list[float]:
    from pycocoevalcap.cider.cider import Cider

    return [float(score) for score in Cider().compute_score(*_coco(pairs))[1]]


def _coco_rouge(pairs: Pairs) -> list[float]:
    from pycocoevalcap.rouge.rouge import Rouge

    return [float(score) for score in Rouge().compute_score(*_coco(pairs))[1]]


class _Words:
    """A splitter at spaces for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def _rouge_score(pairs: Pairs) -> list[float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return [scorer.score(" ".join(true), " ".join(said))["rougeL"].fmeasure for said, true in pairs]


COMPARISONS = (
    Comparison("BLEU-1..4, corpus and each", "pycocoevalcap", "pycocoevalcap", _our_bleu, _coco_bleu),
    Comparison(
        "BLEU-4, corpus", "sacrebleu, no smoothing", "sacrebleu",
        lambda pairs: _our_bleu(pairs)[3:4], _sacre_bleu,
    ),
    Comparison(
        "ROUGE-L", "pycocoevalcap", "pycocoevalcap",
        lambda pairs: [rouge_l(said, [true]) for said, true in pairs], _coco_rouge,
    ),
    Comparison(
        "ROUGE-L, beta 1", "rouge-score", "rouge_score",
        lambda pairs: [rouge_l(said, [true], beta=1.0) for said, true in pairs], _rouge_score,
    ),
    Comparison("CIDEr, each", "pycocoevalcap", "pycocoevalcap", _our_cider, _coco_cider),
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure and print; with `--write`, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MEDGLIP_DATA"), help="holds reports/"
    )
    parser.add_argument("--predictions", type=int, default=100_000, help="answers to score by every protocol")
    parser.add_argument("--pairs", type=int, default=10_000, help="pairs of reports for the text metrics")
    parser.add_argument("--write", action="store_true", help=f"write {FIGURES.name} for the page")
    args = parser.parse_args(argv)
    if args.data_dir is None or not (reports := Path(args.data_dir) / REPORTS).is_file():
        parser.error(
            f"expected {REPORTS} under --data-dir, got {args.data_dir}; pass the data folder"
            " or set MEDGLIP_DATA"
        )
    figures: dict[str, Any] = {"vqa": time_protocols(args.predictions), "text": []}
    pairs = report_pairs(reports, args.pairs)
    for comparison in COMPARISONS:
        if importlib.util.find_spec(comparison.module) is None:
            print(
                f"{comparison.metric}: not compared, {comparison.reference} is not installed", file=sys.stderr
            )
        else:
            figures["text"].append(compare(comparison, pairs))
    figures["labels"] = check_labeller(CASES / "hard_sentences.yaml", reports)
    text = json.dumps(figures, indent=1) + "\n"
    print(text)
    if args.write:
        FIGURES.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
