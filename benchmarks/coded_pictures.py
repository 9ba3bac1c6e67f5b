"""Pictures that carry a number, and toy models that read it back: whose answer is it, when many ask at once?

The number is the brightness of the first pixel. The toy grounder finds a left lung whose size tells it, the
toy language model says it. Quick, no weights.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Generator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np
from PIL import Image

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.confidence import Certainty
from llm.types import Generation, SpatialPrompt

QUESTION: Final = "Is the left lung normal?"


class CodedGrounder:
    """Finds the left lung in the left upper corner, 1 + code / 8 pixels wide and high."""

    name, fingerprint, calibration = "coded-grounder", "0", None

    def __init__(self) -> None:
        """Know the labels of the packaged checkpoint."""
        config = json.loads(resources.files("grounding").joinpath("checkpoints/nano/config.json").read_text())
        self.ontology = Ontology.load().known_to(config["labels"], config["label_modalities"])

    def set_image(self, image: MedicalImage) -> CodedImage:
        """Keep the picture."""
        return CodedImage(image)


class CodedImage:
    """One picture of `CodedGrounder`."""

    def __init__(self, image: MedicalImage) -> None:
        """Keep the picture."""
        self._image = image

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return one box for each "left lung" among `phrases`, xyxy in pixels of the image."""
        hits = [index for index, phrase in enumerate(phrases) if phrase == "left lung"]
        side = 1.0 + code_of(self._image) / 8
        return Regions(
            boxes=np.array([[0, 0, side, side]] * len(hits), dtype=np.float32).reshape(-1, 4),
            scores=np.full(len(hits), 0.9, dtype=np.float32),
            phrase_index=np.array(hits, dtype=np.int64),
            asked=tuple(phrases),
            image_size=self._image.size,
        )

    def modality_probabilities(self) -> Mapping[tuple[str, ...], float]:
        """Tell nothing."""
        return {}


class CodedVLM:
    """Says "left code N."."""

    name, certainty = "coded-vlm", Certainty()

    def reply(self, prompt: SpatialPrompt) -> Generation:
        """Return the reply to one prompt."""
        return Generation(f"left code {code_of(prompt.image)}.", 0.5)

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Reply to each prompt."""
        return [self.reply(prompt) for prompt in prompts]

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Generator[str, None, Generation]:
        """Yield the reply word by word."""
        generation = self.reply(prompt)
        for word in generation.text.split():
            yield f" {word}"
        return generation


def code_of(image: MedicalImage) -> int:
    """Return the number that a picture carries."""
    return int(image.pixels[0, 0, 0])


def coded_picture(code: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """Return a PNG of `size` (width, height) that carries `code`, 0 to 255, in every pixel."""
    out = io.BytesIO()
    Image.new("L", size, code).save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """Return a file as OpenAI's clients send it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def user_message(text: str, url: str | None = None) -> dict[str, Any]:
    """Return a user's message as OpenAI's clients write it, with the image at `url`."""
    image = [{"type": "image_url", "image_url": {"url": url}}] if url else []
    return {"role": "user", "content": [{"type": "text", "text": text}, *image]}
