"""The audit log: who-did-what without the what, one JSON line an event, each chained to the one before.

A line holds the hash of the previous line, so that a changed, removed or inserted line breaks the chain.
Lines cut off at the end leave a whole, shorter chain: keep the last hash elsewhere and give it to `verify`.
Images and answers are named by hashes; texts of users are only kept when asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from grounding.types import Regions
from llm.types import Answer, Report

from .report import report_text

if TYPE_CHECKING:
    from .exports import Result

_START: Final = "0" * 64
_OPENING: Final = b'{"seq": '  # of every line
_BLOCK: Final = 1 << 16  # bytes read at a time from the end


class AuditError(ValueError):
    """A log that is no chain; the message names the line."""


@dataclass(frozen=True)
class Chain:
    """A log that holds together.

    Attributes:
        count: lines.
        head: hash of the last line; 64 zeros where there is none.
    """

    count: int
    head: str


class AuditLog:
    """Appends to one file; several threads and processes may."""

    def __init__(self, path: Path, *, keep_texts: bool = False) -> None:
        """Open `path`, made when absent; a line that a crash cut short is dropped, and that is logged.

        Args:
            path: the log, readable by its owner only.
            keep_texts: also keep questions and answers as they are.

        Raises:
            AuditError: the last line is none of ours; the file is left as it is.
        """
        self.path, self.keep_texts = path, keep_texts
        self._thread_lock = threading.Lock()
        self._file_lock = FileLock(f"{path}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._thread_lock, self._file_lock:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                self._continue(file)

    def append(self, event: str, fields: Mapping[str, Any]) -> str:
        """Write one line, whole and on the disk before this returns; return its hash.

        Args:
            event: what happened, e.g. "answer".
            fields: plain JSON types.

        Raises:
            AuditError: the last line is none of ours.
            OSError: it cannot be written; nothing of it is left.
        """
        with self._thread_lock, self._file_lock, self.path.open("r+b", buffering=0) as file:
            return str(_write(file, self._continue(file), event, fields)["hash"])

    def _continue(self, file: io.FileIO) -> dict[str, Any] | None:
        """Return the last line, with what a crash left behind it dropped."""
        last, end, cut = _last_line(file, self.path.name)
        if not cut:
            return last
        file.truncate(end)
        return _write(file, last, "recovered", {"dropped_bytes": cut})

    def answered(self, result: Result) -> str:
        """Write that something was answered, reported or found; the texts only with `keep_texts`."""
        content = result.content
        said = _said(content)
        fields = {
            "image_sha256": result.image.source_id,
            "answer_sha256": hashlib.sha256(said.encode()).hexdigest(),
            "modality": result.image.modality,
            "abstained": isinstance(content, Answer) and content.abstained,
            "regions": len(result.regions),
        }
        texts = {"question": result.question, "answer": said} if self.keep_texts else {}
        return self.append(result.kind, {**fields, **texts})


def _said(content: Answer | Report | Regions) -> str:
    if isinstance(content, Regions):
        return ", ".join(content.phrases)
    return content.text if isinstance(content, Answer) else report_text(content)


def verify(path: Path, expected_head: str | None = None) -> Chain:
    """Check every line of a log; what is appended meanwhile is left for the next time.

    Args:
        path: the log.
        expected_head: a hash noted earlier; it must still be in the chain.

    Raises:
        AuditError: a line is changed, absent, inserted or cut short, or the noted hash is not there.
        OSError: the file cannot be read.
    """
    lock = Path(f"{path}.lock")  # where nobody writes there is none, and maybe no leave to make one
    head, count, seen = _START, 0, expected_head is None
    with path.open("rb") as file:
        with FileLock(lock) if lock.exists() else nullcontext():
            end = file.seek(0, os.SEEK_END)
        file.seek(0)
        while file.tell() < end:
            record = _parse(file.readline(), f"line {count + 1}")
            stated = record.pop("hash")
            if record.get("seq") != count or record.get("prev") != head:
                raise AuditError(
                    f"line {count + 1}: does not follow the line before; one was removed or added"
                )
            if _digest(record) != stated:
                raise AuditError(f"line {count + 1}: was changed after it was written")
            head, count, seen = stated, count + 1, seen or stated == expected_head
    if not seen:
        raise AuditError(f"the chain of {count} lines does not hold the noted hash; lines were cut off")
    return Chain(count, head)


def _digest(record: Mapping[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    record: dict[str, Any] = read if isinstance(read, dict) else {}
    named = isinstance(record.get("hash"), str) and isinstance(record.get("seq"), int)
    if not named or not line.endswith(b"\n"):
        raise AuditError(f"{where}: is no whole line of an audit log")
    return record


def _write(
    file: io.FileIO, last: Mapping[str, Any] | None, event: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Append one line after `last`, the whole of it or nothing; return it."""
    record = {
        "seq": last["seq"] + 1 if last else 0,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        **fields,
        "prev": last["hash"] if last else _START,
    }
    record["hash"] = _digest(record)
    line = memoryview((json.dumps(record, allow_nan=False) + "\n").encode())
    end = file.seek(0, os.SEEK_END)
    try:
        while line:  # a full disk takes a part; a killed process leaves what the next one drops
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise
    return record


def _last_line(file: io.FileIO, name: str) -> tuple[dict[str, Any] | None, int, int]:
    """Return the last whole line, where it ends, and how many bytes of a line cut short follow it."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and tail.count(b"\n") < 2:
        start = max(0, start - max(_BLOCK, len(tail)))
        file.seek(start)
        tail = file.read(size - start)
    *before, cut = tail.split(b"\n")
    if cut[: len(_OPENING)] != _OPENING[: len(cut)]:
        raise AuditError(f"{name}, last line: is no line of an audit log")
    last = _parse(before[-1] + b"\n", f"{name}, last line") if before else None
    return last, size - len(cut), len(cut)
