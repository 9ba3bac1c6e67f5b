"""Visual question answering in the parquet form of the model hub: columns image, question, answer.

Owns the layout ``data/<split>-00000-of-00007-<hash>.parquet`` and writing the images into a folder, each once
and named by its content, so that questions about one picture share a file (the parquet repeats the bytes).
Knows no single data set.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from .reading import Reading, one_line
from .vqa import VQAExample, answer_type_of

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.parquet$")
_COLUMNS = ("image", "question", "answer")


def shard_files(root: Path, split: str, remedy: str) -> list[Path]:
    """The parquet files of a split, in order.

    Raises:
        FileNotFoundError: There is none, or one of their number is absent.
    """
    shards = sorted((root / "data").glob(f"{split}-*.parquet"))
    numbers = [match.groups() for path in shards if (match := _SHARD.search(path.name))]
    wanted = int(numbers[0][1]) if numbers else 0
    if not wanted or [int(number[0]) for number in numbers] != list(range(wanted)):
        raise FileNotFoundError(
            f"{root}: expected data/{split}-00000-of-NNNNN.parquet and all its sisters,"
            f" got {len(numbers)} of {wanted or 'unknown'}; {remedy}"
        )
    return shards


def read_hub_vqa(root: Path, split: str, cache: Path, remedy: str) -> Reading[VQAExample]:
    """Read one split; `qid` is ``<split>-<row number>``, since the parquet numbers no question.

    Args:
        root: Folder of the snapshot, with ``data/``.
        split: As in the file names.
        cache: Folder for the images; files already there are not written again.
        remedy: What to do where files are absent, for the message.

    Raises:
        FileNotFoundError: Files of the split are absent.
        ValueError: A file has other columns, or a row holds no readable image; the row is named.
    """
    examples: list[VQAExample] = []
    dropped: Counter[str] = Counter()
    cache.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(_rows(shard_files(root, split, remedy))):
        qid, question, answer = f"{split}-{number}", one_line(row["question"]), one_line(row["answer"])
        if not question or not answer:
            dropped["no question" if not question else "no answer"] += 1
            continue
        image_path = _write_image((row["image"] or {}).get("bytes"), cache, qid)
        examples.append(VQAExample(qid, image_path, question, answer, answer_type_of(answer)))
    return Reading(tuple(examples), dict(dropped))


def _rows(shards: list[Path]) -> Iterator[dict[str, Any]]:
    """All rows in order, a few in memory."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    for path in shards:
        try:
            with pq.ParquetFile(path) as file:
                if not set(_COLUMNS) <= set(file.schema_arrow.names):
                    raise ValueError(
                        f"{path}: expected the columns {_COLUMNS}, got {file.schema_arrow.names}"
                    )
                for batch in file.iter_batches(batch_size=64, columns=list(_COLUMNS)):
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no whole parquet file ({error}); download it again") from error


def _write_image(data: bytes | None, cache: Path, qid: str) -> Path:
    """Write the bytes as they are, under the name of their hash; a half-written file never has that name."""
    try:
        with Image.open(BytesIO(data or b"")) as picture:
            kind = str(picture.format).lower()
    except Exception as error:  # Pillow raises what its decoders raise
        raise ValueError(f"row {qid} holds no readable image; download the file again") from error
    name = f"{hashlib.sha256(data or b'').hexdigest()[:32]}.{'jpg' if kind == 'jpeg' else kind}"
    path = cache / name
    if not path.is_file():
        partial = cache / f".{name}.{os.getpid()}"
        partial.write_bytes(data or b"")
        partial.replace(path)
    return path
