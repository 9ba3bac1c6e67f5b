"""Predictions on disk: one row a (sample, condition), appended batch by batch, merged in a fixed order.

While a run lasts each process appends to its own file in `parts/`; whoever starts reads all of them, so that
a run continues with any number of processes. Reading changes no file: only the one process that `writing`
lets append to a part cuts its broken last line. `finish` writes predictions.jsonl, which tells neither how
often the run was interrupted nor how many processes made it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.tasks.base import Sample, Task
from benchmarks.whole_files import write_whole

Row = dict[str, Any]


class Predictions:
    """The rows of one output folder, by (sample id, condition)."""

    def __init__(self, folder: Path, part: str = "0-of-1") -> None:
        """Read what is there, but for a last line cut short by a kill, or not yet written in full.

        Args:
            folder: the output folder.
            part: name of this process's file.
        """
        self.path = folder / "predictions.jsonl"
        self.part = folder / "parts" / f"{part}.jsonl"
        self.rows: dict[tuple[str, str], Row] = {}
        self.read()

    def read(self) -> None:
        """Read every file again; an answer outranks a failure."""
        # The parts are read first: `finish` of another process removes them when predictions.jsonl is there.
        parts = [read_rows(path) for path in sorted(self.part.parent.glob("*.jsonl"))]
        for rows in [read_rows(self.path), *parts]:
            for row in rows:
                key = row["qid"], row["boxes"]
                if key not in self.rows or self.rows[key]["error"] or not row["error"]:
                    self.rows[key] = row

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that appends to this part; what a kill left there is cut to whole lines.

        Raises:
            ValueError: another process is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.part.stem}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"{self.part}: another process is writing it; wait for its end and run the same command "
                "again, or divide the run with --shard"
            ) from error
        try:
            drop_cut_line(self.part)
            self.read()
            yield
        finally:
            lock.release()

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows and write them to disk at once; inside `writing`."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        with self.part.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        for row in rows:
            self.rows[row["qid"], row["boxes"]] = row

    def has(self, condition: str, samples: Sequence[Sample]) -> bool:
        """Whether every sample has its row."""
        return all((sample.sample_id, condition) in self.rows for sample in samples)

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

    def forget_failed(self) -> None:
        """Take failed samples as not answered."""
        self.rows = {key: row for key, row in self.rows.items() if not row["error"]}

    def finish(self, conditions: Sequence[str], samples: Sequence[Sample]) -> None:
        """Write predictions.jsonl in a fixed order and remove the parts."""
        kept = [row for c in conditions for row in self.of(c, samples)]
        others = [r for (_, c), r in self.rows.items() if c not in conditions]
        others.sort(key=lambda r: (r["boxes"], r["qid"]))
        write_whole(self.path, "".join(json.dumps(r) + "\n" for r in [*kept, *others]))
        for path in self.part.parent.glob("*.jsonl"):
            path.unlink()


def read_rows(path: Path) -> list[Row]:
    """The whole lines of a file; none where it is absent.

    Raises:
        ValueError: a whole line is no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:  # or removed since it was listed
        return []
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].split("\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path}:{number} is no JSON ({error}); delete the file and run again"
            ) from error
    return rows


def drop_cut_line(path: Path) -> None:
    """Cut off what stands behind the last line end of a file, where there is one."""
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


def to_row(
    task: Task, sample: Sample, condition: str, text: str, confidence: float | None, error: str | None = None
) -> Row:
    """One row: plain JSON types, everything the tables need; a score that is not judged (nan) is null.

    Args:
        task: scores the answer.
        sample: what was asked.
        condition: the boxes, or the baseline's name.
        text: the answer; empty where it failed, which scores as any empty answer does.
        confidence: in [0, 1], or None.
        error: why there is no answer.
    """
    scores = task.scores(text, sample)
    return {
        "qid": sample.sample_id,
        "boxes": condition,
        "prediction": text,
        "confidence": confidence,
        "error": error,
        "reference": sample.reference if task.stores_reference else None,
        "question": sample.prompt,
        "cluster": sample.cluster,
        "groups": {name: list(values) for name, values in sample.groups.items()},
        "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
    }


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Tie an output folder to one run: write `identity` once, refuse to continue another run's predictions.

    The caller holds the folder's lock, where several processes may come here.

    Raises:
        ValueError: the folder belongs to a run with other settings; the keys that differ are named.
    """
    if not path.exists():
        write_whole(path, json.dumps(identity, indent=2))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = {k: (before.get(k), identity.get(k)) for k in before.keys() | identity.keys()}
    changed = {k: v for k, v in changed.items() if v[0] != v[1]}
    if changed:
        told = "; ".join(f"{k}: {old!r} there, {new!r} now" for k, (old, new) in sorted(changed.items()))
        raise ValueError(
            f"{path.parent} holds another run ({told}); choose another --out or delete the folder"
        )
