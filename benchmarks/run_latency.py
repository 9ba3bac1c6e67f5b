"""How long a question takes on this machine, where the time goes, a second start, and the peak memory.

    python benchmarks/run_latency.py --data-dir DATA --out latency.json

Asks one real question about each of 20 images of VQA-RAD (image-disjoint test part) after a warm-up, one at a
time, every image new to the process. Times are wall clock and vary with the machine's load.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llm.data.vqa_rad import VQAExample
    from medglip_agent.agent import MedGLIPAgent

ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final = ("open", "image", "grounding", "generation", "total")
WARM_UP: Final = 2


def time_question(agent: MedGLIPAgent, path: Path, question: str) -> dict[str, float]:
    """Return seconds: reading the file, encoding the image, grounding, generation, and all of it."""
    from grounding.types import MedicalImage

    start = time.perf_counter()
    image = MedicalImage.open(path)
    opened = time.perf_counter() - start
    answer = agent.ask(image, question)
    seconds = {"open": opened, "image": 0.0, "grounding": 0.0, "generation": 0.0}
    for step in answer.steps:
        if step.name in seconds:
            seconds[step.name] += step.seconds
    seconds["total"] = time.perf_counter() - start
    return seconds


def summarise(timings: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return part -> median, smallest and largest seconds over the questions."""
    table: dict[str, dict[str, float]] = {}
    for part in PARTS:
        values = [timing[part] for timing in timings]
        table[part] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return table


def peak_memory_mib() -> float:
    """Return the largest resident size this process has had, in MiB (Linux counts KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if platform.system() == "Darwin" else 1024)


def choose_questions(examples: Sequence[VQAExample], count: int) -> list[VQAExample]:
    """Return the first question of each of the first `count` distinct images.

    Raises:
        ValueError: there are fewer images.
    """
    first = {example.image_path: example for example in reversed(examples)}
    order = list(dict.fromkeys(example.image_path for example in examples))
    if len(order) < count:
        raise ValueError(f"expected {count} images, the split has {len(order)}: lower --images")
    return [first[path] for path in order[:count]]


def time_start(path: Path, question: str, arguments: Sequence[str]) -> dict[str, float]:
    """Answer one question in a fresh process; return its seconds from start to models ready and to answer."""
    command = [sys.executable, str(Path(__file__)), "--probe", str(path), question, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    start = time.time()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    probe = json.loads(done.stdout.splitlines()[-1])
    return {
        "ready": probe["ready_at"] - start,
        "first_answer": probe["answered_at"] - start,
        "peak_memory_mib": probe["peak_memory_mib"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, print a table, write JSON."""
    args = _parser().parse_args(argv)
    if args.gradio:
        import gradio  # noqa: F401  (its memory and start time belong to the app's)
    agent = _load(args)
    if args.probe:
        _probe(agent, *args.probe)
        return 0
    if args.data_dir is None:
        _parser().error("--data-dir is needed: the folder that holds vqa/vqa_rad (or set MEDGLIP_DATA)")

    from llm.data.vqa_rad import read_vqa_rad

    examples = read_vqa_rad(args.data_dir / "vqa" / "vqa_rad", "disjoint-test")
    chosen = choose_questions(examples, args.images + WARM_UP)
    for example in chosen[:WARM_UP]:
        time_question(agent, example.image_path, example.question)
    timings = [time_question(agent, e.image_path, e.question) for e in chosen[WARM_UP:]]
    options = ["--grounder", args.grounder, "--vlm", args.vlm, "--device", args.device]
    options += ["--gradio"] if args.gradio else []
    starts = [time_start(chosen[0].image_path, chosen[0].question, options) for _ in range(2)]
    result = {
        "images": args.images,
        "seconds": summarise(timings),
        "second_start": starts[1],
        "peak_memory_mib": peak_memory_mib(),
        "gradio_loaded": args.gradio,
        "models": agent.models,
        "machine": _machine(),
    }
    print(_table(result))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = os.environ.get("MEDGLIP_DATA")
    parser.add_argument("--data-dir", type=Path, default=Path(default) if default else None)
    parser.add_argument("--images", type=int, default=20, help="images to time (default: 20)")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--grounder", default="nano")
    parser.add_argument("--vlm", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--gradio", action="store_true", help="load gradio too, as the app does")
    parser.add_argument("--probe", nargs=2, metavar=("IMAGE", "QUESTION"), help=argparse.SUPPRESS)
    return parser


def _load(args: argparse.Namespace) -> MedGLIPAgent:
    from medglip_agent.agent import MedGLIPAgent

    return MedGLIPAgent.from_pretrained(args.grounder, args.vlm, args.device)


def _probe(agent: MedGLIPAgent, path: str, question: str) -> None:
    """Say, in a fresh process, when it was ready and when it had answered (seconds since the epoch)."""
    ready = time.time()
    time_question(agent, Path(path), question)
    report = {"ready_at": ready, "answered_at": time.time(), "peak_memory_mib": peak_memory_mib()}
    print(json.dumps(report))


def _machine() -> dict[str, Any]:
    import torch

    return {
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"| part | median s | min s | max s |  ({result['images']} questions)", "|---|---|---|---|"]
    for part, row in result["seconds"].items():
        lines.append(f"| {part} | {row['median']:.2f} | {row['min']:.2f} | {row['max']:.2f} |")
    start = result["second_start"]
    machine = result["machine"]
    lines += [
        f"second start: models ready {start['ready']:.1f} s, first answer {start['first_answer']:.1f} s",
        f"peak memory of the process: {result['peak_memory_mib']:.0f} MiB"
        + (" (gradio loaded)" if result["gradio_loaded"] else ""),
        f"machine: {machine['cpus']} CPUs, {machine['torch_threads']} threads, "
        f"CUDA {machine['cuda'] or 'none'}, load {machine['load_average']:.1f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
