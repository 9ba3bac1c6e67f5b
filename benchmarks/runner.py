"""Predictions on disk: made in fixed batches, appended as they come, resumed with identical results.

Knows tasks and a `generate` callable, no model. One row a (sample, condition); `qid` + `boxes` is its key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import Sample, Task

Row = dict[str, Any]
Generate = Callable[[Sequence[Sample], str], list[tuple[str, float | None]]]
"""(samples of one batch, condition) -> (text, confidence) a sample."""


class Predictions:
    """predictions.jsonl of one run, by (sample id, condition)."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line cut short by a kill is dropped."""
        self.path = path
        self.rows: dict[tuple[str, str], Row] = {}
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole, encoding="utf-8")
            for row in map(json.loads, whole.splitlines()):
                self.rows[row["qid"], row["boxes"]] = row

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows and write them to disk at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        for row in rows:
            self.rows[row["qid"], row["boxes"]] = row

    def of(self, condition: str, samples: Sequence[Sample]) -> list[Row]:
        """The rows of one condition in the order of `samples`.

        Raises:
            ValueError: some are missing.
        """
        missing = [s.sample_id for s in samples if (s.sample_id, condition) not in self.rows]
        if missing:
            raise ValueError(
                f"{self.path}: expected {len(samples)} predictions for boxes={condition}, "
                f"{len(missing)} are missing, such as {missing[0]}; run the command again to finish"
            )
        return [self.rows[s.sample_id, condition] for s in samples]

    def finish(self, conditions: Sequence[str], samples: Sequence[Sample]) -> None:
        """Rewrite the file in a fixed order, so that it does not tell how often the run was interrupted."""
        kept = [row for c in conditions for row in self.of(c, samples)]
        others = [r for (_, c), r in self.rows.items() if c not in conditions]
        others.sort(key=lambda r: (r["boxes"], r["qid"]))
        partial = self.path.with_suffix(".tmp")
        partial.write_text("".join(json.dumps(r) + "\n" for r in [*kept, *others]), encoding="utf-8")
        partial.replace(self.path)


def batches(
    samples: Sequence[Sample], size: int, length: Callable[[Sample], int] = lambda s: len(s.prompt)
) -> list[list[Sample]]:
    """Cut the WHOLE set, sorted by length, into batches, whatever is done already."""
    ordered = sorted(samples, key=lambda s: (length(s), s.sample_id))
    return [ordered[k : k + size] for k in range(0, len(ordered), size)]


def predict(
    task: Task,
    samples: Sequence[Sample],
    condition: str,
    generate: Generate,
    predictions: Predictions,
    *,
    batch_size: int,
    length: Callable[[Sample], int] = lambda s: len(s.prompt),
) -> None:
    """Answer every sample under one condition; batches on disk in full are skipped, others done anew.

    Args:
        task: scores the answers.
        samples: the whole set.
        condition: the value of `boxes` in each row.
        generate: answers one batch.
        predictions: where rows go.
        batch_size: samples a batch.
        length: sorts samples so that a batch holds prompts of similar length.
    """
    from tqdm import tqdm

    todo = batches(samples, batch_size, length)
    with tqdm(total=len(samples), desc=f"boxes={condition}", unit="q", smoothing=0.1) as bar:
        for batch in todo:
            if not all((s.sample_id, condition) in predictions.rows for s in batch):
                answers = generate(batch, condition)
                rows = [
                    to_row(task, s, condition, text, confidence)
                    for s, (text, confidence) in zip(batch, answers, strict=True)
                ]
                predictions.append(rows)
            bar.update(len(batch))


def to_row(task: Task, sample: Sample, condition: str, text: str, confidence: float | None) -> Row:
    """One line of predictions.jsonl: plain JSON types, everything the tables need."""
    return {
        "qid": sample.sample_id,
        "boxes": condition,
        "prediction": text,
        "confidence": confidence,
        "reference": sample.reference,
        "question": sample.prompt,
        "cluster": sample.cluster,
        "groups": {name: list(values) for name, values in sample.groups.items()},
        "scores": task.scores(text, sample),
    }


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Tie an output folder to one run: write `identity` once, refuse to continue another run's predictions.

    Raises:
        ValueError: the folder belongs to a run with other settings; the keys that differ are named.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(identity, indent=2), encoding="utf-8")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = {k: (before.get(k), identity.get(k)) for k in before.keys() | identity.keys()}
    changed = {k: v for k, v in changed.items() if v[0] != v[1]}
    if changed:
        told = "; ".join(f"{k}: {old!r} there, {new!r} now" for k, (old, new) in sorted(changed.items()))
        raise ValueError(
            f"{path.parent} holds another run ({told}); choose another --out or delete the folder"
        )
