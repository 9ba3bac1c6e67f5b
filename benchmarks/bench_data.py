"""How fast the data engine is, whether its memory stays flat, and whether a killed build goes on.

    python benchmarks/bench_data.py --masks 200000 --out bench_data.json

Writes a seeded data set of small pictures in the layout of SA-Med2D-20M, then builds it: a tenth of it and
all of it with one process, all of it with two workers, and once more with a kill -9 at a random moment, after
which it goes on. All builds of the whole must agree byte for byte. Times are wall clock and vary with the
machine's load; memory is the resident size of the whole process tree, shared pages counted in every process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from PIL import Image

ROOT: Final = Path(__file__).resolve().parent.parent
MASKS_A_PICTURE: Final = 4
SLICES_A_CASE: Final = 20
CLASSES: Final = ("liver", "spleen", "left_kidney", "right_kidney")
INDEX: Final = "SAMed2D_v1.json"
TENTH: Final = "SAMed2D_v1_tenth.json"
PAPER_REGIONS: Final = 5_300_000
POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Run:
    """One measured build.

    Attributes:
        masks: how many it read.
        workers: processes; 1 is the process itself.
        seconds: wall clock, start of Python included.
        second_stage: of these, from the first file of the data set on.
        peak_mb: largest resident size of the process tree, in MB.
    """

    masks: int
    workers: int
    seconds: float
    second_stage: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Masks a second a worker in the first stage."""
        return self.masks / (self.seconds - self.second_stage) / self.workers


def write_dataset(root: Path, masks: int, side: int, seed: int) -> int:
    """Write the data set, picture by picture, and its two indices; returns how many masks it holds."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    classes = {"Toy": {name: number for number, name in enumerate(CLASSES)}}
    (root / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(classes))
    pictures = -(-masks // MASKS_A_PICTURE)
    with (root / INDEX).open("w") as whole, (root / TENTH).open("w") as tenth:
        for number in range(pictures):
            entry = write_picture(root, number, side, seed)
            for file, last in ((whole, pictures), (tenth, max(1, pictures // 10))):
                if number < last:
                    file.write(("{" if number == 0 else ",\n") + entry)
                if number == last - 1:
                    file.write("}")
    return pictures * MASKS_A_PICTURE


def write_picture(root: Path, number: int, side: int, seed: int) -> str:
    """Write a picture of coarse noise and its masks: two ellipses each; returns its line of the index."""
    rng = np.random.default_rng((seed, number))
    case, index = divmod(number, SLICES_A_CASE)
    stem = f"ct_00--Toy--Case_{case:06d}--x_{index:04d}"
    coarse = rng.integers(0, 256, (16, 16), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)).copy()
    rows, columns = np.ogrid[:side, :side]
    names = []
    for class_id in range(MASKS_A_PICTURE):
        mask = np.zeros((side, side), dtype=bool)
        for y, x, high, wide in rng.uniform((0.2, 0.2, 0.06, 0.06), (0.8, 0.8, 0.15, 0.15), (2, 4)) * side:
            mask |= ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1
        pixels[mask] = pixels[mask] // 2 + 40 * class_id
        names.append(f"masks/{stem}--{class_id:04d}_000.png")
        save_png(root / names[-1], mask.astype(np.uint8) * 255)
    save_png(root / f"images/{stem}.png", pixels)
    return f"{json.dumps(f'images/{stem}.png')}: {json.dumps(names)}"


def save_png(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """Encode in memory and write at once."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    path.write_bytes(buffer.getvalue())


def run_build(root: Path, index: str, out: Path, workers: int) -> None:
    """Build the data set: what the measured processes do."""
    from grounding.data.engine.builder import build
    from grounding.data.engine.config import BuildConfig, SourceConfig

    source = SourceConfig("sa_med2d", root, policy="components", options={"index": index})
    build(BuildConfig((source,)), out, workers=workers, progress=False)


def start_build(root: Path, index: str, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start :func:`run_build` in a fresh process."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--build",
        str(root),
        index,
        str(out),
        str(workers),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=ROOT)


def measure(root: Path, index: str, out: Path, workers: int, masks: int) -> Run:
    """Build to the end, watching the clock and the memory.

    Raises:
        RuntimeError: the build failed.
    """
    begun, second_stage, peak = time.perf_counter(), 0.0, 0
    process = start_build(root, index, out, workers)
    while process.poll() is None:
        peak = max(peak, tree_bytes(process.pid))
        if not second_stage and (out / "data").exists():
            second_stage = time.perf_counter()
        time.sleep(POLL_SECONDS)
    ended = time.perf_counter()
    if process.returncode != 0:
        raise RuntimeError(f"the build in {out} ended with {process.returncode}; its message is above")
    return Run(masks, workers, ended - begun, ended - (second_stage or ended), peak / 1e6)


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # ended while it was looked at
    return total


