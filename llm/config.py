"""Configurations: which model answers, how nano is trained; errors name the nearest field."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import urlsplit

import yaml

from .data.vqa_rad import Split

Quantization = Literal["none", "8bit", "4bit"]
_Config = TypeVar("_Config", "TrainConfig", "ModelConfig", "TuneConfig")


@dataclass(frozen=True)
class ModelConfig:
    """Which model answers and where it runs; every default is declared here only.

    Attributes:
        model: ``"nano"`` (shipped), a folder, a hub id, or what the server calls its model.
        revision: Commit, tag or branch of a hub id, None for its main branch.
        adapter: A peft adapter: a folder or hub id, or on a server the name that it serves the adapter by.
        merge_adapter: Fold the adapter into the weights, which is faster. A quantised model always keeps it
            beside them, since merging into rounded weights would change the answers.
        quantization: bitsandbytes: ``"8bit"`` (LLM.int8) or ``"4bit"`` (NF4), on CPU too; vision stays
            as it is.
        device: ``"auto"`` takes CUDA where it is.
        dtype: ``"auto"`` is ``"mixed"`` for nano on a CPU, else bfloat16. ``"mixed"``, of nano only,
            multiplies mostly in bfloat16 and computes all else in float32.
        server: Base address of an OpenAI-compatible server such as ``http://127.0.0.1:8000/v1``; None
            runs the model in this process.
        style: How regions are shown to the model: a key of `llm.spatial.STYLES`, such as ``"marks"`` (drawn
            on the image) or ``"loc"`` (own tokens, to be trained). None takes the adapter's, else the
            family's own; a server does not say its family, so there None is plain text.
        api_key_variable: Name of the environment variable with the server's key; the key is never stored.
        requests: Requests to the server at a time.
        timeout: Seconds to wait for the server.
        batch: Prompts that a model in this process reads at a time.
        pictures: Pictures whose prompts' states are kept for later calls, so that a further question reads
            only what is new; with 0 they are shared within a call alone, and no reply depends, by rounding,
            on earlier ones. A server decides that itself.
        abstain_below: Confidence under which the agent gives no answer; None takes what the model's
            calibration chose, else 0.
    """

    model: str = "nano"
    revision: str | None = None
    adapter: str | None = None
    merge_adapter: bool = True
    quantization: Quantization = "none"
    device: str = "auto"
    dtype: str = "auto"
    server: str | None = None
    style: str | None = None
    api_key_variable: str = "MEDGLIP_API_KEY"
    requests: int = 8
    timeout: float = 120.0
    batch: int = 32
    pictures: int = 4
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be loaded."""
        if self.quantization not in get_args(Quantization):
            raise ValueError(
                f"quantization must be one of {', '.join(get_args(Quantization))}, got {self.quantization!r}"
            )
        if self.server is not None:
            address = urlsplit(self.server)
            if address.scheme not in ("http", "https") or not address.netloc:
                raise ValueError(
                    f"server must be an address such as http://127.0.0.1:8000/v1, got {self.server!r}"
                )
            if self.quantization != "none":
                raise ValueError("a server quantises its own model: start it so, leave quantization out")
        if self.requests < 1 or self.timeout <= 0:
            raise ValueError(f"requests and timeout must be positive, got {self.requests}, {self.timeout}")
        if self.batch < 1 or self.pictures < 0:
            raise ValueError(
                f"batch must be at least 1 and pictures at least 0, got {self.batch}, {self.pictures}"
            )
        below = self.abstain_below
        if below is not None and not (isinstance(below, int | float) and 0 <= below <= 1):
            raise ValueError(f"abstain_below must lie in [0, 1], got {below!r}")


