"""The documents of the task files here: our own splits as JSON lines, as `benchmarks.run_vqa` reads them.

    python -m benchmarks.lmms_eval.documents --data-dir DATA

writes runs/lmms_eval/TASK-SPLIT.jsonl where the task files look for them, and names the sets that are absent.
Runs in our environment; what lmms-eval runs is in `scoring`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.run_vqa import VQA_TASKS
from benchmarks.tasks.base import Sample
from benchmarks.whole_files import write_whole

FOLDER = Path("runs/lmms_eval")
SPLITS = (("vqa_rad", "disjoint-test"), ("vqa_rad", "official-test"), ("slake", "test"))


def document(sample: Sample) -> dict[str, str]:
    """What lmms-eval is given of a sample."""
    return {
        "qid": sample.sample_id,
        "image": str(sample.image_path.resolve()),
        "question": sample.prompt,
        "answer": sample.reference,
        "answer_type": sample.groups["answer type"][0],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write what is there; 1 where nothing is."""
    parser = argparse.ArgumentParser(description="Documents of the lmms-eval tasks.")
    parser.add_argument("--data-dir", type=Path, required=True, help="data folder, as for run_vqa.py")
    args = parser.parse_args(argv)
    written = 0
    for name, split in SPLITS:
        try:
            samples = VQA_TASKS[name](args.data_dir, split).samples()
        except FileNotFoundError as error:
            print(f"{name} {split} is left out: {error}", file=sys.stderr)
            continue
        path = FOLDER / f"{name}-{split}.jsonl"
        write_whole(path, "".join(json.dumps(document(sample)) + "\n" for sample in samples))
        print(f"{path}: {len(samples)} questions")
        written += 1
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
