"""Instruction data: one question with its answer and the regions it rests on, whatever it comes from.

Owns the value type, its file (JSON lines) and what becomes of VQA questions. Knows no template, no model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grounding.types import MedicalImage, Regions

from .reading import check_unique
from .vqa import AnswerType, VQAExample, answer_type_of, canonical_answers
from .wording import number_of

Ground = Callable[[MedicalImage, Sequence[str]], Regions]
"""A grounder as this package needs it: (image, phrases) -> regions in pixels of that image."""


@dataclass(frozen=True, eq=False)
class Instruction:
    """One question and its answer.

    Attributes:
        qid: Unique over everything that is trained on together.
        image_path: The image file; None for text alone.
        question: What is asked.
        answer: What shall be answered; regions are cited as ``[R1]``, the first of `regions`.
        kind: What is asked for, such as ``count``.
        source: The set it was made from.
        group: What the images of one patient share (a hash), so that splits stay apart.
        phrases: What must be looked for to answer.
        regions: In pixels of the image; None where none are given, which is not the same as none found.
        region_ids: Indices into `regions` (0-based) that the answer cites or the question names.
    """

    qid: str
    image_path: Path | None
    question: str
    answer: str
    kind: str
    source: str
    group: str
    phrases: tuple[str, ...] = ()
    regions: Regions | None = None
    region_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on."""
        if not self.question.strip() or not self.answer.strip():
            raise ValueError(f"instruction {self.qid}: question and answer must not be empty")
        known = 0 if self.regions is None else len(self.regions)
        if wrong := [index for index in self.region_ids if not 0 <= index < known]:
            raise ValueError(f"instruction {self.qid}: names the regions {wrong}, but has {known}")

    @property
    def answer_type(self) -> AnswerType:
        """``CLOSED`` for yes, no and a choice named in the question, else ``OPEN``."""
        named = re.search(rf"\b{re.escape(self.answer)}\b", self.question) is not None
        return "CLOSED" if named and " or " in self.question else answer_type_of(self.answer)

    def to_vqa(self) -> VQAExample:
        """The question as the readers of VQA sets give it.

        Raises:
            ValueError: It has no image.
        """
        if self.image_path is None:
            raise ValueError(f"instruction {self.qid} is text alone; a VQAExample needs an image")
        return VQAExample(
            qid=self.qid,
            image_path=self.image_path,
            question=self.question,
            answer=self.answer,
            answer_type=self.answer_type,
            question_type=self.kind,
            origin=self.source,
        )

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Plain JSON types; the image's path relative to `folder`."""
        path = None if self.image_path is None else Path(os.path.relpath(self.image_path, folder)).as_posix()
        return {
            "qid": self.qid,
            "image": path,
            "question": self.question,
            "answer": self.answer,
            "kind": self.kind,
            "source": self.source,
            "group": self.group,
            "phrases": list(self.phrases),
            "regions": None if self.regions is None else self.regions.to_dict(),
            "region_ids": list(self.region_ids),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], folder: Path) -> Instruction:
        """Read what `to_dict` wrote.

        Raises:
            KeyError: A field is absent.
            ValueError: A field does not fit.
        """
        path, regions = record["image"], record["regions"]
        return cls(
            qid=str(record["qid"]),
            image_path=None if path is None else Path(os.path.normpath(folder / path)),
            question=record["question"],
            answer=record["answer"],
            kind=record["kind"],
            source=record["source"],
            group=record["group"],
            phrases=tuple(record["phrases"]),
            regions=None if regions is None else Regions.from_dict(regions),
            region_ids=tuple(record["region_ids"]),
        )


def write_instructions(path: Path, items: Iterable[Instruction]) -> int:
    """Write JSON lines, image paths relative to the data folder's sibling `path`; returns how many.

    The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    lines = [json.dumps(item.to_dict(path.parent.resolve()), ensure_ascii=False) + "\n" for item in items]
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)
    return len(lines)


def read_instructions(path: Path | str) -> tuple[Instruction, ...]:
    """Read what `write_instructions` wrote.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: A line is no instruction (it is named), or a question occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is absent; write it with"
            f" `python -m medglip_agent.instructions --data-dir DIR --out {path.parent}`"
        )
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            items.append(Instruction.from_dict(json.loads(line), path.parent.resolve()))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number} is no instruction: {error!r}") from error
    check_unique((item.qid for item in items), "question")
    return tuple(items)


def from_vqa(
    examples: Iterable[VQAExample], source: str, regions: Mapping[str, Regions] | None = None
) -> tuple[Instruction, ...]:
    """Questions of a VQA set with the regions found for each (by its own ``qid``), grouped by image."""
    return tuple(
        Instruction(
            qid=f"{source}/{example.qid}",
            image_path=example.image_path,
            question=example.question,
            answer=example.answer,
            kind=example.question_type or "vqa",
            source=source,
            group=f"{source}/{example.image_path.name}",
            regions=None if regions is None else regions[example.qid],
        )
        for example in examples
    )


def as_text(examples: Iterable[VQAExample], source: str) -> tuple[Instruction, ...]:
    """Questions without their images, for language; what the source says of the image stands in its place."""
    items, examples = [], tuple(examples)
    answers = canonical_answers([example.answer for example in examples])
    for example, answer in zip(examples, answers, strict=True):
        place = example.organ.lower().replace("_", " and ")
        items.append(
            Instruction(
                qid=f"{source}/{example.qid}",
                image_path=None,
                question=f"No picture, only words: {example.modality} of the {place}. {example.question}",
                answer=answer,
                kind=f"text {example.question_type}".strip(),
                source=source,
                group=f"{source}/{example.image_path.parent.name}",
            )
        )
    return tuple(items)


def split_by_group(
    items: Iterable[Instruction], fraction: float
) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Keep about a fraction of the groups apart, to choose checkpoints by: (to train on, to watch).

    Whole groups, so that no patient is on both sides; which ones depends on their names alone.
    """
    items = tuple(items)
    parts = 1 << 20
    watched = [number_of("watched", item.group, parts=parts) < fraction * parts for item in items]
    return (
        tuple(item for item, apart in zip(items, watched, strict=True) if not apart),
        tuple(item for item, apart in zip(items, watched, strict=True) if apart),
    )


def with_regions(items: Iterable[Instruction], regions: Mapping[str, Regions]) -> tuple[Instruction, ...]:
    """The same questions with other regions (predicted, or another image's), by `qid`.

    Raises:
        KeyError: A question has none.
        ValueError: A question or answer names regions by number, which would then be others.
    """
    items = tuple(items)
    if bound := [item.qid for item in items if item.region_ids]:
        raise ValueError(f"{bound[0]} names its regions by number; they cannot be exchanged")
    return tuple(replace(item, regions=regions[item.qid]) for item in items)
