"""Who made it: the software's version, and the models by name and by the sha256 of their weight files.

Knows where checkpoints lie, and loads none. The hashes are those of the files at the time of the export, as
`sha256sum` prints them; the base weights under a nano checkpoint are pinned by the software's version.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

import grounding
import llm

from ..protocols import GrounderLike, SegmenterLike, VisionLanguageModelLike

SOFTWARE: Final = "Med-GLIP Agent"
_DISTRIBUTION: Final = "med-glip-agent"
_PACKAGED: Final = {
    role: Path(package.__file__ or "").parent / "checkpoints"
    for role, package in (("grounder", grounding), ("vlm", llm))
}
_SHORT: Final = 12  # hexadecimal digits of a hash in a line for people


class HasModels(Protocol):
    """What is needed of an agent."""

    @property
    def grounder(self) -> GrounderLike:
        """Finds regions."""
        ...

    @property
    def vlm(self) -> VisionLanguageModelLike | None:
        """Answers questions; None for grounding only."""
        ...

    @property
    def segmenter(self) -> SegmenterLike | None:
        """Draws masks; None for boxes only."""
        ...

    @property
    def models(self) -> dict[str, str]:
        """Role -> name of all models, a chat model's too."""
        ...


@dataclass(frozen=True)
class Model:
    """A model that took part.

    Attributes:
        role: "grounder", "vlm", "segmenter" or "chat".
        name: its name; of a folder only the last part.
        weights: weight file -> sha256 in hexadecimal; empty where the files are not on this machine.
        calibrated: whether its scores or confidences are probabilities; if not, they only rank.
    """

    role: str
    name: str
    weights: Mapping[str, str] = field(default_factory=dict)
    calibrated: bool = False


def software_version() -> str:
    """Return the installed version of this project."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "not installed"


def models_of(agent: HasModels) -> tuple[Model, ...]:
    """Return the models of an agent with the hashes of their weight files."""
    grounder, vlm, segmenter = agent.grounder, agent.vlm, agent.segmenter
    models = [model_of("grounder", grounder.name, calibrated=grounder.calibration is not None)]
    if vlm is not None:
        models.append(model_of("vlm", vlm.name, calibrated=vlm.certainty.calibration is not None))
    if segmenter is not None:
        models.append(model_of("segmenter", segmenter.name))
    seen = {model.role for model in models}
    return (*models, *(Model(role, name) for role, name in agent.models.items() if role not in seen))


def model_of(role: str, name: str, *, calibrated: bool = False) -> Model:
    """Return a loaded model with the hashes of its weight files.

    Args:
        role: "grounder", "vlm" or "segmenter".
        name: what it was loaded by: a packaged name, a folder or a hub id.
        calibrated: see `Model`.
    """
    folder = _folder(role, name)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    weights = {file.name: _sha256(file, file.stat().st_mtime_ns) for file in files}
    return Model(role, Path(name).name, weights, calibrated)


def provenance_line(models: tuple[Model, ...]) -> str:
    """Return software, version and models in one line, hashes shortened."""
    return " · ".join([f"{SOFTWARE} {software_version()}", *map(model_line, models)])


def model_line(model: Model, digits: int = _SHORT) -> str:
    """Return role, name, the first `digits` of each weight file's hash, and whether it is calibrated."""
    files = ", ".join(f"{file} sha256 {digest[:digits]}" for file, digest in model.weights.items())
    known = [files or "weights unknown", *(["calibrated"] if model.calibrated else [])]
    return f"{model.role} {model.name} ({', '.join(known)})"


def _folder(role: str, name: str) -> Path | None:
    """Where the checkpoint lies, looked for as the loaders do: packaged, a folder, the hub's local copy."""
    packaged = [_PACKAGED[role] / name] if role in _PACKAGED else []
    for folder in (*packaged, Path(name)):
        if folder.is_dir():
            return folder
    if name.count("/") != 1:
        return None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # no local copy
        return None


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, changed_ns: int) -> str:
    """The hash of a file; `changed_ns` makes a changed file another one for the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
