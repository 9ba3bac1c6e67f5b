"""A server that is killed while it answers: its audit log holds every answer that went out, and goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.coded_pictures import QUESTION, coded_picture, data_url, user_message
from medglip_agent.audit import verify

ROOT = Path(__file__).resolve().parents[3]
# `medglip` itself, with toy models in the place of real ones.
COMMAND = """
import sys
from benchmarks.coded_pictures import CodedGrounder, CodedVLM
from medglip_agent import cli
from medglip_agent.agent import MedGLIPAgent
MedGLIPAgent.from_pretrained = staticmethod(lambda *_, **__: MedGLIPAgent(CodedGrounder(), CodedVLM()))
sys.exit(cli.main(sys.argv[1:]))
"""


@contextmanager
def server(audit: Path, temporary: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `medglip serve --audit` as a process; yields its address and the process; kills it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", COMMAND, "serve", "--port", str(port), "--audit", str(audit)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except OSError:
                time.sleep(0.05)
        yield address, process
    finally:
        process.kill()
        process.wait()


def ask(address: str, code: int) -> dict[str, Any]:
    """Return the grounding of one answer."""
    body = {"model": "medglip", "messages": [user_message(QUESTION, data_url(coded_picture(code)))]}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        grounding: dict[str, Any] = json.load(reply)["grounding"]
        return grounding


def test_kill_9_and_restart_leave_the_audit_log_intact(tmp_path: Path) -> None:
    audit, temporary = tmp_path / "audit.jsonl", tmp_path / "temporary"
    temporary.mkdir()
    answered: list[str] = []

    def client(address: str, number: int) -> None:
        for code in range(number, 250, 4):
            try:
                answered.append(ask(address, code)["image"]["source_id"])
            except (OSError, ValueError):  # the server is gone
                return

    with server(audit, temporary) as (address, process):
        clients = [threading.Thread(target=client, args=(address, number)) for number in range(4)]
        for thread in clients:
            thread.start()
        while len(answered) < 12:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        for thread in clients:
            thread.join()
        assert 12 <= len(answered) < 249  # killed at work

    with server(audit, temporary) as (address, _):
        assert not list(temporary.iterdir())  # no upload is left of the killed one
        last = ask(address, 251)["image"]["source_id"]
        chain = verify(audit)
        lines = [json.loads(line) for line in audit.read_text().splitlines()]
        logged = [line["image_sha256"] for line in lines if line["event"] == "answer"]
        assert chain.count == len(lines) and logged[-1] == last
        assert set(answered) <= set(logged)
