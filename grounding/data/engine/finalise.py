"""The second stage of a build: parts in their order become the data set.

Finds near-duplicates, deals the rows out to the files of their splits, writes the logs and the manifest.
Memory holds a few numbers an image. Knows no reader and no pixels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schema import SPLITS
from .accounts import Ledger, image_drop
from .blocks import GROUP_ROWS, RowWriter, Workshop, as_line, part_paths, write_atomically
from .config import config_mapping
from .perceptual_hash import first_seen
from .splits import stable_hash

SCHEMA_VERSION: Final = 1
"""Of the rows and of the rules that make them; a build of another version is not resumed."""

_KEYS: Final = ["image_id", "modality", "perceptual_hash", "patient", "split"]


@dataclass(frozen=True, eq=False)
class _Index:
    """What is remembered of each image, in the order of the parts: (N,) each."""

    identity: npt.NDArray[np.uint64]  # hash of image_id
    picture: npt.NDArray[np.uint64]  # perceptual hash
    modality: npt.NDArray[np.int16]  # in the order of their appearance
    patient: npt.NDArray[np.uint64]  # 0 where unknown
    split: npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class _Repeats:
    """Which images go: (N,) place of the earlier one that stays, or -1; and whether they share its id."""

    original: npt.NDArray[np.int64]
    same_id: npt.NDArray[np.bool_]


def finalise(workshop: Workshop, count: int, out: Path, versions: Mapping[str, str]) -> dict[str, Any]:
    """Write ``data/``, ``dropped.jsonl``, ``quarantine.jsonl`` and, last of all, ``manifest.json``.

    Args:
        workshop: of the parts.
        count: how many parts there are.
        out: the folder of the data set; what an interrupted call left there is replaced.
        versions: of the packages that the output depends on.

    Returns:
        The manifest.

    Raises:
        AccountingError: the counts do not add up; no manifest is written.
    """
    data = out / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    index = _read_index(workshop.parts, count)
    repeats = _find_repeats(index, workshop.config.duplicate_bits)
    ledger = Ledger(tuple(reader.info.name for reader in workshop.readers))
    shards = {split: _Shards(data, split, workshop.config.shard_megabytes * 1_000_000) for split in SPLITS}
    dealer = _Dealer(repeats, shards, ledger)
    with (out / "dropped.jsonl").open("wb") as dropped, (out / "quarantine.jsonl").open("wb") as quarantine:
        for number in range(count):
            rows_path, summary = part_paths(workshop.parts, number)[0], _summary(workshop.parts, number)
            ledger.enter(summary)
            quarantine.writelines(map(as_line, summary["quarantined"]))
            dropped.writelines(map(as_line, summary["drops"]))
            with pq.ParquetFile(rows_path) as rows:
                for batch in rows.iter_batches(batch_size=GROUP_ROWS):
                    dropped.writelines(map(as_line, dealer.deal(batch, summary["source"])))
            pa.default_memory_pool().release_unused()  # or the pool grows with the number of parts
    files = [path for split in SPLITS for path in shards[split].close()]
    ledger.check()
    files += [out / "dropped.jsonl", out / "quarantine.jsonl"]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "versions": dict(versions),
        "seed": workshop.config.seed,
        "config": config_mapping(workshop.config),
        "sources": _sources(workshop, ledger),
        "splits": ledger.splits(),
        "patients_in_two_splits": _leaks(index, repeats.original < 0),
        "units_sha256": units_digest(_summary(workshop.parts, n)["digest"] for n in range(count)),
        "files": {path.relative_to(out).as_posix(): _sha256(path) for path in files},
    }
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(out / "manifest.json", f"{text}\n".encode())
    return manifest


def units_digest(block_digests: Iterable[str]) -> str:
    """sha256 of all units, from the digests of their blocks."""
    return hashlib.sha256("".join(block_digests).encode()).hexdigest()


class _Dealer:
    """Sends each row to the shards of its split, or leaves it out as a repetition."""

    def __init__(self, repeats: _Repeats, shards: Mapping[str, _Shards], ledger: Ledger) -> None:
        self._repeats = repeats
        self._shards = shards
        self._ledger = ledger
        self._originals = set(repeats.original[repeats.original >= 0].tolist())
        self._names: dict[int, str] = {}
        self._next = 0

    def deal(self, batch: pa.RecordBatch, source: int) -> Iterator[dict[str, Any]]:
        """Deal out a batch of rows; yields a line for each one that is left out."""
        first, self._next = self._next, self._next + batch.num_rows
        original = self._repeats.original[first : self._next]
        names = batch.column("image_id")
        for place in self._originals.intersection(range(first, self._next)):
            self._names[place] = names[place - first].as_py()
        for row in np.flatnonzero(original >= 0).tolist():
            reason = "repeated id" if self._repeats.same_id[first + row] else "near-duplicate"
            line = image_drop(names[row].as_py(), len(batch.column("regions")[row]), reason)
            self._ledger.accounts[source].drop(line)
            yield {**line, "of": self._names[int(original[row])]}
        for split in SPLITS:
            kept = batch.filter(pc.and_(pa.array(original < 0), pc.equal(batch.column("split"), split)))
            if kept.num_rows:
                self._shards[split].write(kept)
                self._ledger.keep(source, split, kept)


class _Shards:
    """The files of one split; a new one is begun when the last has its size in bytes of pictures."""

    def __init__(self, folder: Path, split: str, size: int) -> None:
        self._folder = folder
        self._split = split
        self._size = size
        self._writer: RowWriter | None = None
        self._paths: list[Path] = []

    def write(self, rows: pa.RecordBatch) -> None:
        if self._writer is None:
            self._paths.append(self._folder / f"{self._split}-{len(self._paths):05d}.tmp")
            self._writer = RowWriter(self._paths[-1])
        self._writer.write(rows)
        if self._writer.size >= self._size:
            self._writer.close()
            self._writer = None

    def close(self) -> list[Path]:
        """Close the last file and give all of them their names."""
        if self._writer is not None:
            self._writer.close()
        count = len(self._paths)
        return [
            path.rename(self._folder / f"{self._split}-{number:05d}-of-{count:05d}.parquet")
            for number, path in enumerate(self._paths)
        ]


def _summary(parts: Path, number: int) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(part_paths(parts, number)[1].read_text(encoding="utf-8"))
    return summary


def _read_index(parts: Path, count: int) -> _Index:
    columns: tuple[list[npt.NDArray[Any]], ...] = tuple([np.empty(0, np.uint64)] for _ in range(5))
    codes: dict[str, int] = {}
    for number in range(count):
        table = pq.read_table(part_paths(parts, number)[0], columns=_KEYS, use_threads=False).to_pydict()
        of_part = (
            [int(stable_hash(name), 16) for name in table["image_id"]],
            [int(digits, 16) for digits in table["perceptual_hash"]],
            [codes.setdefault(code, len(codes)) for code in table["modality"]],
            [int(digits or "0", 16) for digits in table["patient"]],
            [SPLITS.index(name) for name in table["split"]],
        )
        for column, values in zip(columns, of_part, strict=True):
            column.append(np.array(values, dtype=np.uint64))
    identity, picture, modality, patient, split = (np.concatenate(column) for column in columns)
    return _Index(identity, picture, modality.astype(np.int16), patient, split.astype(np.int8))


def _find_repeats(index: _Index, bits: int | None) -> _Repeats:
    places = np.arange(len(index.identity))
    original = first_seen(index.identity, 0)
    same_id = original != places
    if bits is not None:
        for code in np.unique(index.modality):
            members = np.flatnonzero((index.modality == code) & ~same_id)
            original[members] = members[first_seen(index.picture[members], bits)]
    return _Repeats(np.where(original == places, -1, original), same_id)


def _leaks(index: _Index, stays: npt.NDArray[np.bool_]) -> int:
    """Patients with images in two splits: only a source's own splits can bring that about."""
    chosen = stays & (index.patient != 0)
    sides = np.unique(np.stack([index.patient[chosen], index.split[chosen].astype(np.uint64)]), axis=1)
    _, times = np.unique(sides[0], return_counts=True)
    return int((times > 1).sum())


def _sources(workshop: Workshop, ledger: Ledger) -> list[dict[str, Any]]:
    return [
        {**asdict(reader.info), **account.as_mapping()}
        for reader, account in zip(workshop.readers, ledger.accounts, strict=True)
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
