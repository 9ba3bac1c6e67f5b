"""One run of a benchmark: fixed batches, shards, resume, failures, and the rows of all conditions at the end.

Batches are formed over the whole set, sorted by length, and divided whole among processes: in float32, two
processes give the files of one byte for byte. Knows tasks and models by their protocols only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import Model
from benchmarks.prediction_cache import Answer
from benchmarks.predictions import Predictions, Row, to_row
from benchmarks.run_config import RunConfig
from benchmarks.shards import Shard
from benchmarks.tasks.base import Sample, Task

EXIT_USAGE, EXIT_FAILED_SAMPLES, EXIT_GAVE_UP, EXIT_INTERRUPTED = 2, 3, 4, 130
GIVE_UP_AFTER = 16
"""So many samples failing in a row, none between them answered, are the model's fault and not theirs."""


class GaveUpError(RuntimeError):
    """Nothing works any more; what was answered is on disk."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: rows by condition, each in the order of the samples."""

    samples: Sequence[Sample]
    rows: Mapping[str, list[Row]]

    @property
    def failed(self) -> dict[str, int]:
        """Samples without an answer, by condition; they count as wrong."""
        return {name: sum(bool(row["error"]) for row in rows) for name, rows in self.rows.items()}


def window(task: Task, config: RunConfig) -> list[Sample]:
    """The samples that a run is about.

    Raises:
        ValueError: there is none.
    """
    everything = task.samples()
    chosen = list(everything[config.offset :][: config.limit])
    if not chosen:
        raise ValueError(
            f"{task.name} {task.split}: no sample left of {len(everything)} with offset {config.offset} "
            f"and limit {config.limit} (dropped when read: {dict(task.dropped()) or 'none'})"
        )
    return chosen


def answer_all(
    task: Task,
    samples: Sequence[Sample],
    models: Mapping[str, Model],
    config: RunConfig,
    shard: Shard,
) -> Outcome | None:
    """Answer every sample under every condition; what is on disk is not asked again.

    Args:
        task: scores the answers.
        samples: the whole set.
        models: who answers, by condition, in the order of the results.
        config: of the run.
        shard: this process.

    Returns:
        The finished run in the process that merges, None in the others.

    Raises:
        GaveUpError: the model fails at everything.
        ValueError: another process answers this part of the run.
    """
    predictions = Predictions(config.out, shard.part)
    with predictions.writing():
        if config.retry_failed:
            predictions.forget_failed()
        answering = _Answering(task, predictions, quiet=shard.joined and not shard.first)
        for condition, model in models.items():
            own = shard.of(batches(samples, config.batch_size, lambda s: model.length(s, condition)))  # noqa: B023
            answering.answer(condition, model, own)
        shard.wait()
        if not (shard.first and shard.joined):
            return None
        predictions.read()
        predictions.finish(list(models), samples)
    return Outcome(samples, {condition: predictions.of(condition, samples) for condition in models})


def batches(
    samples: Sequence[Sample], size: int, length: Callable[[Sample], int] = lambda s: len(s.prompt)
) -> list[list[Sample]]:
    """Cut the WHOLE set, sorted by length, into batches, whatever is done already."""
    ordered = sorted(samples, key=lambda s: (length(s), s.sample_id))
    return [ordered[k : k + size] for k in range(0, len(ordered), size)]


class _Answering:
    """Answers this process's batches; counts samples that fail in a row, over all conditions."""

    def __init__(self, task: Task, predictions: Predictions, *, quiet: bool) -> None:
        self.task, self.predictions, self.quiet = task, predictions, quiet
        self.failed_in_a_row = 0

    def answer(self, condition: str, model: Model, own: Sequence[list[Sample]]) -> None:
        """Batches on disk in full are skipped, others done anew."""
        from tqdm import tqdm

        todo = [batch for batch in own if not self.predictions.has(condition, batch)]
        if not todo:
            return
        model.prepare()
        total = sum(map(len, own))
        done = total - sum(map(len, todo))
        with tqdm(total=total, initial=done, desc=condition, unit="q", disable=self.quiet) as bar:
            for batch in todo:
                answers = try_answers(model, batch, condition)
                rows = [self._row(s, condition, a) for s, a in zip(batch, answers, strict=True)]
                self.predictions.append(rows)
                bar.update(len(batch))

    def _row(self, sample: Sample, condition: str, answer: Answer | Exception) -> Row:
        if not isinstance(answer, Exception):
            self.failed_in_a_row = 0
            return to_row(self.task, sample, condition, *answer)
        self.failed_in_a_row += 1
        error = told(answer, sample)
        if self.failed_in_a_row >= GIVE_UP_AFTER:
            raise GaveUpError(f"{self.failed_in_a_row} samples failed in a row; the last: {error}")
        return to_row(self.task, sample, condition, "", None, error)


def try_answers(model: Model, batch: Sequence[Sample], condition: str) -> list[Answer | Exception]:
    """The answers of a batch; where it fails, each sample by itself, so that only those at fault fail."""
    try:
        return list(model.answer(batch, condition))
    except (
        Exception
    ) as error:  # whatever a model or a broken file raises is that sample's failure, kept and counted
        if len(batch) == 1:
            return [error]
    return [answer for sample in batch for answer in try_answers(model, [sample], condition)]


def told(error: Exception, sample: Sample) -> str:
    """What an error says, without the image's path: the folders of some sets are patients' numbers."""
    text = f"{type(error).__name__}: {error}".replace(str(sample.image_path), sample.sample_id)
    named = [part for part in (*sample.image_path.parts, sample.image_path.stem) if len(part) > 3]
    return type(error).__name__ if any(part in text for part in named) else text


def exit_code(main: Callable[[], int]) -> int:
    """Run a command and turn what people can mend into a message and a code of its own."""
    try:
        return main()
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except GaveUpError as error:
        print(f"error: {error}; mend it and run the same command again", file=sys.stderr)
        return EXIT_GAVE_UP
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return EXIT_INTERRUPTED


def code_of(outcome: Outcome | None, out: Path) -> int:
    """0, or 3 with a word on what failed."""
    failed: dict[str, Any] = {} if outcome is None else {k: n for k, n in outcome.failed.items() if n}
    if failed:
        print(
            f"{out}: samples without an answer, counted as wrong: {failed}; --retry-failed asks them again",
            file=sys.stderr,
        )
    return EXIT_FAILED_SAMPLES if failed else 0
