"""Which images of a test also occur in training: the same pixels, or pictures that look alike.

    python -m benchmarks.contamination --task vqa_rad --split official-test --data-dir DATA
    python -m benchmarks.contamination --train SET/train.json --test SET/val.json
    python -m benchmarks.contamination --train FOLDER FOLDER --test FOLDER --out shared.json

The first takes a benchmark's own training part; the others take folders, or COCO files with `images/` beside
them. Exit code 0 where nothing is shared, 1 where something is. A picture saved again differs in 0 to 2 of
the 64 bits of its perceptual hash; pictures of two patients in one pose may come near, so look at what is
listed. The list names files: keep it as the data is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.run_config import RunConfig
from benchmarks.run_report import REPORT_TASKS
from benchmarks.run_vqa import VQA_TASKS, open_task
from benchmarks.runner import exit_code
from benchmarks.tasks.base import Task
from grounding.data.engine.perceptual_hash import perceptual_hash
from grounding.types import MedicalImage

BITS = 2
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm"}


@dataclass(frozen=True)
class Shared:
    """A test image and a training image that are one.

    Attributes:
        test: file.
        train: file.
        bits: of 64 in which the perceptual hashes differ.
        same_pixels: whether they are equal pixel by pixel, whatever the files.
    """

    test: str
    train: str
    bits: int
    same_pixels: bool


@dataclass(frozen=True, eq=False)
class Hashed:
    """N images with their hashes.

    Attributes:
        paths: files.
        pixels: sha256 of size and RGB pixels, N of them.
        looks: perceptual hashes, uint64 (N,).
    """

    paths: tuple[Path, ...]
    pixels: tuple[str, ...]
    looks: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Hashed:
        """Read and hash files; each once."""
        kept = tuple(dict.fromkeys(paths))
        found = [_hashes(path) for path in kept]
        return cls(kept, tuple(p for p, _ in found), np.array([k for _, k in found], dtype=np.uint64))


def _hashes(path: Path) -> tuple[str, int]:
    """The exact and the perceptual hash of an image as models see it."""
    pixels = MedicalImage.open(path).pixels
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=0)
    exact = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return exact, perceptual_hash(encoded.getvalue())


def shared_images(test: Hashed, train: Hashed, *, bits: int = BITS) -> list[Shared]:
    """Every test image with the training image most like it, where that is the same or alike.

    Args:
        test: images of the test.
        train: images of the training.
        bits: greatest distance of perceptual hashes that counts as alike.
    """
    first = {pixels: k for k, pixels in reversed(list(enumerate(train.pixels)))}
    found = []
    for path, pixels, look in zip(test.paths, test.pixels, test.looks, strict=True):
        if pixels in first:
            found.append(Shared(str(path), str(train.paths[first[pixels]]), 0, same_pixels=True))
        elif len(train.paths):
            distances = np.bitwise_count(train.looks ^ look)
            nearest = int(np.argmin(distances))
            if distances[nearest] <= bits:
                found.append(Shared(str(path), str(train.paths[nearest]), int(distances[nearest]), False))
    return found


def image_files(source: Path) -> Iterator[Path]:
    """The images of a folder, below it too, or of a COCO file with `images/` beside it.

    Raises:
        FileNotFoundError: there is no image.
    """
    if source.is_file():
        folder = source.parent / "images"
        found = [folder / each["file_name"] for each in json.loads(source.read_text("utf-8"))["images"]]
    else:
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"{source}: expected a folder with images or a COCO file, found no image")
    yield from found


def main(argv: Sequence[str] | None = None) -> int:
    """List what is shared; returns 1 where anything is."""
    args = _parse(argv)
    if args.task:
        task = _task(args)
        test, train = ([s.image_path for s in part] for part in (task.samples(), task.train_samples()))
    else:
        test, train = (
            [p for source in part for p in image_files(source)] for part in (args.test, args.train)
        )
    hashed = Hashed.of(test), Hashed.of(train)
    found = shared_images(*hashed, bits=args.bits)
    print(report(found, *hashed))
    if args.out is not None:
        figures: dict[str, Any] = {
            "test_images": len(hashed[0].paths),
            "train_images": len(hashed[1].paths),
            "bits": args.bits,
            "shared": [asdict(each) for each in found],
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return 1 if found else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Images of a test that training has too.")
    tasks = [*VQA_TASKS, "boxes", *REPORT_TASKS]
    parser.add_argument("--task", choices=tasks, help="a benchmark against its own training part")
    parser.add_argument("--split", default="", help="of the task; default: its first")
    parser.add_argument("--data-dir", type=Path, help="data folder of the task")
    parser.add_argument("--train", nargs="+", type=Path, default=[], help="folders or COCO files")
    parser.add_argument("--test", nargs="+", type=Path, default=[], help="folders or COCO files")
    parser.add_argument("--bits", type=int, default=BITS, help="perceptual hashes this near count as alike")
    parser.add_argument("--out", type=Path, help="JSON file for the list")
    args = parser.parse_args(argv)
    if bool(args.task) == bool(args.train and args.test) or (args.task and args.data_dir is None):
        parser.error("give --task with --data-dir, or --train with --test")
    return args


def _task(args: argparse.Namespace) -> Task:
    if args.task in REPORT_TASKS:
        kind = REPORT_TASKS[args.task]
        return kind(args.data_dir, args.split or kind.splits[0])
    return open_task(RunConfig(data_dir=args.data_dir, out=args.data_dir, task=args.task, split=args.split))


def report(found: Sequence[Shared], test: Hashed, train: Hashed) -> str:
    """Counts, and a line an image."""
    same = sum(each.same_pixels for each in found)
    lines = [
        f"{len(test.paths)} test images against {len(train.paths)} training images: {same} with the same "
        f"pixels, {len(found) - same} more that look alike"
    ]
    lines += [
        f"{each.test} = {each.train} ({'same pixels' if each.same_pixels else f'{each.bits} of 64 bits'})"
        for each in found
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(exit_code(main))
