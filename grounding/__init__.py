"""Grounding: a medical image and phrases in, regions of the image out.

Names load on first use (PEP 562), so `import grounding` and `import grounding.types` load neither torch nor
pydicom.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .images import open_source
    from .predictor import Grounder
    from .types import GroundedRegion, MedicalImage, PixelSpacing, Regions, Window

__all__ = [
    "GroundedRegion",
    "Grounder",
    "MedicalImage",
    "PixelSpacing",
    "Regions",
    "Window",
    "open_source",
]

_HOME = {"Grounder": ".predictor", "open_source": ".images"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME.get(name, ".types"), __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
