"""Right and wrong answers with their images and boxes, as cards of a page.

Images are those of the data set, so that a page with a gallery is kept as the data is kept. No file name is
shown: names of some sets are patients' numbers.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.grounding_plots import mistakes
from benchmarks.manifest import sha256_files
from benchmarks.markup import Html, facts, tag
from benchmarks.predictions import Row
from benchmarks.run_config import RunConfig
from benchmarks.run_folder import RunFolder
from grounding.boxes import box_iou
from grounding.evaluate import find_sets
from grounding.evaluate.detections import Detections, Threshold
from grounding.evaluate.matching import AT50, take_greedily
from grounding.evaluate.targets import Target, TargetSet, read_targets
from grounding.types import MedicalImage, Regions
from medglip_agent.render import colour_of

COUNT = 12
_SIDE = 480  # pixels of the longer side of an embedded image
_MOST_BOXES = 12
_TRUE, _RIGHT, _WRONG = "#ffd43b", "#38d9a9", "#ff6b81"  # on images, which are dark in either theme


class Mark(NamedTuple):
    """A box on an image: xyxy in pixels of the original, what it is, and how it is drawn.

    `group` says what boxes of its colour have in common.
    """

    box: Sequence[float]
    text: str
    colour: str
    group: str = ""
    dashed: bool = False


def picture(image: MedicalImage, marks: Sequence[Mark]) -> Html:
    """The image, made smaller, with its boxes."""
    height, width = image.size
    stroke = [
        tag(
            "rect",
            x=round(float(x1), 1),
            y=round(float(y1), 1),
            width=round(float(x2 - x1), 1),
            height=round(float(y2 - y1), 1),
            stroke=mark.colour,
            class_="box dashed" if mark.dashed else "box",
        )
        for mark in marks
        for x1, y1, x2, y2 in [mark.box]
    ]
    return tag(
        "svg",
        tag("title", f"Image with {len(marks)} boxes"),
        tag("image", href=_jpeg(image), width=width, height=height, preserveAspectRatio="none"),
        *stroke,
        viewBox=f"0 0 {width} {height}",
        role="img",
    )


def keys(marks: Sequence[Mark]) -> Html:
    """What the colours of the boxes mean: a line each."""
    told: dict[tuple[str, str, bool], dict[str, None]] = {}
    for mark in marks:
        told.setdefault((mark.colour, mark.group, mark.dashed), {})[mark.text] = None
    entries = []
    for (colour, group, dashed), texts in told.items():
        swatch = tag("span", class_="swatch", style=f"border:2px {'dashed' if dashed else 'solid'} {colour}")
        entries.append(tag("span", swatch, f"{group}: " if group else "", ", ".join(texts)))
    return tag("p", *entries, class_="regions") if entries else Html()


def _jpeg(image: MedicalImage) -> str:
    small = Image.fromarray(image.pixels)
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def images_of(run: RunFolder, data_dir: Path) -> dict[str, Path]:
    """The image of each question or report of a run.

    Raises:
        ValueError: `data_dir` does not hold the data of the run.
    """
    from benchmarks.run_report import REPORT_TASKS
    from benchmarks.run_vqa import open_task

    settings = run.settings
    name, split = settings["task"], settings["split"]
    if run.kind == "report":
        task = REPORT_TASKS[name](data_dir, split, references=settings.get("references", "raw"))
    else:
        name = "boxes" if name == "box_questions" else name
        task = open_task(  # type: ignore[assignment]  # both are tasks
            RunConfig(data_dir=data_dir, out=run.path, task=name, split=split, model=settings["model"])
        )
    _check_data(sha256_files(task.files()), settings["data_sha256"], data_dir, run)
    return {sample.sample_id: sample.image_path for sample in task.samples()}


def _check_data(found: str, expected: str, data_dir: Path, run: RunFolder) -> None:
    if found != expected:
        raise ValueError(
            f"{data_dir} does not hold the data of {run.path}: sha256 {found[:12]}, the run had "
            f"{expected[:12]}; give the --data-dir of the run, or leave it out for a page without images"
        )


def pick(rows: Iterable[Row], count: int) -> list[Row]:
    """Rows in an order that is random but always the same; an image comes again only after all others."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["qid"].encode()).digest())
    seen: dict[str, int] = {}
    rounds = []
    for row in ordered:
        seen[row["cluster"]] = seen.get(row["cluster"], 0) + 1
        rounds.append(seen[row["cluster"]])
    return [ordered[k] for k in np.argsort(rounds, kind="stable")[:count]]


def answer_cards(
    rows: Iterable[Row], images: Mapping[str, Path], regions: Mapping[str, Regions], kind: str
) -> Html:
    """Questions or reports with what was answered, a card each; `kind` is "right" or "wrong"."""
    return tag("div", *(_answer(row, images, regions, kind) for row in rows), class_="cards")