@dataclass(frozen=True)
class TuneConfig:
    """Recipe of LoRA on a model of any family; every default is declared here only.

    Attributes:
        instructions: Questions an epoch from further sources beside VQA-RAD, as in `TrainConfig`.
        steps: Optimisation steps.
        batch: Examples of a forward pass, on each device.
        accumulate: Forward passes of a step.
        rank: Of LoRA on the language model's linear layers.
        alpha: LoRA's scale is alpha / rank.
        dropout: On LoRA's input.
        projector: Adapt the layers between vision and language too.
        learning_rate: Peak of AdamW.
        weight_decay: AdamW's decay.
        warmup: Steps of linear warm-up; a cosine down to `final_rate` follows.
        final_rate: Last learning rate as a fraction of the peak.
        clip_norm: Largest gradient norm.
        checkpointing: Compute activations twice to save memory.
        save_steps: Steps between resumable states.
        seed: Of everything random.
    """

    instructions: Mapping[str, int] | None = None
    steps: int = 1000
    batch: int = 4
    accumulate: int = 4
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    projector: bool = False
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup: int = 50
    final_rate: float = 0.05
    clip_norm: float = 1.0
    checkpointing: bool = False
    save_steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        _check_instructions(self.instructions)
        for name in ("steps", "batch", "accumulate", "rank", "save_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainConfig:
    """Recipe of the nano vision-language model; every default is declared here only.

    Attributes:
        train_split: The split to learn from.
        val_split: The split to watch, None for none; never a test split.
        instructions: Questions an epoch from further sources, by the names of their files
            (`python -m medglip_agent.instructions`); None for the questions of the split alone.
        watched: Part of each of these sources, whole patients, that is kept to watch the training by.
        epochs: Passes over the questions of the split.
        questions_per_batch: Questions in an optimisation step.
        questions_per_row: Questions about one image that share a row (image and regions are computed once a
            row).
        lora_rank: Rank of LoRA on every linear layer of the language model.
        lora_alpha: LoRA's scale is alpha / rank.
        learning_rate: Peak rate of LoRA and the spatial tokens.
        projector_learning_rate: Peak rate of the projector.
        weight_decay: AdamW's decay, of matrices.
        warmup_steps: Steps of linear warm-up; a cosine down to `final_rate` follows.
        final_rate: Last learning rate as a fraction of the peak.
        clip_norm: Largest gradient norm.
        image_views: Random views an image beside the plain one, features cached in memory.
        image_size: Side of the square that an image is resized to, in pixels.
        projector_hidden_size: Width of the projector's hidden layer.
        base_language_model: Name in the base-weight cache, or a folder.
        base_vision_tower: Name in the base-weight cache, a folder, or ``grounder:`` and a grounder's name.
        eval_epochs: Evaluate on `val_split` after every so many epochs, and at the end.
        save_steps: Steps between resumable states.
        threads: torch's threads.
        seed: Of everything random.
    """

    train_split: Split = "disjoint-train"
    val_split: Split | None = None
    instructions: Mapping[str, int] | None = None
    watched: float = 0.03
    epochs: int = 3
    questions_per_batch: int = 16
    questions_per_row: int = 5
    lora_rank: int = 32
    lora_alpha: int = 64
    learning_rate: float = 4e-4
    projector_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 60
    final_rate: float = 0.05
    clip_norm: float = 1.0
    image_views: int = 4
    image_size: int = 256
    projector_hidden_size: int = 768
    base_language_model: str = "smollm2-135m-instruct"
    base_vision_tower: str = "efficientnet-lite0"
    eval_epochs: int = 2
    save_steps: int = 200
    threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse recipes that would train on or choose by test data, or cannot run."""
        _check_instructions(self.instructions)
        if not 0 <= self.watched < 1:
            raise ValueError(f"watched must lie in [0, 1), got {self.watched}")
        for name in ("train_split", "val_split"):
            if str(getattr(self, name)).endswith("test"):
                raise ValueError(f"{name} must not be a test split, got {getattr(self, name)!r}")
        if self.val_split and self.val_split.split("-")[0] != self.train_split.split("-")[0]:
            raise ValueError(
                f"{self.train_split!r} and {self.val_split!r} share images; use one family of splits"
            )
        for name in (
            "epochs",
            "questions_per_batch",
            "questions_per_row",
            "lora_rank",
            "eval_epochs",
            "save_steps",
            "threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def _check_instructions(value: object) -> None:
    """Refuse what is no table of names and numbers."""
    good = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(count, int) and count >= 1 for name, count in value.items()
    )
    if value is not None and not good:
        raise ValueError(f"instructions must be lines such as 'boxes: 3200', got {value!r}")


def load_config(path: Path | str, **changes: object) -> TrainConfig:
    """Read a YAML recipe; `changes` (command-line flags, None for absent) outrank it.

    Raises:
        ValueError: An unknown field (the nearest one is named) or a value of the wrong type.
    """
    return read_config(TrainConfig, path, **changes)


def read_config(kind: type[_Config], path: Path | str, **changes: object) -> _Config:
    """Fill a configuration from YAML; `changes` (command-line flags, None for absent) outrank it.

    Raises:
        ValueError: An unknown field (the nearest one is named) or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold fields such as '{next(iter(fields))}: ...', got {type(values).__name__}"
        )
    values |= {name: value for name, value in changes.items() if value is not None}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1, cutoff=0.0)[0]
            raise ValueError(f"{path}: unknown field {name!r}; did you mean {near!r}?")
        values[name] = _cast(name, value, fields[name].default)
    return kind(**values)


def _cast(name: str, value: object, default: object) -> object:
    """Check a value against its default's type; whole numbers pass as fractions, "1e-3" is a number."""
    if isinstance(default, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    elif default is None or type(value) is type(default):
        return value
    raise ValueError(f"{name} must be of type {type(default).__name__}, got {value!r}")
