"""How well a planner reads written requests: intents and phrases, with intervals.

    python benchmarks/run_planner.py --requests tests/medglip_agent/requests/dev.yaml --out out/planner

Writes planner.json and planner.md into the folder and prints the latter. Rules are tuned on dev.yaml
and measured on test.yaml; --show-misses lists what was read wrongly, so leave it away on the latter.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.stats import N_BOOTSTRAP, Interval, clustered_interval
from medglip_agent.planner import Conversation, Planner, RulePlanner

_LEVEL: Final = 0.95


@dataclass(frozen=True)
class Request:
    """A written request and what it wants; the head of the file says how it was judged."""

    id: str
    text: str
    modality: str | None
    history: tuple[str, ...]
    intents: tuple[str, ...]
    phrases: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What a planner read in a request; `phrases` are labels and the user's own words."""

    request: Request
    intent: str
    phrases: frozenset[str]

    @property
    def right_intent(self) -> bool:
        """Whether the intent is the wanted one or one of the others that can be defended."""
        return self.intent in self.request.intents

    @property
    def right_phrases(self) -> bool:
        """Whether the phrases are exactly the wanted ones, in any order."""
        return self.phrases == self.request.phrases


def read_requests(path: Path) -> list[Request]:
    """Read a file of requests."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["requests"]
    return [
        Request(
            id=entry["id"],
            text=entry["text"],
            modality=entry["modality"],
            history=tuple(entry.get("history", ())),
            intents=(entry["intent"], *entry.get("also", ())),
            phrases=frozenset(entry["phrases"]),
        )
        for entry in entries
    ]


def run(planner: Planner, requests: Sequence[Request]) -> list[Result]:
    """Plan every request, each in its own conversation."""
    results = []
    for request in requests:
        plan = planner.plan(request.text, request.modality, Conversation(request.history))
        results.append(Result(request, plan.intent.value, frozenset((*plan.phrases, *plan.unknown))))
    return results


def accuracies(results: Sequence[Result]) -> dict[str, Interval]:
    """Intent and phrase-set accuracy; requests are drawn with replacement."""
    ids = [result.request.id for result in results]
    return {
        "intent": clustered_interval([float(r.right_intent) for r in results], ids, level=_LEVEL),
        "phrases": clustered_interval([float(r.right_phrases) for r in results], ids, level=_LEVEL),
        "both": clustered_interval([float(r.right_intent and r.right_phrases) for r in results], ids),
    }


def precision_recall(results: Sequence[Result]) -> dict[str, tuple[float, float, float]]:
    """Micro precision and recall of the phrases over all requests, each with its interval (low, high)."""
    hits, found, wanted = (
        np.array([len(part) for part in parts], dtype=np.float64)
        for parts in zip(
            *((r.phrases & r.request.phrases, r.phrases, r.request.phrases) for r in results), strict=True
        )
    )
    count = len(results)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), N_BOOTSTRAP)
    figures = {}
    for name, whole in (("precision", found), ("recall", wanted)):
        resampled = (draws @ hits) / np.maximum(draws @ whole, 1)
        low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        figures[name] = (float(hits.sum() / max(whole.sum(), 1)), float(low), float(high))
    return figures


def by(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, dict[str, Interval]]:
    """The accuracies of each group of requests, in the order of the file."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return {name: accuracies(group) for name, group in groups.items()}


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Every figure as plain data."""
    confusion = Counter(
        (r.request.intents[0], r.request.intents[0] if r.right_intent else r.intent) for r in results
    )
    return {
        "n": len(results),
        "overall": {name: asdict(interval) for name, interval in accuracies(results).items()},
        "phrases": precision_recall(results),
        "by_intent": _plain(by(results, lambda r: r.request.intents[0])),
        "by_modality": _plain(by(results, lambda r: r.request.modality or "unknown")),
        "confusion": [{"wanted": w, "read": r, "n": n} for (w, r), n in sorted(confusion.items())],
    }


def _plain(groups: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
    return {name: {k: asdict(v) for k, v in figures.items()} for name, figures in groups.items()}


def markdown(results: Sequence[Result]) -> str:
    """The figures as tables; 95 % bootstrap intervals in brackets."""
    phrases = ", ".join(
        f"{name} {mean:.3f} [{low:.3f}, {high:.3f}]"
        for name, (mean, low, high) in precision_recall(results).items()
    )
    groups = {"all": accuracies(results), **by(results, lambda r: r.request.intents[0])}
    modalities = by(results, lambda r: r.request.modality or "unknown")
    parts = ["## Intents and phrases", _table("intent", groups), f"Phrases, micro: {phrases}."]
    parts += ["## By modality", _table("modality", modalities), "## Confusion", _confusion(results)]
    return "\n\n".join(parts) + "\n"


def _table(title: str, groups: Mapping[str, Mapping[str, Interval]]) -> str:
    rows = [f"| {title} | n | intent right | phrases right | both right |", "|---|---|---|---|---|"]
    rows += [
        f"| {name} | {f['intent'].n} | {f['intent']} | {f['phrases']} | {f['both']} |"
        for name, f in groups.items()
    ]
    return "\n".join(rows)


def _confusion(results: Sequence[Result]) -> str:
    """Rows are the wanted intents; one that is read as another of its defensible intents counts as right."""
    names = list(dict.fromkeys(r.request.intents[0] for r in results))
    names += [name for name in dict.fromkeys(r.intent for r in results) if name not in names]
    count = Counter(
        (r.request.intents[0], r.request.intents[0] if r.right_intent else r.intent) for r in results
    )
    rows = ["| wanted \\ read | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows += [f"| {w} | " + " | ".join(str(count[w, r] or "") for r in names) + " |" for w in names]
    return "\n".join(rows)


def misses(results: Sequence[Result]) -> str:
    """One line for each request that was read wrongly."""
    lines = []
    for result in results:
        if result.right_intent and result.right_phrases:
            continue
        request = result.request
        wrong = [] if result.right_intent else [f"{result.intent} for {' or '.join(request.intents)}"]
        if not result.right_phrases:
            wrong.append(f"{sorted(result.phrases)} for {sorted(request.phrases)}")
        lines.append(f"{request.id}: {request.text!r}: {'; '.join(wrong)}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the default planner over the whole label tree."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--requests", type=Path, required=True, help="file of written requests")
    parser.add_argument("--out", type=Path, help="folder for planner.json and planner.md")
    parser.add_argument("--show-misses", action="store_true", help="list what was read wrongly")
    args = parser.parse_args(argv)

    results = run(RulePlanner(), read_requests(args.requests))
    text = markdown(results)
    print(text)
    if args.show_misses:
        print(misses(results))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "planner.json").write_text(
            json.dumps(summarise(results), indent=1) + "\n", encoding="utf-8"
        )
        (args.out / "planner.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
