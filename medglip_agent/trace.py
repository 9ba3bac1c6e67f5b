"""The trace: what was done, with what outcome, in what time. Data only; interfaces render it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grounding.types import Regions
from llm.types import Step


@dataclass
class OpenStep:
    """A step under way: set `outcome` before it ends, add to `inputs` what is known only then."""

    inputs: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""


class Trace:
    """Collects the steps of one request."""

    def __init__(self) -> None:
        """Start empty."""
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """The finished steps, in order."""
        return tuple(self._steps)

    @contextmanager
    def step(self, name: str, inputs: Mapping[str, Any]) -> Iterator[OpenStep]:
        """Time a step; it is recorded when the block ends without an exception.

        Args:
            name: e.g. "grounding".
            inputs: plain JSON types.
        """
        running = OpenStep(dict(inputs))
        start = time.perf_counter()
        yield running
        self._steps.append(Step(name, running.inputs, running.outcome, time.perf_counter() - start))


def found(regions: Regions, missing: Sequence[str]) -> str:
    """Return what was found with scores, and what was not, as one line for the trace."""
    pairs = zip(regions.phrases, regions.scores.tolist(), strict=True)
    there = ", ".join(f"{phrase} ({score:.2f})" for phrase, score in pairs) or "no region"
    return f"{there}; not found: {', '.join(missing)}" if missing else there


def step_to_dict(step: Step) -> dict[str, Any]:
    """Return the step in plain JSON types, seconds rounded to milliseconds."""
    return {
        "name": step.name,
        "inputs": step.inputs,
        "outcome": step.outcome,
        "seconds": round(step.seconds, 3),
    }


def append_trace(path: Path, steps: Iterable[Step]) -> None:
    """Append one JSON line a step to `path`."""
    with path.open("a", encoding="utf-8") as file:
        for step in steps:
            file.write(json.dumps(step_to_dict(step), ensure_ascii=False) + "\n")


def read_trace(path: Path) -> tuple[Step, ...]:
    """Read the steps that `append_trace` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(Step(**json.loads(line)) for line in lines)
