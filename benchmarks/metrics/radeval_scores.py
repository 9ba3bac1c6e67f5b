"""CheXbert F1, RadGraph F1, GREEN and others through the optional `radeval` package, or the reason why not.

Knows neither the metrics' models nor where their weights lie: `radeval` fetches those on first use, which
fails without a network. A metric that cannot run is named with its reason; it is never skipped and never
scored 0.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

METRICS = ("f1chexbert", "radgraph", "green")
"""What is asked for by default; `radeval` names others (ratescore, radcliq, ...). GREEN needs a GPU in
practice."""

INSTALL = (
    "`pip install radeval` (it needs torchvision), and run once with network access to fetch the weights"
)


@dataclass(frozen=True)
class RadEvalResult:
    """What could be computed, and what could not.

    Attributes:
        scores: figure by its name in `radeval`, which may differ from the metric's ("radgraph_partial").
        unavailable: metric -> why it did not run.
    """

    scores: dict[str, float]
    unavailable: dict[str, str]


def radeval_scores(
    predictions: Sequence[str], references: Sequence[str], metrics: Sequence[str] = METRICS
) -> RadEvalResult:
    """Run each metric on its own, so that absent weights of one do not take the others along.

    Raises:
        ValueError: the lengths differ.
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"expected a reference each, got {len(predictions)} predictions, {len(references)} references"
        )
    if importlib.util.find_spec("radeval") is None:
        return RadEvalResult({}, {name: f"radeval is not installed: {INSTALL}" for name in metrics})
    radeval = importlib.import_module("radeval")
    scores: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name in metrics:
        try:
            scorer = radeval.RadEval(metrics=[name], show_progress=False)
            found = scorer(refs=list(references), hyps=list(predictions))
        except (
            ImportError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # absent weights come as any of these
            unavailable[name] = f"{type(error).__name__}: {error}; {INSTALL}"
        else:
            scores |= {key: float(value) for key, value in found.items()}
    return RadEvalResult(scores, unavailable)
