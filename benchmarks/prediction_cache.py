"""Answers kept between runs, under a key of everything that decides them.

The key holds the image's bytes, the prompt, the model with its weights and adapter, how text is generated and
the regions; so no run can get another model's answer. What it leaves out is the batch: an answer found here
may have been generated beside other prompts, which changes its last bits in half precision.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from grounding.types import Regions

Answer = tuple[str, float | None]


class PredictionCache:
    """A folder of small JSON files named by their keys; several processes may use it at once."""

    def __init__(self, folder: Path | None, model: Mapping[str, Any]) -> None:
        """Remember where and for which model.

        Args:
            folder: None keeps nothing.
            model: all that decides an answer beside sample and regions: weights, adapter, generation.
        """
        self.folder = folder
        self.model = dict(model)
        self._image = lru_cache(maxsize=4096)(lambda path: hashlib.sha256(path.read_bytes()).hexdigest())

    def key(self, image_path: Path, prompt: str, regions: Regions | None) -> str:
        """The key of an answer, 64 hexadecimal digits."""
        content = {
            "image": self._image(image_path),
            "prompt": prompt,
            "model": self.model,
            "regions": None if regions is None else regions.to_dict(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """The answer under a key, or None."""
        if self.folder is None:
            return None
        try:
            text, confidence = json.loads(self._path(key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return text, confidence

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; the file appears whole or not at all."""
        if self.folder is not None:
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(answer), encoding="utf-8")
            partial.replace(path)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.json"
