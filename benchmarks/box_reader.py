"""How many questions that follow from boxes a few rules answer: what a perfect reader of boxes would score.

    python benchmarks/box_reader.py --data-dir DATA --regions runs/boxes/regions.jsonl --out reader.json

Takes the regions that a run of ``run_vqa.py --task boxes`` was shown. What is missing from 1 with predicted
boxes is the detector's doing; what a model stays below the reader is the model's. Where the boxes say nothing
of the answer (none of the phrase), it counts as the chance of a guess.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.box_questions import BoxQuestions
from grounding.types import Regions
from llm.data.instructions import Instruction
from llm.data.regions import read_regions
from llm.spatial.position import halves, ninth

Box = NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Print the accuracy of each kind of question, and of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with grounding/<set>/val.json")
    parser.add_argument("--regions", type=Path, required=True, help="regions.jsonl of a run of the task")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    found = accuracy(BoxQuestions(args.data_dir).instructions, read_regions(args.regions))
    for kind, share in found.items():
        print(f"{kind}: {share:.3f}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def accuracy(items: Sequence[Instruction], regions: Mapping[str, Regions]) -> dict[str, float]:
    """Share of questions that the rules answer rightly, by kind and over ``all``.

    Args:
        items: the questions with their true regions.
        regions: what is read instead, by `qid`.
    """
    right: dict[str, list[float]] = {"all": []}
    for item in items:
        share = _right(item, regions[item.qid])
        for name in ("all", item.kind):
            right.setdefault(name, []).append(share)
    return {name: float(np.mean(shares)) for name, shares in right.items()}


def _right(item: Instruction, given: Regions) -> float:
    """1 where the boxes given say what the true ones say, the chance of a guess where they say nothing."""
    assert item.regions is not None
    ask = item.qid.split("/")[3]
    said = read(ask, item.phrases, given)
    if said is None:
        return 1 / 9 if ask == "where" else 1 / 2
    return float(said == read(ask, item.phrases, item.regions))


def read(ask: str, phrases: Sequence[str], regions: Regions) -> str | None:
    """What boxes say of a fact (`llm.data.box_facts`); None where they say nothing.

    What is there, and how often, is read from what was found; places and sizes from guesses too.
    """
    size = regions.image_size
    found = {phrase: regions.found.phrases.count(phrase) for phrase in phrases}
    if ask == "presence":
        return "yes" if found[phrases[0]] else "no"
    if ask == "count":
        return str(found[phrases[0]])
    if ask == "which sides":
        return " ".join(phrase for phrase in phrases if found[phrase])
    boxes = {
        phrase: [b for b, p in zip(regions.boxes, regions.phrases, strict=True) if p == phrase]
        for phrase in phrases
    }
    first = boxes[phrases[0]]
    if ask == "larger":
        second = boxes[phrases[-1]]
        return phrases[_area(second[0]) > _area(first[0])] if first and second else None
    if ask.startswith("larger"):
        axis = int(ask == "larger upper")
        if len(first) < 2:
            return None
        one, other = sorted(first[:2], key=lambda box: float(box[axis] + box[axis + 2]))
        return "first" if _area(one) > _area(other) else "second"
    if not first:
        return None
    if ask == "where":
        return ninth(first[0], size)
    axis = int(ask.endswith("down"))
    return Counter(halves(box, size)[axis] for box in first).most_common(1)[0][0]


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


if __name__ == "__main__":
    main()
