"""VQA-RAD in its three forms.

- ``trainset.json``, ``testset.json``, ``images/``: the common form, and the project's own (`read_vqa_rad`).
- ``VQA_RAD Dataset Public.json``, ``VQA_RAD Image Folder/``: the authors' release (`read_vqa_rad_public`).
- ``data/*.parquet``: the hub's (`read_vqa_rad_hub`), which says neither answer type nor organ.

Owns the reading and the spelling clean-up of the records; answers are returned as written (protocols
normalise them). Two families of splits exist and must never be crossed: ``official-*`` (all its test images
also occur in its train part) and ``disjoint-*`` (no image, and no near-duplicate of one, in two parts;
``image_disjoint_split.json``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from .hub_vqa import read_hub_vqa
from .reading import Reading, check_unique, join_inside, load_json, load_records, need_files, one_line
from .vqa import VQAExample as VQAExample  # its home before other sets came; imported from here since

Split = Literal["official-train", "official-test", "disjoint-train", "disjoint-val", "disjoint-test"]
PublicSplit = Literal["train", "test"]

_SPELLING = {"PRSE": "PRES", "ATRIB": "ATTRIB"}
_LAYOUT = "the VQA-RAD folder with trainset.json, testset.json, images/"
_PUBLIC_LAYOUT = "the VQA-RAD folder with 'VQA_RAD Dataset Public.json' and 'VQA_RAD Image Folder'/"


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
        records = load_records(root / f"{split.removeprefix('official-')}set.json", _LAYOUT)
        return _examples(root / "images", records, _LAYOUT)
    records = [
        record for part in ("train", "test") for record in load_records(root / f"{part}set.json", _LAYOUT)
    ]
    parts = load_json(root / "image_disjoint_split.json", _LAYOUT)["qids"]
    wanted = set(map(str, parts[split.removeprefix("disjoint-")]))
    chosen = [record for record in records if str(record.get("qid")) in wanted]
    if len(chosen) != len(wanted):
        missing = sorted(wanted - {str(record["qid"]) for record in chosen})[:5]
        raise ValueError(
            f"{root}: {split} names questions that no file holds, such as {missing}; the files do not match"
        )
    return _examples(root / "images", chosen, _LAYOUT)


def read_vqa_rad_public(root: Path | str, split: PublicSplit) -> Reading[VQAExample]:
    """Read one split of the authors' release, in the order of the file.

    A question belongs to the test part where its ``phrase_type`` is ``test_freeform`` or ``test_para``, to
    the train part otherwise (1,797 and 451 in the release of 2018). ``dropped`` counts unanswered ones.

    Args:
        root: Folder that holds ``VQA_RAD Dataset Public.json`` and ``VQA_RAD Image Folder/``.
        split: ``train`` or ``test``.

    Raises:
        FileNotFoundError: A file or an image named by a record is absent.
        ValueError: The split is unknown or a record is malformed.
    """
    root = Path(root)
    _check_public(split)
    records = load_records(root / "VQA_RAD Dataset Public.json", _PUBLIC_LAYOUT)
    part = [record for record in records if _is_test(record) == (split == "test")]
    answered = [record for record in part if one_line(record.get("answer"))]
    examples = _examples(root / "VQA_RAD Image Folder", answered, _PUBLIC_LAYOUT)
    unanswered = len(part) - len(answered)
    return Reading(tuple(examples), {"no answer": unanswered} if unanswered else {})


def read_vqa_rad_hub(root: Path | str, split: PublicSplit, cache: Path | str) -> Reading[VQAExample]:
    """Read one split of the hub's parquet form (1,793 train and 451 test questions).

    Its answer types are told from the answers (`llm.data.vqa.answer_type_of`), so that closed and open scores
    are not comparable with those of the other forms.

    Args:
        root: Folder that holds ``data/*.parquet``.
        split: ``train`` or ``test``.
        cache: Folder that the images are written to, each once.

    Raises:
        FileNotFoundError: Files of the split are absent.
        ValueError: The split is unknown or a row is malformed.
    """
    _check_public(split)
    return read_hub_vqa(Path(root), split, Path(cache), "`medglip data fetch vqa-rad` downloads them")


def _is_test(record: dict[str, Any]) -> bool:
    return one_line(record.get("phrase_type")) in ("test_freeform", "test_para")


def _check_public(split: str) -> None:
    if split not in get_args(PublicSplit):
        raise ValueError(f"unknown VQA-RAD split {split!r}; choose one of {', '.join(get_args(PublicSplit))}")


def _examples(images: Path, records: Iterable[dict[str, Any]], layout: str) -> list[VQAExample]:
    """Turn raw records into checked examples."""
    examples = [_example(images, record) for record in records]
    check_unique((example.qid for example in examples), "question")
    need_files((example.image_path for example in examples), f"all images of {layout}")
    return examples


def _example(images: Path, record: dict[str, Any]) -> VQAExample:
    """Build one example; answers that are numbers in the file become text."""
    name = f"VQA-RAD record {record.get('qid')}"
    try:
        return VQAExample(
            qid=str(record["qid"]),
            image_path=join_inside(images, record["image_name"], name),
            question=one_line(record["question"]),
            answer=one_line(record["answer"]),
            answer_type=record["answer_type"].strip().upper(),
            question_type=_question_type(record["question_type"]),
            organ=record["image_organ"].strip().upper(),
            origin=one_line(record.get("phrase_type")).removeprefix("test_"),
        )
    except KeyError as error:
        raise ValueError(f"{name} lacks the field {error}") from error
    except AttributeError as error:  # a number or null where text belongs
        raise ValueError(f"{name} has a field of another type than text: {error}") from error


def _question_type(text: str) -> str:
    """Correct the source's spelling and order multiple types: ``"PRES, ATRIB"`` -> ``"ATTRIB, PRES"``."""
    types = (part.strip().upper() for part in text.split(","))
    return ", ".join(sorted(_SPELLING.get(t, t) for t in types))
