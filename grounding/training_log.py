"""What a run writes down as it goes: ``log.jsonl``, TensorBoard files where wanted, and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any


class TrainingLog:
    """One line of JSON a step, and the same numbers for TensorBoard where it is wanted and installed."""

    def __init__(self, folder: Path, step: int, tensorboard: bool = False) -> None:
        """Continue the log in ``folder`` after ``step``; what stands behind it is dropped."""
        drop_log_after(folder / "log.jsonl", step)
        self._file = open(folder / "log.jsonl", "a")
        self._board: Any = None
        if tensorboard and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard", purge_step=step)

    def __enter__(self) -> TrainingLog:
        """The log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, step: int, entry: Mapping[str, float]) -> None:
        """Add the numbers of one step."""
        self._file.write(json.dumps({"step": step, **entry}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in entry.items():
                self._board.add_scalar(name, value, step)


def drop_log_after(log: Path, step: int) -> None:
    """Remove what an interrupted run logged after its last saved state, since those steps are run again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text(
            "".join(line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step)
        )


def plot_losses(log: Path, picture: Path) -> None:
    """Draw the losses of the last decoder layer and of every other branch against the step."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    window = max(len(entries) // 100, 1)
    starts = range(0, len(entries) - window + 1, window)
    for name in ("class", "box", "giou", "class_proposals", "giou_proposals", "giou_denoising", "presence"):
        if all(name in entry for entry in entries):
            values = [entry[name] for entry in entries]
            smooth = [sum(values[i : i + window]) / window for i in starts]
            axes.plot([entries[i]["step"] for i in starts], smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="Training losses")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
