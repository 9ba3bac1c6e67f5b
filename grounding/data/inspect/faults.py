"""A fault of a built data set: the type that every check gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        severity: "error" spoils training or a measurement; "warning" is worth a look.
        kind: short name of the check, the same for all its faults.
        image_id: the image, or the first of those concerned.
        what: what was found.
        remedy: what to do.
    """

    severity: Severity
    kind: str
    image_id: str
    what: str
    remedy: str
