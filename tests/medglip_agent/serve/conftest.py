"""A server on a free port around a quick agent whose answer tells which picture it saw."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from benchmarks.coded_pictures import CodedGrounder, CodedVLM
from llm.types import Generation, SpatialPrompt
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.audit import AuditLog
from medglip_agent.serve.application import Settings, build_app


class ToyVLM(CodedVLM):
    """Waits while its gate is shut; "fail" in a question is a fault of ours."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def reply(self, prompt: SpatialPrompt) -> Generation:
        self.asked.append(prompt.text)
        self.gate.wait(10)
        if "fail" in prompt.text:
            raise RuntimeError("SECRET^DETAIL of a fault")
        return super().reply(prompt)


@pytest.fixture
def vlm() -> Iterator[ToyVLM]:
    made = ToyVLM()
    yield made
    made.gate.set()


@pytest.fixture
def agent(vlm: ToyVLM) -> MedGLIPAgent:
    return MedGLIPAgent(CodedGrounder(), vlm)


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of this machine; yields its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        )
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve an ASGI application until the test ends; returns its address."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture
def start(agent: MedGLIPAgent, serve: Callable[[Any], str]) -> Callable[[Settings], str]:
    """Serve the agent's chat interface with settings; returns its address."""
    return lambda settings: serve(build_app(agent, settings))
