"""The product: ask a medical image a question, get an answer that points at its evidence.

    from medglip_agent import MedGLIPAgent
    answer = MedGLIPAgent.from_pretrained().ask(image, "Which lung is more opaque?")

Importing this package loads no model and no torch. It only checks that the sibling packages `grounding` and
`llm` are this project's, since other distributions own the same names.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .agent import MedGLIPAgent

__all__ = ["NOTICE", "MedGLIPAgent", "check_siblings"]

NOTICE: Final = "Research use only. Not for diagnosis or any clinical decision."

# A file that only our own package of that name holds.
_MARKERS: Final = (("grounding", "labels.yaml"), ("llm", "data/vqa_rad.py"))


def check_siblings() -> None:
    """Check, without importing them, that `grounding` and `llm` are this project's packages.

    Raises:
        ImportError: one is absent, or another distribution with the same name comes first.
    """
    here = Path(__file__).resolve().parent.parent
    for name, marker in _MARKERS:
        spec = find_spec(name)
        if spec is None:
            raise ImportError(
                f"the package {name!r} of Med-GLIP Agent is not installed; "
                "install the project as a whole: pip install . in its folder"
            )
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        if not any((folder / marker).is_file() for folder in folders):
            found = folders[0] if folders else spec.origin
            raise ImportError(
                f"expected {name!r} to be Med-GLIP Agent's package, got another distribution's at {found}; "
                f"uninstall that one, or put {here} first on PYTHONPATH, or use a fresh virtual environment"
            )


check_siblings()


def __getattr__(name: str) -> Any:
    if name == "MedGLIPAgent":
        from .agent import MedGLIPAgent

        return MedGLIPAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
