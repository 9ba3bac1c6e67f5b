"""Where a checkpoint lies, and the guard against evaluating it on what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import grounding
import llm
from benchmarks.tasks.base import Task
from llm.data.regions import region_writer


def checkpoint_folder(model: str) -> Path | None:
    """The folder of a model: a path, a name shipped in llm/checkpoints, or None for an id of a hub."""
    for folder in (Path(model), Path(str(llm.__file__)).parent / "checkpoints" / model):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    return None


def grounder_folder(name: str) -> Path | None:
    """The folder of a grounder: a path, a name in grounding/checkpoints, or None for an id of a hub."""
    shipped = Path(str(grounding.__file__)).parent / "checkpoints" / name
    return next((folder for folder in (shipped, Path(name)) if folder.is_dir()), None)


def grounder_fingerprint(name: str) -> str | None:
    """sha256 of a grounder's files and calibration, as `Grounder.fingerprint`; None for an id of a hub."""
    from grounding.checkpoint import fingerprint, read_calibration  # loads torch

    folder = grounder_folder(name)
    return None if folder is None else fingerprint(folder, read_calibration(folder))


def check_regions(path: Path, grounder: str) -> None:
    """Refuse regions that `medglip_agent.evidence` wrote with another grounder, or before it changed.

    Regions of no grounder of ours pass, and so do those of an id of a hub, whose files are not here.

    Raises:
        ValueError: the grounder that wrote them is not this one as it is now.
    """
    writer, known = region_writer(path), grounder_fingerprint(grounder)
    if None not in (writer, known) and writer != known:
        raise ValueError(
            f"{path}: expected regions of the grounder {grounder!r} as it is now, got those of another one "
            "or from before its weights or calibration changed; write them again with `python -m "
            "medglip_agent.evidence`, or name their grounder with --grounder"
        )


def recorded_training(folder: Path | None) -> list[str]:
    """The splits a checkpoint was trained on, empty where it does not say.

    `trained_on` in its config.json (a split or a list), else `train_split` in the recipe.json of
    `llm.train`.
    """
    for name, key in (("config.json", "trained_on"), ("recipe.json", "train_split")):
        if folder is not None and (folder / name).is_file():
            value = json.loads((folder / name).read_text(encoding="utf-8")).get(key)
            if value:
                return [value] if isinstance(value, str) else list(value)
    return []


def check_training(folder: Path | None, model: str, task: Task) -> list[str]:
    """What a checkpoint was trained on, refused where that leaks into the task's split.

    Raises:
        ValueError: it was trained on questions of this test.
    """
    trained_on = recorded_training(folder)
    leaking = sorted(task.forbidden_training & set(trained_on))
    if leaking:
        raise ValueError(
            f"{model} was trained on {leaking}, which holds questions of {task.name} {task.split}: a score "
            "would measure memory; evaluate the checkpoint that was trained on this split's own training part"
        )
    return trained_on
