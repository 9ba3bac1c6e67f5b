"""A server on a free port around a quick agent whose answer tells which picture it saw."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.types import Generation, SpatialPrompt
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.audit import AuditLog
from medglip_agent.serve.application import Settings, build_app


class ToyGrounder:
    """Finds the left lung in the picture's left upper corner, as large as its first pixel is bright."""

    name, fingerprint = "toy-grounder", "0"

    def __init__(self) -> None:
        config = json.loads(resources.files("grounding").joinpath("checkpoints/nano/config.json").read_text())
        self.ontology = Ontology.load().known_to(config["labels"], config["label_modalities"])

    def set_image(self, image: MedicalImage) -> ToyGrounded:
        return ToyGrounded(image)


class ToyGrounded:
    def __init__(self, image: MedicalImage) -> None:
        self.image = image

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        hits = [index for index, phrase in enumerate(phrases) if phrase == "left lung"]
        side = 1.0 + code_of(self.image) / 8
        return Regions(
            boxes=np.array([[0, 0, side, side]] * len(hits), dtype=np.float32).reshape(-1, 4),
            scores=np.full(len(hits), 0.9, dtype=np.float32),
            phrase_index=np.array(hits, dtype=np.int64),
            asked=tuple(phrases),
            image_size=self.image.size,
        )


class ToyVLM:
    """Says the brightness of the first pixel, slowly when told to; "fail" in a question is a fault of ours."""

    name = "toy-vlm"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def _reply(self, prompt: SpatialPrompt) -> Generation:
        self.asked.append(prompt.text)
        self.gate.wait(10)
        if "fail" in prompt.text:
            raise RuntimeError("SECRET^DETAIL of a fault")
        return Generation(f"left code {code_of(prompt.image)}.", 0.5)

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        return [self._reply(prompt) for prompt in prompts]

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Generator[str, None, Generation]:
        generation = self._reply(prompt)
        for word in generation.text.split():
            yield f" {word}"
        return generation


def code_of(image: MedicalImage) -> int:
    return int(image.pixels[0, 0, 0])


def png(code: int, size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, code).save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def user(text: str, url: str | None = None) -> dict[str, Any]:
    """A user's message as OpenAI's clients write it."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    return {"role": "user", "content": parts + ([{"type": "image_url", "image_url": {"url": url}}] if url else [])}


@pytest.fixture
def vlm() -> Iterator[ToyVLM]:
    made = ToyVLM()
    yield made
    made.gate.set()


@pytest.fixture
def agent(vlm: ToyVLM) -> MedGLIPAgent:
    return MedGLIPAgent(ToyGrounder(), vlm)


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
def start(agent: MedGLIPAgent) -> Iterator[Callable[[Settings], str]]:
    """Serve the agent with settings; returns the address."""
    contexts = []

    def serve(settings: Settings) -> str:
        context = served(build_app(agent, settings))
        contexts.append(context)
        return context.__enter__()

    yield serve
    for context in contexts:
        context.__exit__(None, None, None)
