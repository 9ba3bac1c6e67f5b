"""Settings of a benchmark run: one dataclass, filled by a YAML file and by flags of the same names.

Flags outrank the file. A misspelt field is an error that names the nearest. Knows no task and no model.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from benchmarks.box_conditions import CONDITIONS
from grounding.config import from_mapping

BASELINES_ONLY = "baselines"
REFERENCES = ("raw", "r2gen")


def flag(text: str, **options: Any) -> dict[str, Any]:
    """A field's line of help and what argparse needs beside (type, nargs, choices)."""
    return {"help": text, **options}


@dataclass(frozen=True)
class RunConfig:
    """What is run and how; defaults are declared here only, and each field's line is the flag's help."""

    data_dir: Path = field(
        default=Path(), metadata=flag("data folder; docs/benchmarks.md has the layout", type=Path)
    )
    out: Path = field(default=Path(), metadata=flag("output folder; continued where it exists", type=Path))
    task: str = field(default="", metadata=flag("which benchmark"))
    split: str = field(default="", metadata=flag("of the task; default: its first"))
    references: str = field(
        default="raw",
        metadata=flag("of reports: as written, or cleaned and cut like R2Gen's", choices=REFERENCES),
    )
    model: str = field(
        default="nano",
        metadata=flag(f"nano, a folder, a hub id, a model's YAML file, or `{BASELINES_ONLY}` (no model)"),
    )
    adapter: str | None = field(default=None, metadata=flag("peft adapter of the model"))
    dtype: str = field(
        default="auto", metadata=flag("of the model's weights; float32 repeats exactly with equal --threads")
    )
    device: str = field(default="auto", metadata=flag("auto, cpu, cuda"))
    threads: int | None = field(
        default=None, metadata=flag("CPU threads of this process; default: torch's own", type=int)
    )
    instruction: str = field(
        default="", metadata=flag("text behind each question, such as 'Answer in a word or short phrase.'")
    )
    max_new_tokens: int | None = field(
        default=None, metadata=flag("length of a reply; default: the task's", type=int)
    )
    boxes: tuple[str, ...] = field(
        default=("predicted",), metadata=flag("conditions to run", nargs="+", choices=CONDITIONS)
    )
    regions: Path | None = field(
        default=None,
        metadata=flag("regions.jsonl of this split; default: computed with --grounder", type=Path),
    )
    grounder: str = field(default="nano", metadata=flag("grounder that computes regions"))
    batch_size: int = field(default=16, metadata=flag("samples a batch", type=int))
    offset: int = field(default=0, metadata=flag("leave out the first N samples", type=int))
    limit: int | None = field(
        default=None, metadata=flag("N samples only (a quick look, no result)", type=int)
    )
    shard: str = field(
        default="0/1",
        metadata=flag("I/N: this process answers every N-th batch, from batch I; torchrun sets it"),
    )
    cache: Path | None = field(default=None, metadata=flag("folder of answers that runs share", type=Path))
    retry_failed: bool = field(default=False, metadata=flag("answer failed samples again"))
    dry_run: bool = field(default=False, metadata=flag("count, estimate, run nothing"))
    radeval: bool = field(
        default=False, metadata=flag("reports: CheXbert, RadGraph, GREEN too, where radeval runs")
    )
    seed: int = field(default=0, metadata=flag("of shuffled regions and of resampling", type=int))

    def __post_init__(self) -> None:
        """Check values; YAML gives lists and texts where tuples and paths belong."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata.get("nargs") and not isinstance(value, str):
                object.__setattr__(self, each.name, tuple(value))
            elif each.metadata.get("type") is Path and value is not None:
                object.__setattr__(self, each.name, Path(value))
            elif each.metadata.get("type") is int and not (value is None or type(value) is int):
                raise ValueError(f"{each.name} must be a whole number, got {value!r}")
        for name in ("boxes", "references"):
            self._check_choice(name)
        for name, least in (
            ("batch_size", 1),
            ("offset", 0),
            ("limit", 1),
            ("max_new_tokens", 1),
            ("threads", 1),
        ):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in ("data_dir", "out"):
            if getattr(self, name) == Path():
                raise ValueError(f"{name} is needed: --{name.replace('_', '-')} FOLDER")
        self.shard_of()

    def _check_choice(self, name: str) -> None:
        value, choices = getattr(self, name), _field(name).metadata["choices"]
        wrong = set([value] if isinstance(value, str) else value) - set(choices)
        if wrong or not value:
            raise ValueError(f"{name} must be of {', '.join(choices)}, got {value!r}")

    def shard_of(self) -> tuple[int, int]:
        """(index, count) of `shard`.

        Raises:
            ValueError: it is not I/N with 0 <= I < N.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if index >= count:
            raise ValueError(f"shard must be I/N with 0 <= I < N, such as 0/4, got {self.shard!r}")
        return index, count


def _field(name: str) -> Field[Any]:
    return next(each for each in fields(RunConfig) if each.name == name)


def add_flags(parser: argparse.ArgumentParser, **choices: Sequence[str]) -> None:
    """Add --config and a flag for every field.

    Args:
        parser: gets them.
        choices: of fields that the command restricts, such as its tasks; the first is the default.
    """
    parser.add_argument("--config", type=Path, help="YAML file with fields of these names; flags outrank it")
    for each in fields(RunConfig):
        options = {**each.metadata}
        if each.default is not MISSING and isinstance(each.default, bool):
            options["action"] = "store_true"
        if each.name in choices:
            options["choices"] = choices[each.name]
        parser.add_argument(f"--{each.name.replace('_', '-')}", default=argparse.SUPPRESS, **options)


def read_config(args: argparse.Namespace, task: str) -> RunConfig:
    """The file's fields, then the flags'.

    Args:
        args: from a parser with `add_flags`.
        task: used where neither names one.

    Raises:
        ValueError: a field is unknown or its value does not fit.
    """
    known = {each.name for each in fields(RunConfig)}
    flags = {name: value for name, value in vars(args).items() if name in known}
    values: dict[str, Any] = {"task": task}
    if args.config is not None:
        written = yaml.safe_load(args.config.read_text(encoding="utf-8")) or {}
        if not isinstance(written, dict):
            raise ValueError(
                f"{args.config} must hold fields such as 'limit: 5', got {type(written).__name__}"
            )
        values |= written
    return from_mapping(RunConfig, values | flags, str(args.config or "flags"))
