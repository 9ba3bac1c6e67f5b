"""One question about one image, whichever set it comes from. Knows no file layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

AnswerType = Literal["OPEN", "CLOSED"]


@dataclass(frozen=True)
class VQAExample:
    """One question about one image. What a source does not say is the empty text.

    Attributes:
        qid: Question number as text, unique over all splits of its set.
        image_path: Image file.
        question: The question as asked, outer white space removed.
        answer: The true answer as written (not normalised), never empty.
        answer_type: ``CLOSED`` (yes/no or a choice named in the question) or ``OPEN``.
        question_type: What is asked about, as the source calls it: ``PRES``, ``POS``, ``ABN``, ... (VQA-RAD;
            several are joined by ``", "`` in alphabetical order), ``Position``, ``Organ``, ... (SLAKE).
        organ: Part of the body as the source calls it: ``HEAD``, ``CHEST``, ``ABD`` (VQA-RAD), ``Lung``, ...
        modality: As the source calls it: ``CT``, ``MRI``, ``X-Ray`` (SLAKE).
        origin: How the question was made: ``freeform``, ``para``, ``frame`` (VQA-RAD), ``vqa`` or ``kvqa``
            (SLAKE: answered from the image, or with outside knowledge).
    """

    qid: str
    image_path: Path
    question: str
    answer: str
    answer_type: AnswerType
    question_type: str = ""
    organ: str = ""
    modality: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        """Refuse records that no protocol could score."""
        if self.answer_type not in get_args(AnswerType):
            raise ValueError(
                f"question {self.qid}: answer_type must be OPEN or CLOSED, got {self.answer_type!r}"
            )
        if not self.question or not self.answer:
            raise ValueError(f"question {self.qid}: question and answer must not be empty")


def answer_type_of(answer: str) -> AnswerType:
    """``CLOSED`` for yes and no, else ``OPEN``: for sets that do not say.

    A choice named in the question ("CT or MRI?") counts as open here, which VQA-RAD's own field calls closed.
    """
    return "CLOSED" if answer.strip().rstrip(".").lower() in ("yes", "no") else "OPEN"


def canonical_answers(answers: Sequence[str]) -> list[str]:
    """Answers in one spelling: capitalised words in lower case, acronyms kept, then the most frequent casing.

    "Yes" -> "yes", "Right lung" -> "right lung", "CT" -> "CT", "X-ray" -> "X-ray".
    """
    plain = [
        re.sub(r"\b[A-Z][a-z]+\b|^A(?= )", lambda m: m[0].lower(), answer).rstrip(". ") or answer
        for answer in answers
    ]
    casings: dict[str, Counter[str]] = {}
    for answer in plain:
        casings.setdefault(answer.lower(), Counter())[answer] += 1
    return [casings[answer.lower()].most_common(1)[0][0] for answer in plain]
