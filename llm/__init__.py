"""Language side of the product: an image, a question and regions become text.

Owns the spatial tokens, the nano vision-language model, its training and the generation interface.
Knows of grounding only its types, boxes, images, base weights and backbone. Importing it loads no heavy
library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .generate import VisionLanguageModel as VisionLanguageModel
    from .types import Answer as Answer
    from .types import Finding as Finding
    from .types import Generation as Generation
    from .types import Report as Report
    from .types import SpatialPrompt as SpatialPrompt
    from .types import Step as Step

_HOME = {"VisionLanguageModel": "generate"} | dict.fromkeys(
    ("Answer", "Finding", "Generation", "Report", "SpatialPrompt", "Step"), "types"
)
__all__ = ["Answer", "Finding", "Generation", "Report", "SpatialPrompt", "Step", "VisionLanguageModel"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
