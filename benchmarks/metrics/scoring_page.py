"""docs/scoring.md: what each protocol and metric counts, with the truth table, computed as it is written.

    python -m benchmarks.metrics.scoring_page            # writes docs/scoring.md
    python -m benchmarks.metrics.scoring_page --check    # fails where the page is not what it would write

Knows where the hand-written cases lie (tests/benchmarks/metrics) and the measured figures
(docs/results/metrics.json, by benchmarks/bench_metrics.py). It scores the cases anew: the page shows what the
code does, the test that the code does what the cases say.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from benchmarks.metrics.chexpert_rules import OBSERVATIONS
from benchmarks.metrics.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = ROOT / "tests" / "benchmarks" / "metrics"
PAGE = ROOT / "docs" / "scoring.md"
FIGURES = ROOT / "docs" / "results" / "metrics.json"


@dataclass(frozen=True)
class TruthCase:
    """One hand-written judgement.

    Attributes:
        question: what was asked; no protocol reads it.
        answer_type: OPEN or CLOSED.
        truth: the true answer.
        prediction: the answer that is judged.
        scores: what each protocol should say, by its name; nan where it judges nothing.
        shows: why the case is there; "fault: ..." where a published protocol is wrong.
    """

    question: str
    answer_type: str
    truth: str
    prediction: str
    scores: dict[str, float]
    shows: str


def read_cases(path: Path = CASES / "scorer_truth.yaml") -> list[TruthCase]:
    """Read the truth table.

    Raises:
        ValueError: a row has not the columns that the file's head names.
    """
    cases = []
    for row in yaml.safe_load(path.read_text(encoding="utf-8")):
        if len(row) != 5 + len(PROTOCOLS):
            raise ValueError(f"expected {5 + len(PROTOCOLS)} columns in {path.name}, got {len(row)}: {row}")
        scores = {
            name: math.nan if cell == "-" else float(Fraction(str(cell)))
            for name, cell in zip(PROTOCOLS, row[4:-1], strict=True)
        }
        question, answer_type, truth, prediction = row[:4]
        cases.append(TruthCase(question, answer_type, truth, prediction, scores, row[-1]))
    return cases


def scoring_page() -> str:
    """The whole page as markdown."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    cases = read_cases()
    faults = sum(case.shows.startswith("fault") for case in cases)
    return "\n".join(
        [
            _HEAD,
            _TRUTH.format(cases=len(cases), faults=faults),
            _truth_table(cases),
            _REPORTS,
            _label_tables(figures["labels"]),
            _GROUNDED,
            _speed(figures),
        ]
    )


