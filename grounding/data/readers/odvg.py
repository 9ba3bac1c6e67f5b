"""ODVG jsonl of mmdetection and Open-GroundingDino: one picture a line, boxes xyxy in pixels.

Detection lines hold ``detection.instances`` of bbox, label (a number of ``label_map.json``) and category;
grounding lines hold a ``grounding.caption`` and ``regions`` of bbox (one, or a list of several), phrase and
tokens_positive, the characters of the phrase within the caption. Lines of one picture in one file are joined;
a region's label is its category or phrase, and caption and tokens_positive stay in its `attributes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError
from .annotations import (
    Record,
    box_of,
    faulty,
    find_picture,
    numbers,
    parse_json,
    picture_of_size,
    read_json,
    read_text,
    refuse_faulty,
    size_of,
    split_name,
    text_of,
)

_LINE_FIELDS = ("filename", "height", "width", "detection", "grounding")


@dataclass(frozen=True)
class Odvg:
    """A folder with jsonl files.

    Attributes:
        root: the folder; pictures lie in it, in ``images/``, or in a folder named after the file.
        info: what the manifest says.
        exhaustive: whether the pictures of detection lines are annotated for the whole label map. Captions
            mention what they like: no label is taken for absent from them.
        pattern: which jsonl files to read.
    """

    root: Path
    info: DatasetInfo
    exhaustive: bool = True
    pattern: str = "*.jsonl"

    def units(self) -> Iterator[Unit]:
        """One unit a picture and file; a broken line is a unit of its own, which is refused when read.

        Raises:
            UnitError: there are no such files, or the label map is broken.
        """
        paths = sorted(self.root.glob(self.pattern))
        if not paths:
            raise UnitError(f"{self.root}: expected {self.pattern} there; give the folder that holds it")
        label_map = _label_map(self.root)
        for path in paths:
            lines: dict[str, list[Record]] = defaultdict(list)
            for number, text in enumerate(read_text(path).splitlines(), 1):
                if text.strip():
                    try:
                        line = _line(text, f"{path}, line {number}")
                        lines[line["filename"]].append(line)
                    except UnitError as error:
                        yield faulty(f"{path.stem}/line-{number}", str(error))
            for name, own in lines.items():
                payload = {"index": path.name, "lines": own, "label_map": label_map}
                yield Unit(f"{path.stem}/{name}", payload)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """One picture with the regions of all its lines.

        Raises:
            UnitError: the picture is missing or of another size, or a line is wrong.
        """
        refuse_faulty(unit)
        index, lines, label_map = (unit.payload[name] for name in ("index", "lines", "label_map"))
        name, split = lines[0]["filename"], Path(index).stem.split(".")[0]
        where = f"{self.root / index}: {name}"
        path = find_picture(self.root, ["images", ".", split, f"images/{split}"], name)
        sizes = {size_of(line.get("height"), line.get("width"), where) for line in lines}
        if len(sizes) > 1:
            raise UnitError(f"{where}: its lines declare different sizes; correct them")
        picture, size = picture_of_size(path, sizes.pop())
        regions: list[SourceRegion] = []
        for line in lines:
            regions += [
                _instance(item, label_map, where) for item in _items(line, "detection", "instances", where)
            ]
            for item in _items(line, "grounding", "regions", where):
                regions += _phrase_regions(item, line["grounding"].get("caption"), where)
        annotated = any("detection" in line for line in lines) and self.exhaustive
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=tuple(regions),
            annotated=tuple(dict.fromkeys(label_map.values())) if annotated else (),
            file_name=name,
            modality=self.info.modality,
            split=split_name(split),
            attributes={k: v for line in lines for k, v in line.items() if k not in _LINE_FIELDS},
        )


def phrase_of(caption: object, spans: object, where: str) -> str:
    """The words of `caption` at character `spans` [[start, end], ...], joined by blanks.

    Raises:
        UnitError: a span lies outside of the caption.
    """
    text = text_of(caption, "a caption", where)
    if not isinstance(spans, list) or not spans:
        raise UnitError(f"{where}: expected tokens_positive [[start, end], ...], got {spans!r}; correct it")
    words = []
    for span in spans:
        start, end = (int(place) for place in numbers(span, 2, "a span of tokens_positive", where))
        if not 0 <= start < end <= len(text):
            raise UnitError(
                f"{where}: tokens_positive {span} is outside of its caption of {len(text)} characters"
            )
        words.append(text[start:end])
    return " ".join(words)


def _label_map(root: Path) -> dict[str, str]:
    path = root / "label_map.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise UnitError(f"{path}: expected an object from numbers to names, got {type(content).__name__}")
    return {str(number): str(name) for number, name in content.items()}


def _line(text: str, where: str) -> Record:
    line = parse_json(text, where)
    if not isinstance(line, dict) or not isinstance(line.get("filename"), str) or not line["filename"]:
        raise UnitError(f"{where}: expected an object with a filename; is it an ODVG file?")
    if "detection" not in line and "grounding" not in line:
        raise UnitError(f"{where}: has neither detection nor grounding; is it an ODVG file?")
    record: Record = line
    return record


def _items(line: Record, variant: str, name: str, where: str) -> list[Record]:
    """The objects at `line[variant][name]`; none where the line is of the other variant."""
    if variant not in line:
        return []
    items = line[variant].get(name) if isinstance(line[variant], dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UnitError(f"{where}: expected a list of objects at {variant}.{name}; correct it")
    return items


def _instance(item: Record, label_map: dict[str, str], where: str) -> SourceRegion:
    known, label = label_map.get(str(item.get("label"))), item.get("category")
    if label_map and known is None:
        raise UnitError(f"{where}: uses label {item.get('label')!r}, which label_map.json lacks; add it")
    if known is not None and label not in (None, known):
        raise UnitError(
            f"{where}: calls label {item['label']} {label!r}, label_map.json {known!r}; correct one"
        )
    box = box_of(*_corners(item.get("bbox"), where), where)
    extras = {key: value for key, value in item.items() if key not in ("bbox", "label", "category")}
    return SourceRegion(text_of(known or label, "category", where), box, attributes=extras)


def _phrase_regions(item: Record, caption: Any, where: str) -> list[SourceRegion]:
    """One region a box of the phrase."""
    spans, phrase = item.get("tokens_positive"), item.get("phrase")
    found = phrase_of(caption, spans, where) if spans is not None else None
    label = text_of(phrase if phrase is not None else found, "a phrase", where)
    boxes = item.get("bbox")
    several = isinstance(boxes, list) and bool(boxes) and isinstance(boxes[0], list)
    attributes = {key: value for key, value in item.items() if key != "bbox"} | {"caption": caption}
    return [
        SourceRegion(label, box_of(*_corners(box, where), where), attributes=attributes)
        for box in (boxes if several and isinstance(boxes, list) else [boxes])
    ]


def _corners(box: Any, where: str) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = numbers(box, 4, "bbox", where)
    return x1, y1, x2, y2
