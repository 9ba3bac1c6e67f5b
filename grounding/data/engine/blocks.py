"""The first stage of a build: a block of units becomes one part on disk, wherever that is computed.

A part is ``part-00000.parquet`` (native rows) and, written after it, ``part-00000.json`` (what was counted,
quarantined and dropped). It depends on its block and the configuration alone. Owns parts and the settings of
the parquet writer. Knows neither the order in which blocks are computed nor on which machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...ontology import Ontology
from ..records import Reader, Unit, UnitError
from ..schema import SCHEMA
from .accounts import image_drop
from .config import BuildConfig
from .rows import Labels, Outcome, Row, RowMaker

GROUP_ROWS: Final = 128
GROUP_BYTES: Final = 32_000_000
"""A row group is closed at so many rows or bytes of pictures."""

_IMAGE_FEATURE: Final = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
NATIVE_SCHEMA: Final = SCHEMA.with_metadata({"huggingface": _IMAGE_FEATURE})
"""The native schema with the note from which `datasets` knows that ``image`` is a picture."""


@dataclass(frozen=True)
class Block:
    """Units of one source that are computed together: number of the part, place of the source, the units."""

    number: int
    source: int
    units: tuple[Unit, ...]

    @property
    def digest(self) -> str:
        """sha256 of what the units say of themselves."""
        content = [self.source, [[unit.key, unit.payload] for unit in self.units]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Workshop:
    """What every worker needs, small enough to travel with each block.

    Attributes:
        config: the whole configuration.
        readers: of its sources, in their order.
        parts: folder of the parts; on a cluster, one that all machines see.
    """

    config: BuildConfig
    readers: tuple[Reader, ...]
    parts: Path


@dataclass
class Tally:
    """What one block counted; `drops` and `quarantined` are lines for the logs."""

    counts: Counter[str] = field(default_factory=Counter)
    drops: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count the images of a unit that was read to its end."""
        self.counts["units_read"] += 1
        for outcome in outcomes:
            self.counts["images"] += 1
            self.counts["annotations"] += outcome.annotations
            self.counts["parts"] += outcome.parts
            self.counts["merged"] += outcome.merged
            self.counts["clipped"] += outcome.clipped
            for drop in outcome.drops:
                line = {"image": outcome.image_id, "region": drop.source_index, "label": drop.label}
                self.drops.append({**line, "reason": drop.reason})
            if outcome.row is None:
                self.drops.append(image_drop(outcome.image_id, outcome.annotations, "thinned slice"))


def cut_blocks(config: BuildConfig, readers: Sequence[Reader]) -> Iterator[Block]:
    """All units of all sources in blocks, listed as they are asked for."""
    number = 0
    for place, (source, reader) in enumerate(zip(config.sources, readers, strict=True)):
        units = iter(reader.units())
        while taken := tuple(islice(units, source.block_units)):
            yield Block(number, place, taken)
            number += 1


def part_paths(parts: Path, number: int) -> tuple[Path, Path]:
    """The parquet and the json of a part."""
    return parts / f"part-{number:05d}.parquet", parts / f"part-{number:05d}.json"


def is_done(parts: Path, block: Block) -> bool:
    """Whether the part of this very block is there, whole."""
    rows, summary = part_paths(parts, block.number)
    if not (rows.is_file() and summary.is_file()):
        return False
    return bool(json.loads(summary.read_text(encoding="utf-8"))["digest"] == block.digest)