def _truth_table(cases: list[TruthCase]) -> str:
    lines = [
        "| question | type | truth | prediction | " + " | ".join(PROTOCOLS) + " | shows |",
        "|---|---|---|---|" + "---|" * (len(PROTOCOLS) + 1),
    ]
    for case in cases:
        judged = [score(case.prediction, case.truth, case.answer_type) for score in PROTOCOLS.values()]
        cells = [
            case.question,
            case.answer_type.lower(),
            case.truth,
            case.prediction,
            *map(_short, judged),
            case.shows,
        ]
        lines.append("| " + " | ".join(cell.replace("\n", " ⏎ ") or "(empty)" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.2f}".rstrip("0").rstrip(".")


def _label_tables(labels: dict[str, Any]) -> str:
    hard, reports = labels["hard"], labels["reports"]
    lines = [
        "| hard sentences | sentences | all labels right | labels | precision | recall |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {half} | {row['sentences']} | {row['whole']:.3f} | {row['labels']} | {row['precision']:.3f} |"
        f" {row['recall']:.3f} |"
        for half, row in hard.items()
    ]
    lines += [
        "",
        _IU.format(tuned=reports["tuned"]["reports"], apart=reports["held apart"]["reports"]),
        "",
        "| observation | tagged | P / R / F1, uncertain = positive | P / R / F1, uncertain = negative |",
        "|---|---|---|---|",
    ]
    apart = reports["held apart"]["by observation"]
    for name in OBSERVATIONS:
        both = [
            " / ".join(f"{apart[name][policy][k]:.2f}" for k in ("precision", "recall", "f1"))
            for policy in POLICIES
        ]
        lines.append(f"| {name} | {apart[name]['tagged']} | " + " | ".join(both) + " |")
    means = {
        half: ", ".join(
            f"{reports[half]['micro f1'][policy]:.3f} with uncertain = {policy}" for policy in POLICIES
        )
        for half in ("held apart", "tuned")
    }
    lines += [
        "",
        f"Micro F1 without No Finding: held apart {means['held apart']}; looked at {means['tuned']}.",
        "",
    ]
    return "\n".join(lines)


POLICIES = ("positive", "negative")


def _speed(figures: dict[str, Any]) -> str:
    rows = [
        f"| {row['metric']} | {row['reference']} | {row['pairs']} | {row['largest difference']:.1e}"
        f" | {row['times faster']:.1f} |"
        for row in figures["text"]
    ]
    vqa = figures["vqa"]
    return "\n".join(
        [
            "## Parity and speed\n",
            f"{vqa['predictions']:,} predictions by all {len(PROTOCOLS)} protocols: {vqa['seconds']:.1f} s of"
            " one core. Text metrics against the reference implementations, on the same words in one run:\n",
            "| metric | reference | pairs | largest difference | times as fast |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "`python benchmarks/bench_metrics.py` measures this; it names what it cannot compare with.",
            "",
        ]
    )


_HEAD = """# How answers and reports are scored

Written by `python -m benchmarks.metrics.scoring_page`; every score and figure on it is computed.

The protocols of visual question answering are not one metric: always name the one that a figure comes from.

| protocol | closed questions | open questions | known faults |
|---|---|---|---|
| `exact` (headline) | normalised exact match | the same | strict: a sentence around the answer is wrong |
| `token-f1` | F1 over the words of the normal form | the same | the wrong side keeps most of its words |
| `llava-med` | yes or no, and the truth, as letters anywhere | recall of words | "abnormal" says no; \
"left" is wrong for "left"; repetition raises recall; the script drops wrong yes/no answers from its count \
(`closed_as_script`) |
| `medevalkit` | exactly one of yes, no, as letters; else equality | equality as written | "abnormal" \
says no; a full stop makes an open answer wrong; its first SLAKE script counts some twice (not copied) |
| `vila-m3` | equality in lower case | not judged | a full stop makes an answer wrong |

Normal form of `exact`: lower case, articles and punctuation dropped, number words up to twelve as digits,
yes/no aliases where they are the whole answer, one spelling of x-ray. An empty prediction is wrong in every
protocol. Each is an `evaluate` module that loads without a network:
`evaluate.load("benchmarks/metrics/vqa_exact.py")`, and `vqa_token_f1`, `vqa_llava_med`, `vqa_medevalkit`,
`vqa_vila_m3`.
"""

_TRUTH = """## Truth table

{cases} cases, {faults} of them known faults of a published protocol, none of which `exact` shares. They are
in `tests/benchmarks/metrics/scorer_truth.yaml`, worked out by hand; the scores below are computed.
"""

_REPORTS = """## Reports

- `report_text.py`: BLEU-1..4, ROUGE-L and CIDEr as the COCO caption evaluation defines them, on lower-case
  words without punctuation. `meteor` is METEOR 1.5 by its own program and is there only where Java and
  `pycocoevalcap` are; `meteor_exact` matches equal words only, with METEOR's formula and none of its data,
  and is not METEOR.
- `report_labels.py`: F1 of the 14 CheXpert observations by the rules of
  `benchmarks/metrics/chexpert_rules.py`. It is not CheXbert: never set the two beside each other.
- `report_radeval.py`: CheXbert F1, RadGraph F1, GREEN through `radeval`; what cannot run is named with the
  reason.

### The labeller

Policy: of several mentions of an observation in a report, present outweighs uncertain outweighs absent.
Likely, probable, possible, suspicious, versus, unlikely and "cannot exclude" are uncertain; "consistent with"
is present; "no definite" and "no new" are absent; questions, histories and plans mention nothing. **In F1 an
uncertain mention counts as positive** (the other policy by `uncertain="negative"`); absent and not mentioned
are both negative. Scars, granulomas, blunted angles and compression deformities are none of the 14.

It was measured on sentences written by hand to be hard, before the rules. Rules were tuned on the half looked
at only; the other half was read by the labeller once, at the end. One hand wrote sentences and rules, so that
both halves flatter it: the reports below are the harder test.
"""

_IU = """On the Indiana University reports the truth is the expert's MeSH tags, mapped to observations. Rules
were tuned on {tuned} reports (odd numbers); below are the {apart} held apart (even numbers). Tags are not
labels: they index what is worth finding, so that hedged and minor mentions often have none, and "normal" is
given to fewer reports than have no observation (a report of a bent spine has other tags), which is why No
Finding has a low precision."""

_GROUNDED = """## Grounded sentences

`report_grounding.py`: a link is one sentence with one of its regions, right where the region's IoU with a
true box of the same finding or structure is at least 0.5. Precision is the share of links that are right,
recall the share of true boxes that a right link reaches, "grounded" the share of sentences that point
anywhere. Sentences that point nowhere lower recall and never precision: read the three together.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with docs/scoring.md instead of writing it"
    )
    check = parser.parse_args(argv).check
    page = scoring_page()
    if check and PAGE.read_text(encoding="utf-8") != page:
        print(
            f"{PAGE.relative_to(ROOT)} is out of date; run python -m benchmarks.metrics.scoring_page",
            file=sys.stderr,
        )
        return 1
    if not check:
        PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
