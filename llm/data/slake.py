"""SLAKE (Liu et al. 2021; CC BY 4.0), English questions, with its boxes and masks as oracle regions.

Layout: ``train.json``, ``validate.json`` (``validation.json`` in the hub's copy), ``test.json`` (or
``<split>_en.json``, the English questions alone), ``mask.txt`` and ``imgs/xmlab<N>/`` with ``source.jpg``,
``mask.png``, ``detection.json``. Left and right in labels are the source's own and are kept as written. Knows
no protocol and no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from grounding.boxes import xywh_to_xyxy
from grounding.types import Regions

from .reading import Reading, check_unique, join_inside, load_records, need_file, need_files, one_line
from .vqa import VQAExample

SlakeSplit = Literal["train", "validate", "test"]
_LAYOUT = "the SLAKE folder with train.json, validate.json, test.json, mask.txt, imgs/xmlab<N>/source.jpg"


def read_slake(root: Path | str, split: SlakeSplit, *, images: bool = True) -> Reading[VQAExample]:
    """Read the English questions of one split, in the order of the file.

    Args:
        root: Folder in the layout above.
        split: One of `SlakeSplit`.
        images: False does not ask for the image files (for work on the text alone).

    Returns:
        The examples; ``dropped`` counts questions in another language and questions without an answer.

    Raises:
        FileNotFoundError: A file or an image named by a record is absent.
        ValueError: The split is unknown or a record is malformed.
    """
    root = Path(root)
    if split not in get_args(SlakeSplit):
        raise ValueError(f"unknown SLAKE split {split!r}; choose one of {', '.join(get_args(SlakeSplit))}")
    names = [f"{split}.json", *(["validation.json"] if split == "validate" else []), f"{split}_en.json"]
    path = next((root / name for name in names if (root / name).is_file()), root / names[0])
    dropped: Counter[str] = Counter()
    examples = []
    for record in load_records(path, _LAYOUT):
        if record.get("q_lang") != "en":
            dropped["not English"] += 1
        elif not one_line(record.get("answer")):
            dropped["no answer"] += 1
        else:
            examples.append(_example(root / "imgs", record))
    check_unique((example.qid for example in examples), "question")
    if images:
        need_files((example.image_path for example in examples), f"all images of {_LAYOUT}")
    return Reading(tuple(examples), dict(dropped))


def _example(images: Path, record: Mapping[str, Any]) -> VQAExample:
    name = f"SLAKE record {record.get('qid')}"
    try:
        return VQAExample(
            qid=str(record["qid"]),
            image_path=join_inside(images, record["img_name"], name),
            question=one_line(record["question"]),
            answer=one_line(record["answer"]),
            answer_type=record["answer_type"].strip().upper(),
            question_type=one_line(record["content_type"]),
            organ=one_line(record["location"]),
            modality=one_line(record["modality"]),
            origin=one_line(record["base_type"]),
        )
    except KeyError as error:
        raise ValueError(f"{name} lacks the field {error}") from error
    except AttributeError as error:  # a number or null where text belongs
        raise ValueError(f"{name} has a field of another type than text: {error}") from error


def slake_box_regions(examples: Iterable[VQAExample]) -> dict[str, Regions]:
    """The boxes of ``detection.json`` for each question, by `qid`: what a perfect detector would find.

    Scores are 1; the phrases asked are the labels that the source annotates in the image.

    Raises:
        FileNotFoundError: An image or its ``detection.json`` is absent.
        ValueError: A ``detection.json`` is malformed.
    """
    examples = tuple(examples)
    by_image = {path: _boxes(path) for path in dict.fromkeys(example.image_path for example in examples)}
    return {example.qid: by_image[example.image_path] for example in examples}


def slake_mask_regions(image_path: Path, codes: Mapping[int, str]) -> Regions:
    """The regions of the image's ``mask.png``: one for each label, its mask and the mask's tight box.

    Pixels whose value `codes` does not list belong to no region.

    Args:
        image_path: ``imgs/xmlab<N>/source.jpg``.
        codes: From `read_mask_codes`.

    Raises:
        FileNotFoundError: The image or its mask is absent.
        ValueError: The mask is no grey picture of the image's size.
    """
    size = _image_size(image_path)
    values = _grey(image_path.with_name("mask.png"))
    if values.shape != size:
        raise ValueError(
            f"{image_path.with_name('mask.png')} is {values.shape}, its image {size} (height, width)"
        )
    found = [code for code in np.unique(values).tolist() if code in codes]
    masks = np.array([values == code for code in found], dtype=bool).reshape(-1, *size)
    return Regions(
        boxes=np.array([_tight_box(mask) for mask in masks], dtype=np.float32),
        scores=np.ones(len(found), dtype=np.float32),
        phrase_index=np.arange(len(found)),
        asked=tuple(codes[code] for code in found),
        image_size=size,
        masks=masks,
    )


def read_mask_codes(root: Path | str) -> dict[int, str]:
    """Grey values of ``mask.png`` and their labels, from the lines of ``mask.txt`` such as ``70:Liver``.

    Raises:
        FileNotFoundError: ``mask.txt`` is absent.
        ValueError: A line is no value and label, or a value or label occurs twice.
    """
    path = need_file(Path(root) / "mask.txt", _LAYOUT)
    codes: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        value, colon, label = line.partition(":")
        if not line.strip():
            continue
        if not colon or not label.strip() or not value.strip().isdigit():
            raise ValueError(f"{path}:{number} is not VALUE:LABEL, such as 70:Liver, but {line!r}")
        if int(value) in codes or label.strip() in codes.values():
            raise ValueError(f"{path}:{number} repeats a value or a label: {line!r}")
        codes[int(value)] = label.strip()
    return codes


def _boxes(image_path: Path) -> Regions:
    """Boxes of one image; the source writes [x, y, width, height] in pixels, origin top-left."""
    path = image_path.with_name("detection.json")
    size = _image_size(image_path)
    entries = [(label, box) for found in load_records(path, _LAYOUT) for label, box in found.items()]
    labels = tuple(dict.fromkeys(label for label, _ in entries))
    try:
        xywh = np.array([box for _, box in entries], dtype=np.float32).reshape(-1, 4)
        return Regions(
            boxes=xywh_to_xyxy(xywh),
            scores=np.ones(len(entries), dtype=np.float32),
            phrase_index=np.array([labels.index(label) for label, _ in entries], dtype=np.int64),
            asked=labels,
            image_size=size,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a list of {{label: [x, y, width, height]}}: {error}") from error


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width), from the header."""
    with Image.open(need_file(path, _LAYOUT)) as picture:
        return picture.height, picture.width


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    """Grey values (H, W) of a picture whose colour channels agree."""
    with Image.open(need_file(path, _LAYOUT)) as picture:
        if picture.mode == "L":
            return np.asarray(picture)
        colours = np.asarray(picture.convert("RGB"))
    if picture.mode not in ("RGB", "RGBA", "LA", "P") or (colours != colours[:, :, :1]).any():
        raise ValueError(
            f"{path}: expected 8-bit grey values as in mask.txt, got a picture of mode {picture.mode}"
        )
    return colours[:, :, 0]


def _tight_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box (x1, y1, x2, y2) round the True pixels; right and bottom edges lie behind the last pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