def kill_and_resume(root: Path, out: Path, seconds: float, seed: int) -> float:
    """Kill a build of two workers at a random moment, then let it end; returns the moment in seconds."""
    moment = random.Random(seed).uniform(0.2, 0.8) * seconds
    process = start_build(root, INDEX, out, 2)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.wait()
    if start_build(root, INDEX, out, 2).wait() != 0:
        raise RuntimeError(f"the killed build in {out} did not go on; its message is above")
    return moment


def digest(folder: Path) -> str:
    """sha256 over the names and bytes of all files of a built data set."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        whole.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def project(one: Run, two: Run, cores: int) -> float:
    """Hours for the paper's regions on so many cores.

    Assumes pictures like the benchmark's, disks that keep up, a first stage that scales as from one to two
    workers, and a second stage in one process.
    """
    efficiency = min(1.0, two.rate / one.rate)
    first = PAPER_REGIONS / (one.rate * cores * efficiency)
    second = PAPER_REGIONS * one.second_stage / one.masks
    return (first + second) / 3600


def benchmark(work: Path, masks: int, side: int, seed: int) -> dict[str, Any]:
    """Write, build, kill, compare."""
    root = work / "SAMed2Dv1"
    begun = time.perf_counter()
    masks = write_dataset(root, masks, side, seed)
    written = time.perf_counter() - begun
    tenth = max(1, masks // MASKS_A_PICTURE // 10) * MASKS_A_PICTURE
    small = measure(root, TENTH, work / "small", 1, tenth)
    one = measure(root, INDEX, work / "one", 1, masks)
    two = measure(root, INDEX, work / "two", 2, masks)
    moment = kill_and_resume(root, work / "killed", two.seconds, seed)
    digests = [digest(work / name) for name in ("one", "two", "killed")]
    return {
        "masks": masks,
        "side": side,
        "seed": seed,
        "cores": len(os.sched_getaffinity(0)),
        "writing_seconds": written,
        "runs": {name: asdict(run) for name, run in (("tenth", small), ("one", one), ("two", two))},
        "masks_a_second_a_core": one.rate,
        "memory_growth": one.peak_mb / small.peak_mb - 1,
        "speed_up": (one.seconds - one.second_stage) / (two.seconds - two.second_stage),
        "killed_after_seconds": moment,
        "identical": len(set(digests)) == 1,
        "sha256": digests[0],
        "projected_hours": {str(cores): project(one, two, cores) for cores in (16, 128)},
    }


def table(result: dict[str, Any]) -> str:
    """The result as a markdown table."""
    rows = [
        ("masks, pictures of", f"{result['masks']:,}, {result['side']} px"),
        ("masks a second a core, first stage", f"{result['masks_a_second_a_core']:.0f}"),
        *(
            (
                f"{run['masks']:,} masks, {run['workers']} worker(s)",
                f"{run['seconds']:.1f} s (second stage {run['second_stage']:.1f} s), "
                f"peak {run['peak_mb']:.0f} MB",
            )
            for run in result["runs"].values()
        ),
        ("peak memory, ten times the input", f"{result['memory_growth']:+.1%}"),
        (f"speed-up 1 to 2 workers on {result['cores']} core(s)", f"{result['speed_up']:.2f}"),
        (
            f"killed after {result['killed_after_seconds']:.1f} s, resumed",
            "same bytes" if result["identical"] else "DIFFERENT BYTES",
        ),
        *(
            (f"computed for {PAPER_REGIONS:,} regions on {cores} cores", f"{hours:.2f} h")
            for cores, hours in result["projected_hours"].items()
        ),
    ]
    return "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, default=200_000, help="about how many masks to write")
    parser.add_argument("--side", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and of the moment of the kill")
    parser.add_argument(
        "--work", type=Path, help="folder for the data, emptied afterwards; default: temporary"
    )
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    parser.add_argument("--build", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.build:
        root, index, out, workers = given.build
        run_build(Path(root), index, Path(out), int(workers))
        return
    work = Path(tempfile.mkdtemp(prefix="bench_data_", dir=given.work))
    try:
        result = benchmark(work, given.masks, given.side, given.seed)
    finally:
        shutil.rmtree(work)
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    if not result["identical"]:
        sys.exit("the builds differ; see DIFFERENT BYTES above")


if __name__ == "__main__":
    main()
