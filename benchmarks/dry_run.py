"""What a run would do: samples, batches, what is done already, and a rough need of memory. Runs nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import checkpoint_folder
from benchmarks.models import loaded_dtype, model_config
from benchmarks.predictions import Predictions
from benchmarks.run_config import BASELINES_ONLY, RunConfig
from benchmarks.tasks.base import Sample, Task

_CHARACTERS_OF_A_TOKEN = 4
_PROMPT_TOKENS = 600  # image, regions and chat template, in round numbers
_BITS = {"8bit": 8, "4bit": 4}


def dry_run(task: Task, samples: Sequence[Sample], config: RunConfig) -> str:
    """Some lines of text."""
    conditions = list(config.boxes) if config.model != BASELINES_ONLY else []
    predictions = Predictions(config.out)
    lines = [
        f"{task.name} {task.split}: {len(samples)} samples of {len({s.image_path for s in samples})} images "
        f"in {len({s.cluster for s in samples})} clusters ({task.cluster})",
        f"dropped when read: {_counts(task.dropped()) or 'none'}",
    ]
    for name in samples[0].groups:
        values = Counter(value for sample in samples for value in sample.groups[name])
        lines.append(f"{name}: {_counts(values)}")
    for condition in conditions:
        done = sum((s.sample_id, condition) in predictions.rows for s in samples)
        n_batches = math.ceil(len(samples) / config.batch_size)
        lines.append(f"boxes={condition}: {n_batches} batches of {config.batch_size}, {done} samples done")
    absent = sum(not sample.image_path.is_file() for sample in samples)
    lines += [f"image files absent: {absent}"] if absent else []
    if conditions:
        lines.append(memory(task, samples, config))
    return "\n".join(lines)


def memory(task: Task, samples: Sequence[Sample], config: RunConfig) -> str:
    """Weights and the attention cache of one batch, where the checkpoint is on this machine."""
    model = model_config(config)
    folder = checkpoint_folder(model.model)
    if model.server is not None or folder is None:
        where = "on a server" if model.server else "not on this machine"
        return f"memory: no estimate, the model is {where}"
    settings = json.loads(_config_file(folder).read_text(encoding="utf-8"))
    full = 32 if loaded_dtype(model, folder) in ("float32", "mixed") else 16  # mixed at its peak, in loading
    parts = [folder, *_base_folders(settings), *([Path(model.adapter)] if model.adapter else [])]
    parameters = sum(sum(_sizes(path)) for part in parts for path in sorted(part.glob("*.safetensors")))
    weights = parameters * _BITS.get(model.quantization, full) / 8
    tokens = max(len(s.prompt) for s in samples) // _CHARACTERS_OF_A_TOKEN + _PROMPT_TOKENS
    tokens += config.max_new_tokens or task.max_new_tokens
    kept = config.batch_size * tokens * _cache_of_a_token(settings.get("text_config", settings)) * full / 8
    return (
        f"memory: about {(weights + kept) / 1e9:.1f} GB: {weights / 1e9:.2f} GB for {parameters / 1e6:.0f} M "
        f"weights, {kept / 1e9:.2f} GB to attend to {config.batch_size} x {tokens} tokens; activations beside"
    )


def _cache_of_a_token(text: dict[str, Any]) -> int:
    """Numbers that attention keeps of each token; 0 where the configuration does not say."""
    heads = text.get("num_attention_heads", 0)
    size = text.get("head_dim") or (text.get("hidden_size", 0) // heads if heads else 0)
    return int(2 * text.get("num_hidden_layers", 0) * (text.get("num_key_value_heads") or heads) * size)


def _config_file(folder: Path) -> Path:
    return next(folder / n for n in ("config.json", "adapter_config.json") if (folder / n).is_file())


def _base_folders(settings: dict[str, Any]) -> Iterator[Path]:
    """Folders of the base weights that a nano checkpoint names."""
    from grounding.base_weights import cache_dir
    from llm.nano.checkpoint import GROUNDER

    for name in ("base_language_model", "base_vision_tower"):
        if name in settings and not settings[name].startswith(GROUNDER):  # whose backbone is small
            folder = Path(settings[name])
            yield folder if folder.is_dir() else cache_dir() / settings[name]


def _sizes(path: Path) -> list[int]:
    """Numbers in each tensor of a safetensors file, from its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"]


def _counts(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
