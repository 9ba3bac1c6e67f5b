"""Visual question answering with controls and baselines: predictions.jsonl, metrics.json, a markdown table.

    python benchmarks/run_vqa.py --data-dir DATA --split disjoint-test --boxes none predicted --out runs/d
    python benchmarks/run_vqa.py --task boxes --data-dir DATA --boxes none predicted oracle --out runs/b
    python benchmarks/compare.py runs/d:predicted runs/d:nearest-question

Run the same command again after an interruption: it continues, and the result is the same. A checkpoint is
never evaluated on a test that its training split leaks into: see `checkpoints`. Exit codes: 0 done, 2 wrong
usage or settings, 3 done with failed samples, 4 gave up, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.baselines import VQA_BASELINES
from benchmarks.run_config import BASELINES_ONLY, RunConfig, add_flags, read_config
from benchmarks.runner import exit_code
from benchmarks.session import run_session
from benchmarks.summary import write_results
from benchmarks.tasks.base import Task
from benchmarks.tasks.box_questions import BoxQuestions
from benchmarks.tasks.path_vqa import PathVqa
from benchmarks.tasks.slake import Slake
from benchmarks.tasks.vqa import VqaTask
from benchmarks.tasks.vqa_rad import VqaRad

VQA_TASKS: Mapping[str, type[VqaTask]] = {"vqa_rad": VqaRad, "slake": Slake, "path_vqa": PathVqa}
WITH_TRUE_BOXES = ("boxes", "slake")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description="Questions with box controls and baselines.")
    add_flags(parser, task=[*VQA_TASKS, "boxes"])
    args = parser.parse_args(argv)
    try:
        config = read_config(args, "vqa_rad")
    except ValueError as error:
        parser.error(str(error))
    return run(config)


def run(config: RunConfig) -> int:
    """Answer, score and write.

    Raises:
        ValueError: settings do not fit together.
    """
    if "oracle" in config.boxes and config.task not in WITH_TRUE_BOXES:
        raise ValueError(
            f"{config.task} has no true boxes: --boxes oracle is for {', '.join(WITH_TRUE_BOXES)}"
        )
    if "shuffled" in config.boxes and config.task == "path_vqa":
        print("path_vqa names no organ: shuffled regions come from any other image", file=sys.stderr)
    task = open_task(config)
    return run_session(task, config, VQA_BASELINES, partial(write_results, config.out, task, config.seed))


def open_task(config: RunConfig) -> Task:
    """The task of a run.

    Raises:
        ValueError: task or split are unknown.
    """
    if config.task == "boxes":
        return BoxQuestions(config.data_dir)
    if config.task not in VQA_TASKS:
        raise ValueError(f"task must be one of {', '.join([*VQA_TASKS, 'boxes'])}, got {config.task!r}")
    kind = VQA_TASKS[config.task]
    return kind(config.data_dir, config.split or kind.splits[0], images=config.model != BASELINES_ONLY)


if __name__ == "__main__":
    sys.exit(exit_code(main))
