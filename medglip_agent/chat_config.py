"""Which chat model answers, and within what limits: a dataclass that a YAML file fills.

    model: langchain_ollama:ChatOllama      # pip install langchain-ollama
    arguments: {model: qwen3:8b, temperature: 0}
    max_steps: 8

The class comes from the user's own packages; nothing here depends on one. Keys belong into the environment,
where those packages look for them, not into the file.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from grounding.config import load_config


@dataclass(frozen=True)
class ChatModelConfig:
    """A chat model with tool calling.

    Attributes:
        model: "module:Class" of a LangChain chat model, such as langchain_openai:ChatOpenAI.
        arguments: keywords of the class; a server is named here (base_url).
        max_steps: how often the model may speak for one question, its answer included; at least 1.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int = 8

    def __post_init__(self) -> None:
        """Check what can be checked without importing anything."""
        module, _, name = self.model.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), name]):
            raise ValueError(
                f"model: expected 'module:Class' such as langchain_ollama:ChatOllama, got {self.model!r}"
            )
        if self.max_steps < 1:
            raise ValueError(f"max_steps: expected at least 1, got {self.max_steps}")


def read_chat_config(path: Path) -> ChatModelConfig:
    """Read the YAML form.

    Raises:
        ValueError: a field is unknown, missing or wrong; the message names it.
    """
    return load_config(ChatModelConfig, path)


def load_chat_model(config: ChatModelConfig) -> BaseChatModel:
    """Import and make the chat model that `config` names.

    Raises:
        ImportError: its package is not installed, or has no such class.
        TypeError: the class is no LangChain chat model.
    """
    module_name, _, class_name = config.model.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        package = (error.name or module_name).partition(".")[0].replace("_", "-")
        raise ImportError(
            f"{config.model}: the module {error.name!r} is not installed; pip install {package}"
        ) from error
    if found is None:
        raise ImportError(f"{config.model}: {module_name} has no {class_name}; see its documentation")
    if not (isinstance(found, type) and issubclass(found, BaseChatModel)):
        raise TypeError(f"{config.model}: expected a class of LangChain chat models, got {found!r}")
    model: BaseChatModel = found(**config.arguments)
    return model
