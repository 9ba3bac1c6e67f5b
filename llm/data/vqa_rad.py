"""VQA-RAD in its common JSON form: ``trainset.json``, ``testset.json``, ``images/``.

Owns the reading and the spelling clean-up of the records; answers are returned as written (protocols
normalise them). Two families of splits exist and must never be crossed: ``official-*`` (all its test images
also occur in its train part) and ``disjoint-*`` (no image, and no near-duplicate of one, in two parts;
``image_disjoint_split.json``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Split = Literal["official-train", "official-test", "disjoint-train", "disjoint-val", "disjoint-test"]
AnswerType = Literal["OPEN", "CLOSED"]

_SPELLING = {"PRSE": "PRES", "ATRIB": "ATTRIB"}


@dataclass(frozen=True)
class VQAExample:
    """One question about one image.

    Attributes:
        qid: Question number as text, unique over all splits.
        image_path: Image file.
        question: The question as asked, outer white space removed.
        answer: The true answer as written (not normalised), never empty.
        answer_type: ``CLOSED`` (yes/no or a choice named in the question) or ``OPEN``.
        question_type: ``PRES``, ``POS``, ``ABN``, ...; several are joined by ``", "`` in alphabetical order.
        organ: ``HEAD``, ``CHEST`` or ``ABD``.
    """

    qid: str
    image_path: Path
    question: str
    answer: str
    answer_type: AnswerType
    question_type: str
    organ: str

    def __post_init__(self) -> None:
        """Refuse records that no protocol could score."""
        if self.answer_type not in get_args(AnswerType):
            raise ValueError(
                f"question {self.qid}: answer_type must be OPEN or CLOSED, got {self.answer_type!r}"
            )
        if not self.question or not self.answer:
            raise ValueError(f"question {self.qid}: question and answer must not be empty")


def read_vqa_rad(root: Path | str, split: Split) -> list[VQAExample]:
    """Read one split of VQA-RAD, in the order of the files (train before test for the disjoint splits).

    Args:
        root: Folder that holds ``trainset.json``, ``testset.json`` and ``images/``.
        split: One of `Split`; the disjoint ones also need ``image_disjoint_split.json``.

    Raises:
        FileNotFoundError: A file or an image named by a record is absent.
        ValueError: The split is unknown, a record is malformed, or a question of the split is in neither
        file.
    """
    root = Path(root)
    if split not in get_args(Split):
        raise ValueError(f"unknown VQA-RAD split {split!r}; choose one of {', '.join(get_args(Split))}")
    if split.startswith("official-"):
        return _examples(root, _load(root / f"{split.removeprefix('official-')}set.json"))
    records = [*_load(root / "trainset.json"), *_load(root / "testset.json")]
    wanted = set(map(str, _load(root / "image_disjoint_split.json")["qids"][split.removeprefix("disjoint-")]))
    chosen = [record for record in records if str(record.get("qid")) in wanted]
    if len(chosen) != len(wanted):
        missing = sorted(wanted - {str(record["qid"]) for record in chosen})[:5]
        raise ValueError(
            f"{root}: {split} names questions that no file holds, such as {missing}; the files do not match"
        )
    return _examples(root, chosen)


def _examples(root: Path, records: Iterable[dict[str, Any]]) -> list[VQAExample]:
    """Turn raw records into checked examples."""
    examples = [_example(root / "images", record) for record in records]
    absent = sorted({str(e.image_path) for e in examples if not e.image_path.is_file()})
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} images of VQA-RAD are absent, such as {absent[0]}; copy images/ in full"
        )
    return examples


def _example(images: Path, record: dict[str, Any]) -> VQAExample:
    """Build one example; answers that are numbers in the file become text."""
    try:
        return VQAExample(
            qid=str(record["qid"]),
            image_path=images / record["image_name"],
            question=" ".join(str(record["question"]).split()),
            answer=" ".join(str(record["answer"]).split()),
            answer_type=record["answer_type"].strip().upper(),
            question_type=_question_type(record["question_type"]),
            organ=record["image_organ"].strip().upper(),
        )
    except KeyError as error:
        raise ValueError(f"VQA-RAD record {record.get('qid')} lacks the field {error}") from error


def _question_type(text: str) -> str:
    """Correct the source's spelling and order multiple types: ``"PRES, ATRIB"`` -> ``"ATTRIB, PRES"``."""
    types = (part.strip().upper() for part in text.split(","))
    return ", ".join(sorted(_SPELLING.get(t, t) for t in types))


def _load(path: Path) -> Any:
    """Read a JSON file, saying what is expected where it is absent."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is absent; expected the VQA-RAD folder with trainset.json, testset.json, images/"
        )
    with path.open(encoding="utf-8") as file:
        return json.load(file)
