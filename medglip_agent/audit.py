"""The audit log: who-did-what without the what, one JSON line an event, each chained to the one before.

A line holds the hash of the previous line, so that a changed, removed or inserted line breaks the chain.
Lines cut off at the end leave a whole, shorter chain: keep the last hash elsewhere and give it to `verify`.
Images and answers are named by hashes; texts of users are only kept when asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

_START: Final = "0" * 64
_TAIL: Final = 1 << 16  # bytes read from the end to find the last line


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
            AuditError: the last line is none of ours.
        """
        self.path, self.keep_texts = path, keep_texts
        self._thread_lock = threading.Lock()
        self._file_lock = FileLock(f"{path}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._thread_lock, self._file_lock:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            dropped = _drop_cut_line(path)
        if dropped:
            self.append("recovered", {"dropped_bytes": dropped})

    def append(self, event: str, fields: Mapping[str, Any]) -> str:
        """Write one line, whole and on the disk before this returns; return its hash.

        Args:
            event: what happened, e.g. "ask".
            fields: plain JSON types.
        """
        with self._thread_lock, self._file_lock:
            last = _last_line(self.path)
            record = {
                "seq": last["seq"] + 1 if last else 0,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "event": event,
                **fields,
                "prev": last["hash"] if last else _START,
            }
            digest = _digest(record)
            line = json.dumps({**record, "hash": digest}, ensure_ascii=True, allow_nan=False) + "\n"
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line.encode())  # one call: a killed process leaves all of it or none
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return digest

    def answered(self, event: str, *, image: str, question: str, answer: str, **facts: Any) -> str:
        """Write that something was answered: hashes of image and answer, the texts only with `keep_texts`.

        Args:
            event: "ask", "ground" or "report".
            image: `source_id` of the image, a hash of its pixels.
            question: what was asked.
            answer: what was said.
            facts: more that is no text of a user, plain JSON types.
        """
        texts = {"question": question, "answer": answer} if self.keep_texts else {}
        fields = {"image_sha256": image, "answer_sha256": hashlib.sha256(answer.encode()).hexdigest()}
        return self.append(event, {**fields, **facts, **texts})


def verify(path: Path, expected_head: str | None = None) -> Chain:
    """Check every line of a log.

    Args:
        path: the log.
        expected_head: a hash noted earlier; it must still be in the chain.

    Raises:
        AuditError: a line is changed, absent, inserted or cut short, or the noted hash is not there.
        OSError: the file cannot be read.
    """
    head, count, seen = _START, 0, expected_head is None
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            record = _parse(line, f"line {number}")
            stated = record.pop("hash")
            if record.get("seq") != count or record.get("prev") != head:
                raise AuditError(f"line {number}: does not follow the line before; one was removed or added")
            if _digest(record) != stated:
                raise AuditError(f"line {number}: was changed after it was written")
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


def _last_line(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TAIL))
        lines = file.read().splitlines(keepends=True)
    return _parse(lines[-1], f"{path.name}, last line") if lines else None


def _drop_cut_line(path: Path) -> int:
    """Cut off what follows the last line end; return how many bytes that was."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return len(data) - whole
