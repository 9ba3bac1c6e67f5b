"""From settings to results, the same way for every command: identity, regions, models, answers, manifest.

Knows how the parts fit together; the commands say which tasks, baselines and tables there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.baselines import Baseline
from benchmarks.box_conditions import read_regions
from benchmarks.checkpoints import check_regions, grounder_fingerprint
from benchmarks.dry_run import dry_run
from benchmarks.manifest import sha256_files, write_manifest
from benchmarks.models import Model, RegionModel, model_config, model_identity
from benchmarks.prediction_cache import PredictionCache
from benchmarks.predictions import check_identity
from benchmarks.run_config import BASELINES_ONLY, RunConfig
from benchmarks.runner import Outcome, answer_all, code_of, window
from benchmarks.shards import local_device, this_shard
from benchmarks.tasks.base import Sample, Task
from grounding.types import Regions

WriteResults = Callable[[Outcome, Mapping[str, Any]], str]
"""(finished run, its identity) -> the markdown that it wrote beside the figures."""


def run_session(
    task: Task, config: RunConfig, baselines: Mapping[str, type[Baseline]], write_results: WriteResults
) -> int:
    """Run a benchmark, or only count (`dry_run`); prints the tables.

    Returns:
        The exit code: 0, or 3 where samples failed.

    Raises:
        ValueError: settings do not fit the task, or the output folder holds another run.
    """
    started = time.monotonic()
    if config.dtype == "float32":  # MKL's sums else depend on where in memory a tensor happens to lie
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    samples = window(task, config)
    identity = run_identity(task, config)
    if config.dry_run:
        print(dry_run(task, samples, config))
        return 0
    shard = this_shard(config.shard_of())
    config.out.mkdir(parents=True, exist_ok=True)
    with FileLock(config.out / ".lock"):
        check_identity(config.out / "identity.json", identity)
        regions_path = prepare_regions(task, samples, config)
    models: dict[str, Model] = {}
    if config.model != BASELINES_ONLY:
        model = region_model(task, samples, config, identity, regions_path)
        models |= {condition: model for condition in config.boxes}
    train = cache(task.train_samples)
    models |= {name: kind(train) for name, kind in baselines.items()}
    outcome = answer_all(task, samples, models, config, shard)
    if outcome is not None:
        print(write_results(outcome, identity))
        seconds = round(time.monotonic() - started, 1)
        settings = {**identity, "failed": outcome.failed, "dropped": dict(task.dropped())}
        write_manifest(config.out / "manifest.json", settings, seconds=seconds, processes=shard.count)
    elif not shard.joined:
        print(f"{config.out}: shard {config.shard} is done; a run without --shard merges all of them")
    shard.leave()
    return code_of(outcome, config.out)


def run_identity(task: Task, config: RunConfig) -> dict[str, Any]:
    """Everything that decides the predictions; neither how many processes make them nor where they go.

    Raises:
        ValueError: the model was trained on questions of this test.
    """
    identity = {
        "task": task.name,
        "split": task.split,
        "references": config.references,
        "offset": config.offset,
        "limit": config.limit,
        "batch_size": config.batch_size,
        "max_new_tokens": config.max_new_tokens or task.max_new_tokens,
        "instruction": config.instruction,
        "seed": config.seed,
        "data_sha256": sha256_files(task.files()),
        "model": BASELINES_ONLY,
    }
    if config.model != BASELINES_ONLY:
        identity |= model_identity(config, model_config(config), task)
    return identity


def region_model(
    task: Task,
    samples: Sequence[Sample],
    config: RunConfig,
    identity: Mapping[str, Any],
    regions_path: Path | None,
) -> RegionModel:
    """The run's model with the regions of each condition and the cache."""
    by_condition: dict[str, Mapping[str, Regions]] = {"none": {}}
    if regions_path is not None:
        by_condition["predicted"] = read_regions(regions_path, samples)
    if "oracle" in config.boxes:
        by_condition["oracle"] = task.oracle_regions()
    if "shuffled" in config.boxes:
        by_condition["shuffled"] = task.shuffle_regions(samples, by_condition["predicted"], config.seed)
    return RegionModel(
        model_config(config),
        by_condition,
        PredictionCache(config.cache, answer_identity(identity)),
        instruction=config.instruction,
        max_new_tokens=identity["max_new_tokens"],
        threads=config.threads,
    )


def answer_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run decides one answer beside its sample: weights rather than where they lie."""
    names = ["revision", "quantization", "merge_adapter", "dtype", "style", "server", "max_new_tokens"]
    names += ["model_sha256"] if identity["model_sha256"] else ["model_name"]
    names += ["adapter_sha256"] if identity["adapter_sha256"] else ["adapter"]
    return {name: identity[name] for name in names}


def prepare_regions(task: Task, samples: Sequence[Sample], config: RunConfig) -> Path | None:
    """The given regions, or those that the grounder gives the task, in the output folder; None if unneeded.

    Raises:
        ValueError: there are regions of another grounder, or other ones than before.
    """
    if config.model == BASELINES_ONLY or not {"predicted", "shuffled"} & {*config.boxes}:
        return None
    path = config.regions or config.out / "regions.jsonl"
    complete = path.exists() and not missing_regions(path, samples)
    if config.regions is not None or complete:
        check_regions(path, config.grounder)
    else:
        from grounding import Grounder

        grounder = Grounder.from_pretrained(config.grounder, device=local_device(config.device))
        task.predict_regions(grounder, samples, path)
    found: dict[str, str | None] = {"regions_sha256": sha256_files([path])}
    if config.regions is None:
        found |= {"grounder": config.grounder, "grounder_sha256": grounder_fingerprint(config.grounder)}
    check_identity(config.out / "regions.json", found)
    return path


def missing_regions(path: Path, samples: Sequence[Sample]) -> bool:
    """Whether a file written earlier lacks regions of a sample, or its last line was cut short."""
    try:
        read_regions(path, samples)
    except ValueError:
        return True
    return False
