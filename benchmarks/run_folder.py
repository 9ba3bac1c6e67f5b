"""What a finished run left in its folder, read back: kind, settings, figures, rows, and on which data.

For pages, leaderboards and comparisons. Knows the files, no task and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.box_conditions import CONDITIONS
from benchmarks.predictions import Predictions, Row
from grounding.types import Regions

Kind = Literal["vqa", "report", "grounding"]
MEAN = "mean over sets"


@dataclass(frozen=True)
class Data:
    """What was measured on. Two runs are comparable where `sha256` and `window` are equal.

    Attributes:
        name: task and split; of grounding, its sets.
        sha256: of the files that decide the samples (of each set, for grounding).
        window: everything else that decides them: mode of the references, offset, limit.
    """

    name: str
    sha256: str | tuple[tuple[str, str], ...]
    window: tuple[tuple[str, Any], ...]

    @property
    def digest(self) -> str:
        """The hash, or those of the sets, as one line."""
        return self.sha256 if isinstance(self.sha256, str) else "; ".join(f"{n} {h}" for n, h in self.sha256)


@dataclass(frozen=True, eq=False)
class RunFolder:
    """One run's folder.

    Attributes:
        path: the folder.
        kind: what was run.
        manifest: manifest.json.
        metrics: metrics.json; of grounding, summary.json.
    """

    path: Path
    kind: Kind
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decided the predictions."""
        settings: Mapping[str, Any] = self.manifest["settings"]
        return settings

    @property
    def data(self) -> Data:
        """What was measured on."""
        settings = self.settings
        if self.kind == "grounding":
            hashes = tuple(sorted(settings["data_sha256"].items()))
            name = ", ".join(name for name, _ in hashes) if len(hashes) < 4 else f"{len(hashes)} sets"
            return Data(f"grounding, {name}", hashes, (("limit", settings.get("limit")),))
        window = (
            ("references", settings.get("references", "raw")),
            ("offset", settings.get("offset", 0)),
            ("limit", settings.get("limit")),
        )
        return Data(f"{settings['task']} {settings['split']}", settings["data_sha256"], window)

    @property
    def model(self) -> str:
        """The model's name as it was given, a folder shortened to its last two parts."""
        named = str(self.settings["checkpoint" if self.kind == "grounding" else "model"])
        return "/".join(Path(named).parts[-2:])

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Condition -> rows of predictions.jsonl, in their order; none for grounding."""
        rows: dict[str, list[Row]] = {}
        for row in Predictions(self.path).rows.values():
            rows.setdefault(row["boxes"], []).append(row)
        return rows

    @property
    def lead(self) -> str:
        """The condition that a page is about: `predicted` where it ran, else the first."""
        conditions = list(self.metrics["conditions"])
        return "predicted" if "predicted" in conditions else conditions[0]

    def regions(self, path: Path | None = None) -> dict[str, Regions]:
        """Predicted regions by question, of regions.jsonl or of the given file; none where it is absent."""
        path = path or self.path / "regions.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return {str(row["qid"]): Regions.from_dict(row["regions"]) for row in map(json.loads, lines)}

    def detectors(self) -> dict[str, dict[str, Any]]:
        """Detector -> set -> figures, of a grounding run."""
        first, *others = self.metrics[MEAN]
        files = {first: "results.json", **{name: f"results-{name}.json" for name in others}}
        return {name: _read(self.path / file) for name, file in files.items()}


def read_run(path: str | Path) -> RunFolder:
    """Read a run's folder.

    Raises:
        FileNotFoundError: it holds no finished run.
    """
    folder = Path(path)
    for name in ("metrics.json", "summary.json"):
        if (folder / name).is_file() and (folder / "manifest.json").is_file():
            metrics = _read(folder / name)
            kind: Kind = metrics.get("kind", "vqa") if name == "metrics.json" else "grounding"
            return RunFolder(folder, kind, _read(folder / "manifest.json"), metrics)
    raise FileNotFoundError(
        f"{folder} holds no finished run: expected manifest.json with metrics.json (questions, reports) or "
        "summary.json (grounding); finish the run, or name its output folder"
    )


def is_baseline(condition: str) -> bool:
    """Whether a condition of a run is a baseline's name rather than the boxes that its model saw."""
    return condition not in CONDITIONS


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """Such as `0.375 [0.319, 0.428]`; a dash where there is none."""
    return "-" if interval is None else "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**interval)


def check_same_data(a: RunFolder, b: RunFolder) -> None:
    """Refuse to compare what was measured on different data.

    Raises:
        ValueError: other files or another part of them; what differs is named.
    """
    if (a.kind, a.data) == (b.kind, b.data):
        return
    told = [
        f"{name} {mine!r} and {theirs!r}"
        for name, mine, theirs in (
            ("kind", a.kind, b.kind),
            ("data", a.data.name, b.data.name),
            ("sha256 of the data", a.data.digest[:80], b.data.digest[:80]),
            ("window", dict(a.data.window), dict(b.data.window)),
        )
        if mine != theirs
    ]
    raise ValueError(
        f"expected two runs on the same data, but {a.path} and {b.path} differ in {'; '.join(told)}; "
        "run one of them again on the data of the other"
    )


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