def _answer(row: Row, images: Mapping[str, Path], regions: Mapping[str, Regions], kind: str) -> Html:
    path, shown = images.get(row["qid"]), regions.get(row["qid"])
    marks = [] if shown is None else _marks(shown)
    drawn = Html()
    if path is not None and path.is_file():
        drawn = picture(MedicalImage.open(path), marks)
    told = [("answer", row["prediction"] or "(empty)")]
    told += [("truth", row["reference"])] if row["reference"] is not None else []
    told += [("confidence", f"{row['confidence']:.2f}")] if row["confidence"] is not None else []
    told += [("scores", ", ".join(f"{k} {v:.3g}" for k, v in row["scores"].items() if v is not None))]
    told += [("failed", row["error"])] if row.get("error") else []
    told += [("sample", row["qid"])]
    asked = tag("p", row["question"], class_="asked")
    return tag("article", drawn, asked, keys(marks) if drawn else "", facts(told), class_=f"card {kind}")


def _marks(regions: Regions) -> list[Mark]:
    """The boxes of highest score, in the colours that the product gives their phrases."""
    best = np.argsort(-regions.scores, kind="stable")[:_MOST_BOXES]
    found = [
        (regions.boxes[k], regions.asked[regions.phrase_index[k]], float(regions.scores[k])) for k in best
    ]
    return [
        Mark(box.tolist(), f"{phrase} {score:.2f}", "#{:02x}{:02x}{:02x}".format(*colour_of(phrase)))
        for box, phrase, score in found
    ]


class Judged(NamedTuple):
    """One image of a grounding set with its answer and the count of its mistakes."""

    targets: TargetSet
    target: Target
    answer: Detections
    threshold: Threshold
    wrong: int


def judged_images(run: RunFolder, data_dir: Path) -> list[list[Judged]]:
    """Each set's images with what the run's first detector answered, as the run judged them.

    Raises:
        ValueError: the data is not the run's, or the run does not say what it showed.
    """
    settings, detector = run.settings, next(iter(run.detectors()))
    told = settings.get("thresholds", {}).get(detector)
    if told is None:
        raise ValueError(
            f"{run.path}/manifest.json does not say from which score {detector} shows boxes; repeat the run "
            "(its answers are kept), or leave --data-dir out for a page without images"
        )
    threshold = Threshold(told["scores"].__getitem__, told["presence"])
    hashes: Mapping[str, str] = settings["data_sha256"]
    found = []
    for folder in find_sets(data_dir, list(hashes)):
        _check_data(sha256_files([folder / "val.json"]), hashes[folder.name], data_dir, run)
        targets = read_targets(folder, limit=settings["limit"])
        answers = _own_answers(run.path / "answers" / detector, targets)
        found.append(
            [
                Judged(targets, target, answer, threshold, mistakes(target, answer, threshold))
                for target, answer in zip(targets.targets, answers, strict=True)
            ]
        )
    return found


def _own_answers(folder: Path, targets: TargetSet) -> list[Detections]:
    """The newest kept answers to the set's own labels.

    Raises:
        ValueError: there are none.
    """
    kept = folder.glob(f"{targets.name}-*.json")
    for path in sorted(kept, key=lambda each: each.stat().st_mtime, reverse=True):
        answers = [Detections.from_dict(each) for each in json.loads(path.read_text(encoding="utf-8"))]
        if len(answers) == len(targets.targets) and all(a.regions.asked == targets.labels for a in answers):
            return answers
    raise ValueError(f"{folder} holds no answers to the labels of {targets.name}; repeat the run")


def in_turn(sets: Sequence[Sequence[Judged]], count: int) -> list[Judged]:
    """The first of each set, then the second of each, ..., up to `count`."""
    ordered = sorted((place, k) for k, own in enumerate(sets) for place in range(len(own)))
    return [sets[k][place] for place, k in ordered[:count]]


def grounding_cards(images: Iterable[Judged], kind: str) -> Html:
    """Images with true boxes (dashed) and shown boxes, right or wrong at IoU .5; a card each."""
    return tag("div", *(_grounded(each, kind) for each in images), class_="cards")


def _grounded(each: Judged, kind: str) -> Html:
    marks = list(_judged_marks(each))
    drawn = picture(each.targets.open(each.target), marks)
    text = f"{each.targets.name}: {each.wrong} wrong" if each.wrong else each.targets.name
    return tag("article", drawn, tag("p", text, class_="asked"), keys(marks), class_=f"card {kind}")


def _judged_marks(each: Judged) -> Iterator[Mark]:
    labels = each.targets.labels
    for box, label in zip(each.target.boxes, each.target.labels, strict=True):
        yield Mark(box.tolist(), labels[label], _TRUE, "true", dashed=True)
    shown = each.answer.regions[each.answer.shown(each.threshold)].sorted()
    for index, phrase in enumerate(labels):
        own = shown[shown.phrase_index == index]
        truth = each.target.boxes[each.target.labels == index]
        hits = take_greedily(box_iou(own.boxes.astype(np.float64), truth))[AT50]
        for box, hit in zip(own.boxes, hits, strict=True):
            yield Mark(box.tolist(), phrase, *((_RIGHT, "right") if hit else (_WRONG, "wrong")))
