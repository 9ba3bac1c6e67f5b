"""Who answers: any model of `llm` behind the runner's protocol, with its regions, identity and cache.

Every family, quantised models, adapters and servers come through `llm.generate.load_model`; the baselines,
which never see an image's meaning, are in `baselines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.checkpoints import check_training, checkpoint_folder
from benchmarks.manifest import checkpoint_hash
from benchmarks.prediction_cache import Answer, PredictionCache
from benchmarks.run_config import RunConfig
from benchmarks.shards import local_device
from benchmarks.tasks.base import Sample, Task
from grounding.types import MedicalImage, Regions

if TYPE_CHECKING:
    from llm.config import ModelConfig

_CHARACTERS_OF_A_REGION = 20


class Model(Protocol):
    """Answers samples under a condition; the runner decides the batches."""

    def prepare(self) -> None:
        """Load what is needed; an error here is the model's, not a sample's."""
        ...

    def length(self, sample: Sample, condition: str) -> int:
        """Roughly how long the prompt is: a batch holds prompts of similar length."""
        ...

    def answer(self, samples: Sequence[Sample], condition: str) -> list[Answer]:
        """(text, confidence or None) of each sample of a batch."""
        ...


class RegionModel:
    """A vision-language model that is shown each sample's regions under each condition."""

    def __init__(
        self,
        config: ModelConfig,
        by_condition: Mapping[str, Mapping[str, Regions]],
        cache: PredictionCache,
        *,
        instruction: str,
        max_new_tokens: int,
        threads: int | None,
    ) -> None:
        """Remember; the model loads in `prepare`.

        Args:
            config: which model.
            by_condition: regions by condition and sample id; a sample without any gets no region block.
            cache: of answers.
            instruction: stands behind each question, may be empty.
            max_new_tokens: length of a reply.
            threads: of the CPU; None leaves torch's number.
        """
        self.config, self.by_condition, self.cache = config, by_condition, cache
        self.instruction, self.max_new_tokens, self.threads = instruction, max_new_tokens, threads
        self._open = lru_cache(maxsize=256)(MedicalImage.open)
        self._model: Any = None

    def prepare(self) -> None:
        """Load the model, once."""
        if self._model is None:
            import torch

            from llm.generate import load_model

            if self.threads is not None:
                torch.set_num_threads(self.threads)
            self._model = load_model(self.config)

    def length(self, sample: Sample, condition: str) -> int:
        """In characters: the question, and about 20 a region."""
        regions = self.by_condition[condition].get(sample.sample_id, ())
        return len(sample.prompt) + _CHARACTERS_OF_A_REGION * len(regions)

    def answer(self, samples: Sequence[Sample], condition: str) -> list[Answer]:
        """Cached answers, and one forward batch for the others; of equal samples one is asked.

        Without a cache every sample is asked, so that batches are always the same.
        """
        regions = self.by_condition[condition]
        if self.cache.folder is None:
            return self._generate(samples, regions)
        keys = [self.cache.key(s.image_path, self._prompt(s), regions.get(s.sample_id)) for s in samples]
        known = {key: answer for key in keys if (answer := self.cache.get(key)) is not None}
        absent = {key: s for key, s in zip(keys, samples, strict=True) if key not in known}
        for key, made in zip(absent, self._generate(list(absent.values()), regions), strict=True):
            self.cache.put(key, made)
            known[key] = made
        return [known[key] for key in keys]

    def _prompt(self, sample: Sample) -> str:
        return f"{sample.prompt} {self.instruction}".strip()

    def _generate(self, samples: Sequence[Sample], regions: Mapping[str, Regions]) -> list[Answer]:
        from llm.types import SpatialPrompt

        prompts = [
            SpatialPrompt(self._prompt(s), self._open(s.image_path), regions.get(s.sample_id))
            for s in samples
        ]
        replies = self._model.generate(prompts, max_new_tokens=self.max_new_tokens) if prompts else []
        return [(reply.text, reply.confidence) for reply in replies]


def model_config(config: RunConfig) -> ModelConfig:
    """The model that a run names, with the run's adapter, dtype and device where it says any.

    It keeps no picture between batches: a resumed or divided run asks other ones before, which would shift
    confidences by rounding.
    """
    from llm.config import ModelConfig, read_config

    yaml = config.model.endswith((".yaml", ".yml"))
    model = read_config(ModelConfig, config.model) if yaml else ModelConfig(model=config.model)
    device = local_device(config.device)
    return replace(
        model,
        adapter=config.adapter or model.adapter,
        dtype=model.dtype if config.dtype == "auto" else config.dtype,
        device=model.device if device == "auto" else device,
        pictures=0,
    )


def loaded_dtype(model: ModelConfig, folder: Path | None) -> str:
    """The name of the dtype that a model in this process is loaded in; behind a server, of that asked for."""
    from llm.loading import dtype_name
    from llm.nano.checkpoint import is_nano_checkpoint

    if model.server is not None:
        return model.dtype
    return dtype_name(model, nano=folder is not None and is_nano_checkpoint(folder))


def model_identity(config: RunConfig, model: ModelConfig, task: Task) -> dict[str, Any]:
    """What decides the model's answers: name, weights, adapter, how it is loaded; and what it was trained on.

    Raises:
        ValueError: it was trained on questions of this test.
    """
    folder = checkpoint_folder(model.model)
    adapter = Path(model.adapter) if model.adapter and Path(model.adapter).is_dir() else None
    trained_on = check_training(folder, config.model, task)
    if adapter is not None:
        trained_on = [*trained_on, *check_training(adapter, model.adapter or "", task)]
    return {
        "model": config.model,
        "model_sha256": checkpoint_hash(folder),
        "model_name": model.model,
        "revision": model.revision,
        "adapter": model.adapter,
        "adapter_sha256": checkpoint_hash(adapter),
        "quantization": model.quantization,
        "merge_adapter": model.merge_adapter,
        "dtype": loaded_dtype(model, folder),
        "style": model.style,
        "server": model.server,
        "trained_on": trained_on,
    }