def build_block(workshop: Workshop, block: Block, ontology: Labels | None = None) -> Counter[str]:
    """Compute a block and write its part; returns the counts alone, so that nothing large travels back.

    Raises:
        MemoryError: the unit is named in a note.
    """
    reader, config = workshop.readers[block.source], workshop.config
    labels: Labels = ontology or Ontology.load()
    maker = RowMaker(config.sources[block.source], reader.info, config, labels)
    root = str(config.sources[block.source].path)
    tally = Tally(Counter(units=len(block.units)))
    rows_path, summary_path = part_paths(workshop.parts, block.number)
    scratch = rows_path.with_suffix(f".{os.getpid()}.tmp")
    with RowWriter(scratch) as writer:
        for unit in block.units:
            try:
                outcomes = [maker.make(image) for image in reader.read(unit)]
                batch = as_batch([outcome.row for outcome in outcomes if outcome.row is not None])
            except MemoryError as error:
                error.add_note(f"while reading unit {unit.key!r} of {reader.info.name!r}")
                raise
            except Exception as error:  # a fault of a file or of a reader costs its unit, never the build
                line = {"source": reader.info.name, "unit": unit.key, "reason": _reason(error, root)}
                tally.quarantined.append(line)
                continue
            tally.add(outcomes)
            writer.write(batch)
    tally.counts["units_quarantined"] = len(tally.quarantined)
    summary = {"digest": block.digest, "source": block.source, "counts": dict(sorted(tally.counts.items()))}
    settle(scratch, rows_path)
    write_atomically(
        summary_path, as_line({**summary, "quarantined": tally.quarantined, "drops": tally.drops})
    )
    return tally.counts


def _reason(error: Exception, root: str) -> str:
    """What the log says of a fault: the same on every machine, so places are told relative to the source."""
    text = str(error) if isinstance(error, UnitError) else f"{type(error).__name__}: {error}"
    text = re.sub(r" at 0x[0-9A-Fa-f]+", "", text)  # where an object lay in memory
    return text.replace(f"{root}{os.sep}", "").replace(root, ".")


def as_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as arrow has them.

    Raises:
        pa.ArrowException: a value does not fit its column.
        UnicodeEncodeError: a text that UTF-8 cannot hold.
    """
    return pa.RecordBatch.from_struct_array(pa.array(rows, type=_ROW))


class RowWriter:
    """Native rows to one parquet file, whose bytes depend on the rows and their order alone."""

    def __init__(self, path: Path) -> None:
        """Begin the file at `path`."""
        self._writer = pq.ParquetWriter(
            path,
            NATIVE_SCHEMA,
            compression=_COMPRESSION,
            compression_level={column: 1 for column, codec in _COMPRESSION.items() if codec == "ZSTD"},
            use_dictionary=_DICTIONARY,
            write_statistics=False,
        )
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self.size = 0  # bytes of pictures in the file

    def __enter__(self) -> RowWriter:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        for start in range(0, batch.num_rows, GROUP_ROWS):
            piece = batch.slice(start, GROUP_ROWS)
            self._waiting.append(piece)
            self._rows += piece.num_rows
            self._bytes += picture_bytes(piece)
            if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        """Write what waits, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._waiting).combine_chunks()
            self._writer.write_table(table, row_group_size=self._rows)
        self.size += self._bytes
        self._waiting, self._rows, self._bytes = [], 0, 0


def picture_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of the encoded pictures."""
    return pc.sum(pc.binary_length(batch.column("image").field("bytes"))).as_py() or 0


def _leaves(kind: pa.DataType, path: str) -> Iterator[str]:
    """Parquet's names of the columns below a field."""
    if pa.types.is_struct(kind):
        for item in kind:
            yield from _leaves(item.type, f"{path}.{item.name}")
    elif pa.types.is_list(kind):
        yield from _leaves(kind.value_type, f"{path}.list.element")
    else:
        yield path


_ROW: Final = pa.struct(list(SCHEMA))
_COLUMNS: Final = tuple(leaf for item in SCHEMA for leaf in _leaves(item.type, item.name))
_COMPRESSION: Final = {name: "NONE" if name == "image.bytes" else "ZSTD" for name in _COLUMNS}
_DICTIONARY: Final = [name for name in _COLUMNS if name not in ("image.bytes", "image_id", "file_name")]


def as_line(value: Any) -> bytes:
    """JSON on one line, keys sorted."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whenever the process is killed."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    settle(scratch, path)


def settle(scratch: Path, path: Path) -> None:
    """Give a finished file its name, once it is on the disk."""
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
