"""What every reader of downstream data shares: the result with its losses, and files that say what is absent.

Knows no layout. Messages name a file or a record, never a patient.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

Example = TypeVar("Example")


@dataclass(frozen=True)
class Reading(Generic[Example]):
    """The examples of a split, and how many records of it were left out and why.

    Attributes:
        examples: In the order of the source.
        dropped: Records left out, by reason; with the examples they add up to the source's records.
    """

    examples: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        """The examples in order."""
        return iter(self.examples)


def need_file(path: Path, layout: str) -> Path:
    """Return the path of a file that is there.

    Raises:
        FileNotFoundError: It is not; the message says which layout is expected.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is absent; expected {layout}")
    return path


def need_files(paths: Iterable[Path], layout: str) -> None:
    """Check that all files are there.

    Raises:
        FileNotFoundError: Some are not; the message counts them and names the first.
    """
    absent = sorted({str(path) for path in paths if not path.is_file()})
    if absent:
        raise FileNotFoundError(f"{len(absent)} files are absent, such as {absent[0]}; expected {layout}")


def load_json(path: Path, layout: str) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: It is absent.
        ValueError: It is no JSON.
    """
    with need_file(path, layout).open(encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}); is the copy complete?") from error


def load_records(path: Path, layout: str) -> list[dict[str, Any]]:
    """Read a JSON file that holds a list of objects.

    Raises:
        FileNotFoundError: It is absent.
        ValueError: It holds something else.
    """
    records = load_json(path, layout)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path}: expected a list of objects; expected {layout}")
    return records


def join_inside(folder: Path, name: str, record: str) -> Path:
    """Join a file name from a record to its folder.

    Raises:
        ValueError: The name is empty or leads out of the folder.
    """
    relative = Path(str(name))
    if not str(name).strip() or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{record}: {str(name)!r} is not the name of a file inside {folder}")
    return folder / relative


def one_line(text: object) -> str:
    """Text with outer white space removed and inner white space made single; None is empty."""
    return "" if text is None else " ".join(str(text).split())


def check_unique(names: Iterable[str], what: str) -> None:
    """Refuse names that occur twice.

    Raises:
        ValueError: Some do; the message names the first.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{what} {repeated[0]} occurs more than once ({len(repeated)} do); the file is broken"
        )
