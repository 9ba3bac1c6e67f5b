"""Descriptions of true boxes: a region named and placed, and the findings of a picture with their regions.

A caption asks about a region whose name is withheld, so that it must be looked at. A grounded description is
sentences, each tied to its regions or marked ungrounded (what was looked for and is absent). Places are the
picture's, and are said only where they are certain (`boxed`). Knows no question of `box_questions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from grounding.types import Regions

from ..types import Finding
from .boxed import BoxedImage, ninth
from .instructions import Instruction
from .wording import cited, draw, joined, number_of, plural, sentence_case

UNNAMED: Final = "region"
_CAPTION_QUESTIONS: Final = (
    "What does region R{number} show?",
    "What is in region R{number}?",
    "Describe region R{number}.",
    "Name the structure in region R{number} and say where it is.",
)
_FINDINGS_QUESTIONS: Final = (
    "Describe the findings with their regions.",
    "What is seen in this picture? Cite the regions.",
    "List the findings, each with its region.",
)


def region_captions(
    images: Iterable[BoxedImage], *, per_image: int = 2, most_boxes: int = 6, seed: int = 0
) -> tuple[Instruction, ...]:
    """Ask what single regions show; all regions of the prompt are called "region".

    Args:
        images: Images with true boxes.
        per_image: The most captions of one image, of different phrases where it has them.
        most_boxes: The most boxes in a prompt.
        seed: Of the choice of boxes and of wordings.
    """
    items = []
    for image in images:
        shown = _some_boxes(image, most_boxes, seed)
        named: set[str] = set()
        for place, index in enumerate(shown):
            phrase = image.phrases[index]
            if phrase in named or len(named) == per_image:
                continue
            named.add(phrase)
            qid = f"captions/{image.source}/{image.key}/{index}"
            where = ninth(image.relative[index])
            answer = f"{sentence_case(phrase)}{f' in the {where} of the picture' if where else ''}."
            question = draw(_CAPTION_QUESTIONS, seed, qid).format(number=place + 1)
            items.append(
                Instruction(
                    qid,
                    image.image_path,
                    question,
                    answer,
                    "caption",
                    image.source,
                    image.group,
                    regions=_unnamed(image, shown),
                    region_ids=(place,),
                )
            )
    return tuple(items)


def grounded_descriptions(
    images: Iterable[BoxedImage], *, most_boxes: int = 6, most_absent: int = 2, seed: int = 0
) -> tuple[Instruction, ...]:
    """Ask for the findings of each image whose boxes fit into a prompt; answers cite ``[R1]``.

    Args:
        images: Images with true boxes.
        most_boxes: Images with more are left out.
        most_absent: The most absent phrases that are said.
        seed: Of the choice of absent phrases and of wordings.
    """
    items = []
    for image in images:
        if len(image.phrases) > most_boxes:
            continue
        regions, findings = grounded_findings(image, most_absent=most_absent, seed=seed)
        qid = f"findings/{image.source}/{image.key}"
        items.append(
            Instruction(
                qid,
                image.image_path,
                draw(_FINDINGS_QUESTIONS, seed, qid),
                findings_text(findings),
                "findings",
                image.source,
                image.group,
                phrases=regions.asked,
                regions=regions,
                region_ids=tuple(dict.fromkeys(k for finding in findings for k in finding.region_ids)),
            )
        )
    return tuple(items)


def grounded_findings(
    image: BoxedImage, *, most_absent: int = 2, seed: int = 0
) -> tuple[Regions, tuple[Finding, ...]]:
    """What an image's boxes say, one sentence a phrase, and the regions that the sentences name."""
    present = tuple(dict.fromkeys(image.phrases))
    absent = sorted(
        (phrase for phrase in image.annotated if phrase not in present),
        key=lambda phrase: number_of(seed, image.key, phrase),
    )[:most_absent]
    regions = image.regions((*present, *absent))
    findings = []
    for phrase in present:
        own = tuple(k for k, name in enumerate(regions.phrases) if name == phrase)
        findings.append(Finding(_sentence(image, phrase), own, True))
    findings += [Finding(f"No {phrase} is seen.", (), False) for phrase in absent]
    return regions, tuple(findings)


def findings_text(findings: Iterable[Finding]) -> str:
    """Sentences with their citations, as one text."""
    return " ".join(cited(finding.sentence, finding.region_ids) for finding in findings)


def _sentence(image: BoxedImage, phrase: str) -> str:
    """How many of a phrase there are, and where."""
    places = [ninth(box) for box in image.of(phrase)]
    known = list(dict.fromkeys(place for place in places if place))
    where = f" in the {joined(known)} of the picture" if known and None not in places else ""
    if len(places) == 1:
        return f"{sentence_case(phrase)}{where}."
    return f"{len(places)} {plural(phrase)}{where}."


def _some_boxes(image: BoxedImage, most: int, seed: int) -> list[int]:
    """Indices of at most `most` boxes, shuffled."""
    return sorted(range(len(image.phrases)), key=lambda k: number_of(seed, image.key, k))[:most]


def _unnamed(image: BoxedImage, indices: list[int]) -> Regions:
    """The chosen boxes under one name."""
    whole = image.regions(image.annotated)
    order = [k for phrase in image.annotated for k, own in enumerate(image.phrases) if own == phrase]
    chosen = whole[[order.index(index) for index in indices]]
    return replace(chosen, phrase_index=chosen.phrase_index * 0, asked=(UNNAMED,))
