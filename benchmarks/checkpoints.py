"""Where a checkpoint lies, and the guard against evaluating it on what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import grounding
import llm
from benchmarks.tasks.base import Task


def checkpoint_folder(model: str) -> Path | None:
    """The folder of a model: a path, a name shipped in llm/checkpoints, or None for an id of a hub."""
    for folder in (Path(model), Path(str(llm.__file__)).parent / "checkpoints" / model):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    return None


def grounder_folder(name: str) -> Path | None:
    """The folder of a grounder: a path, a name in grounding/checkpoints, or None for an id of a hub."""
    shipped = Path(str(grounding.__file__)).parent / "checkpoints" / name
    return next((folder for folder in (Path(name), shipped) if folder.is_dir()), None)


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
