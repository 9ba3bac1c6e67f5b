"""Questions whose answers follow from true boxes, on the validation splits of the grounding sets.

The only task with the condition `oracle`: the true boxes of the phrases that a question needs, nothing else.
`predicted` are a grounder's for the same phrases; of one that it did not find its best guess, said to be one.
Shuffled regions come from another image that was asked the same of the same phrases, so that nothing but the
place and number of boxes is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.box_conditions import shuffle_alike
from benchmarks.metrics.protocols import exact_score, token_f1_score
from benchmarks.tasks.base import Sample
from grounding.data.coco import CocoSet, read_coco
from grounding.evaluate.dataset import find_sets, open_image
from grounding.evaluate.detections import AskedGrounder
from grounding.guesses import with_guesses
from grounding.types import Regions
from llm.data.box_questions import BoxQuestionConfig, box_questions
from llm.data.boxed import boxed_images
from llm.data.instructions import Instruction

QUESTIONS = BoxQuestionConfig(per_question=40)


class BoxQuestions:
    """The task; `data_dir` holds grounding/<set>/val.json, and train.json for the baselines."""

    name = "box_questions"
    headline = "exact"
    cluster = "patient"
    split = "val"
    max_new_tokens = 16
    stores_reference = True
    forbidden_training = frozenset({"boxes-val"})

    def __init__(self, data_dir: str | Path, sets: Sequence[str] = ()) -> None:
        """Remember where to read; files are read on first use.

        Args:
            data_dir: the data folder.
            sets: names of grounding sets, () for all.
        """
        self.data_dir, self.sets = Path(data_dir), tuple(sets)

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The questions with their true regions."""
        return self._questions("val")

    def files(self) -> list[Path]:
        """The files that decide the questions."""
        return [folder / "val.json" for folder in find_sets(self.data_dir, self.sets)]

    def samples(self) -> list[Sample]:
        """The questions, set by set, in the order of the images."""
        return [to_sample(item) for item in self.instructions]

    def train_samples(self) -> list[Sample]:
        """The same kind of questions on the training splits, for baselines."""
        return [to_sample(item) for item in self._questions("train")]

    def dropped(self) -> dict[str, int]:
        """None: questions are made from what is there."""
        return {}

    def scores(self, prediction: str, sample: Sample) -> dict[str, float]:
        """The protocols `exact` (headline) and `token-f1`."""
        triple = (prediction, sample.reference, sample.groups["answer type"][0])
        return {"exact": exact_score(*triple), "token-f1": token_f1_score(*triple)}

    def oracle_regions(self) -> dict[str, Regions]:
        """The true regions by sample id."""
        return {item.qid: item.regions for item in self.instructions if item.regions is not None}

    def predict_regions(self, grounder: Any, samples: Sequence[Sample], path: Path) -> None:
        """Write what a grounder finds for each question, unless the file is there."""
        if not path.exists():
            writer = {"grounder": grounder.name, "grounder_sha256": grounder.fingerprint}
            write_regions(path, self.predicted_regions(grounder, {s.sample_id for s in samples}), writer)

    def shuffle_regions(
        self, samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int
    ) -> dict[str, Regions]:
        """Regions of another patient's image that was asked the same of the same phrases."""
        return shuffle_alike(samples, regions, seed)

    def predicted_regions(
        self, grounder: AskedGrounder, wanted: Set[str] | None = None
    ) -> Iterator[tuple[str, Regions]]:
        """Ask each image once for all labels of its set, and give each question its phrases' regions.

        Args:
            grounder: its own thresholds decide what counts as found.
            wanted: the questions to ask for, None for all.

        Yields:
            (sample id, regions).
        """
        by_image: dict[Path, list[Instruction]] = {}
        for item in self.instructions:
            if wanted is None or item.qid in wanted:
                by_image.setdefault(item.image_path or Path(), []).append(item)
        for coco in self._sets("val"):
            for sample in coco.samples:
                if items := by_image.get(sample.image_path):
                    image = open_image(sample.image_path, sample.size, sample.modality)
                    (asked,) = grounder.ask_batch([image], [coco.labels])
                    every = asked.ground(coco.labels, box_threshold=0.0)
                    found = with_guesses(asked.ground(coco.labels), every)
                    yield from ((item.qid, only(found, item.phrases)) for item in items)

    def _questions(self, split: str) -> tuple[Instruction, ...]:
        images = [image for coco in self._sets(split) for image in boxed_images(coco)]
        return box_questions(images, QUESTIONS)

    def _sets(self, split: str) -> list[CocoSet]:
        return [read_coco(folder, split) for folder in find_sets(self.data_dir, self.sets)]


def to_sample(item: Instruction) -> Sample:
    """Cluster by patient where known; the stratum is what is asked of which phrases."""
    assert item.image_path is not None
    ask = item.qid.split("/", 3)[3]
    return Sample(
        sample_id=item.qid,
        image_path=item.image_path,
        prompt=item.question,
        reference=item.answer,
        cluster=item.group,
        groups={"answer type": (item.answer_type,), "kind": (item.kind,), "set": (item.source,)},
        stratum=f"{item.source}/{ask}",
    )


def only(regions: Regions, phrases: Sequence[str]) -> Regions:
    """The regions of some of the phrases asked, in the phrases' order, each by falling score."""
    ordered = regions.sorted()
    names = ordered.phrases
    index = [k for phrase in phrases for k, name in enumerate(names) if name == phrase]
    chosen = ordered[sorted(index, key=lambda k: bool(ordered.doubted[k]))]
    places = np.array([list(phrases).index(name) for name in chosen.phrases], dtype=np.int64)
    return replace(chosen, phrase_index=places, asked=tuple(phrases))


def write_regions(path: Path, regions: Iterator[tuple[str, Regions]], writer: Mapping[str, str]) -> None:
    """Write regions.jsonl as `llm.data.regions` reads it; the file appears whole or not at all.

    Args:
        path: the file.
        regions: (sample id, regions).
        writer: which grounder found them, repeated in each line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for qid, found in regions:
            file.write(json.dumps({"qid": qid, **writer, "regions": found.to_dict()}) + "\n")
    partial.replace(path)
