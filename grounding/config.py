"""A configuration dataclass filled from YAML; a typo is an error that names the nearest field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

T = TypeVar("T")


def load_config(kind: type[T], path: Path, overrides: Mapping[str, Any] | None = None) -> T:
    """Read ``path`` into the dataclass ``kind``; ``overrides`` (from flags) win.

    Raises:
        ValueError: If a field is unknown, or a required one is missing.
    """
    values = yaml.safe_load(path.read_text()) or {}
    return from_mapping(kind, {**values, **(overrides or {})}, str(path))


def from_mapping(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Build a dataclass, nested ones included, from a mapping; ``source`` names it in errors."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(known)}"
            raise ValueError(f"{source}: unknown field {name!r} of {kind.__name__}; {hint}")
    hints = get_type_hints(kind)
    arguments = {name: _field(hints[name], value, f"{source}: {name}") for name, value in values.items()}
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"{source}: {error}") from error


def _field(kind: Any, value: Any, source: str) -> Any:
    """A value as its field wants it; floats are converted, since YAML 1.1 reads ``4e-4`` as a string."""
    if is_dataclass(kind) and isinstance(kind, type):
        return from_mapping(kind, value or {}, source)
    if kind is float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{source}: expected a number, got {value!r}") from None
    return value
