"""Load on `medglip serve`: no error, each answer about its own image, memory that stops growing.

    python benchmarks/bench_serve.py --models coded --out serve.json
    python benchmarks/bench_serve.py --models nano --out serve.json

Starts the server as a process of its own; clients in threads send pictures that carry a number, many times.
An answer belongs to its image when it names the image's hash and, from toy models, the number. Memory is the
largest resident size of the server seen in each round. Each of the three is stated as pass or miss.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a file

from benchmarks.coded_pictures import QUESTION, coded_picture, data_url, user_message  # noqa: E402
from grounding.types import MedicalImage  # noqa: E402

SIZE: Final = (320, 240)
FOREIGN: Final = "the answer is about another image"
MOST_GROWTH: Final = 0.10
"""How much larger than in the first round the server may become."""


@dataclass(frozen=True)
class Asked:
    """One request: what went wrong ("" = nothing), and its seconds."""

    fault: str
    seconds: float


def ask(address: str, client: int, turn: int, coded: bool) -> Asked:
    """Send one picture that no other client sends, every second time as a stream; check what comes back."""
    code = (client * 7 + turn * 3) % 250 + 1
    size = (SIZE[0] + client, SIZE[1] + turn)
    start = time.perf_counter()
    try:
        text, grounding = _chat(address, coded_picture(code, size), stream=turn % 2 == 1)
    except (OSError, ValueError, KeyError) as error:
        return Asked(f"{type(error).__name__}: {error}", time.perf_counter() - start)
    seconds = time.perf_counter() - start
    image, answered = grounding["image"], grounding["answer"]["text"]
    own = (image["width"], image["height"], image["source_id"]) == (*size, source_id(code, size))
    if not own or text != answered or (coded and not text.startswith(f"left code {code} ")):
        return Asked(FOREIGN, seconds)
    return Asked("", seconds)


def source_id(code: int, size: tuple[int, int]) -> str:
    """Return the hash that the server must name for a coded picture."""
    return MedicalImage.from_array(np.full(size[::-1], code, dtype=np.uint8)).source_id


def _chat(address: str, picture: bytes, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """Return the text and the grounding of one reply."""
    message = user_message(QUESTION, data_url(picture))
    body = json.dumps({"model": "medglip", "messages": [message], "stream": stream}).encode()
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        if not stream:
            whole = json.load(reply)
            return whole["choices"][0]["message"]["content"], whole["grounding"]
        lines = [line[6:] for line in reply.read().decode().splitlines() if line.startswith("data: {")]
    chunks = [json.loads(line) for line in lines]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks), chunks[-1][
        "grounding"
    ]


@contextmanager
def server(models: str, waiting: int) -> Iterator[tuple[str, int]]:
    """Run the server as a process; yields its address and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port), "--models", models, "--waiting", str(waiting)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _until_up(address, process)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server ended with {process.returncode}; run it with --serve to see why")


def serve(port: int, models: str, waiting: int) -> None:
    """Be the server."""
    from benchmarks.coded_pictures import CodedGrounder, CodedVLM
    from medglip_agent.agent import MedGLIPAgent
    from medglip_agent.serve.application import Settings, build_app
    from medglip_agent.serve.lane import LaneLimits
    from medglip_agent.serve.run import run

    coded = models == "coded"
    agent = (
        MedGLIPAgent(CodedGrounder(), CodedVLM()) if coded else MedGLIPAgent.from_pretrained(models, models)
    )
    run(build_app(agent, Settings(lane=LaneLimits(waiting=waiting, wait_s=600))), "127.0.0.1", port)


def measure(models: str, clients: int, requests: int) -> dict[str, Any]:
    """Return faults, seconds and memory of `requests` rounds in which every client asks once."""
    rounds: list[list[Asked]] = []
    memory: list[float] = []
    with server(models, clients) as (address, process), ThreadPoolExecutor(clients) as pool:
        watched = psutil.Process(process)
        for turn in range(requests):
            jobs = [pool.submit(ask, address, client, turn, models == "coded") for client in range(clients)]
            memory.append(_peak_mib(watched, jobs))
            rounds.append([job.result() for job in jobs])
            print(f"round {turn + 1} of {requests}: {memory[-1]:.0f} MiB", file=sys.stderr, flush=True)
    return summary(models, clients, rounds, memory)


def summary(
    models: str, clients: int, rounds: Sequence[Sequence[Asked]], memory: Sequence[float]
) -> dict[str, Any]:
    """Return the figures of all rounds, and for each of the three promises whether they keep it.

    Args:
        models: what was served.
        clients: how many asked at once.
        rounds: the requests of each round.
        memory: the largest resident size of the server in each round, in MiB.
    """
    asked = [one for group in rounds for one in group]
    faults = [one.fault for one in asked if one.fault]
    growth = (max(memory) - memory[0]) / memory[0]
    held = {
        "no error": all(fault == FOREIGN for fault in faults),
        "no cross-talk": FOREIGN not in faults,
        f"memory grows at most {MOST_GROWTH:.0%} after the first round": growth <= MOST_GROWTH,
    }
    seconds = sorted(one.seconds for one in asked)
    return {
        "models": models,
        "clients": clients,
        "requests": len(asked),
        "verdicts": {promise: "pass" if kept else "miss" for promise, kept in held.items()},
        "faults": faults,
        "seconds": {"median": seconds[len(seconds) // 2], "largest": seconds[-1]},
        "memory_mib": [round(size, 1) for size in memory],
        "growth_after_first_round": growth,
    }


def _peak_mib(process: psutil.Process, jobs: Sequence[Future[Asked]]) -> float:
    """Wait for the jobs; return the largest resident size seen meanwhile."""
    peak, waiting = 0, True
    while waiting:
        waiting = bool(wait(jobs, timeout=0.05).not_done)
        peak = max(peak, process.memory_info().rss)
    return peak / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load; exit code 1 where one of the three is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="coded", help="coded (toy models), nano, or a folder")
    parser.add_argument("--clients", type=int, default=20, help="at once (default: 20)")
    parser.add_argument("--requests", type=int, default=10, help="of each client (default: 10)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--serve", type=int, metavar="PORT", help="be the server")
    parser.add_argument("--waiting", type=int, default=20, help="of the server: how many may wait")
    args = parser.parse_args(argv)
    if args.serve is not None:
        serve(args.serve, args.models, args.waiting)
        return 0
    figures = measure(args.models, args.clients, args.requests)
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 1 if "miss" in figures["verdicts"].values() else 0


if __name__ == "__main__":
    raise SystemExit(main())
