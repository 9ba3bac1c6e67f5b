"""IU-Xray, the Indiana University chest X-rays of Open-i (CC BY-NC-ND 4.0), in two layouts.

- Open-i: ``ecgen-radiology/<number>.xml`` and ``NLMCXR_png/<image id>.png`` (`read_iu_xray`); no split.
- R2Gen's (Chen et al. 2020): ``annotation.json`` and ``images/<study>/0.png`` (`read_iu_xray_r2gen`), with
  the split that report generation uses; its text is the findings only.

The licence allows no derivatives: texts are returned as written ("XXXX" is the source's own mark of what was
taken out) and are to be stored nowhere else. The source says nothing of patients.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree
from xml.parsers import expat

from .reading import Reading, check_unique, join_inside, load_json, need_files, one_line
from .reports import ReportExample

R2GenSplit = Literal["train", "val", "test"]
_LAYOUT = "the Open-i folder with ecgen-radiology/*.xml and NLMCXR_png/*.png"
_R2GEN_LAYOUT = "R2Gen's folder iu_xray with annotation.json and images/<study>/0.png"


def read_iu_xray(root: Path | str, *, images: bool = True) -> Reading[ReportExample]:
    """Read all studies in the order of their file numbers, with all their images.

    Args:
        root: Folder in Open-i's layout.
        images: False does not ask for the image files (for work on the text alone).

    Returns:
        The studies, labelled with their MeSH headings; ``dropped`` counts studies without an image and those
        without findings.

    Raises:
        FileNotFoundError: There are no reports, or an image is absent.
        ValueError: A report is malformed or declares entities; the file is named.
    """
    root = Path(root)
    paths = sorted((root / "ecgen-radiology").glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise FileNotFoundError(f"{root / 'ecgen-radiology'} holds no reports; expected {_LAYOUT}")
    examples: list[ReportExample] = []
    dropped: Counter[str] = Counter()
    for path in paths:
        study = _parse(path)
        ids = [image.get("id", "") for image in study.iter("parentImage")]
        findings = _section(study, "FINDINGS")
        if not ids or not findings:
            dropped["no image" if not ids else "no findings"] += 1
            continue
        terms = [one_line(term.text) for term in study.iterfind("MeSH/major")]
        examples.append(
            ReportExample(
                study_id=_study_id(study, path),
                image_paths=tuple(join_inside(root / "NLMCXR_png", f"{name}.png", path.name) for name in ids),
                findings=findings,
                impression=_section(study, "IMPRESSION"),
                split="",
                labels={term: 1.0 for term in terms if term},
            )
        )
    check_unique((example.study_id for example in examples), "study")
    if images:
        need_files((image for example in examples for image in example.image_paths), _LAYOUT)
    return Reading(tuple(examples), dict(dropped))


def read_iu_xray_r2gen(root: Path | str, split: R2GenSplit) -> Reading[ReportExample]:
    """Read one split of R2Gen's copy, in the order of the file.

    Raises:
        FileNotFoundError: The annotation or an image is absent.
        ValueError: The split is unknown or a record is malformed; the record is named.
    """
    root = Path(root)
    if split not in get_args(R2GenSplit):
        raise ValueError(f"unknown R2Gen split {split!r}; choose one of {', '.join(get_args(R2GenSplit))}")
    annotation = load_json(root / "annotation.json", _R2GEN_LAYOUT)
    records = annotation.get(split) if isinstance(annotation, dict) else None
    if not isinstance(records, list):
        raise ValueError(f"{root / 'annotation.json'}: expected an object with train, val and test lists")
    reported = [record for record in records if one_line(record.get("report"))]
    examples = tuple(_r2gen_example(root / "images", record, split) for record in reported)
    check_unique((example.study_id for example in examples), "study")
    need_files((image for example in examples for image in example.image_paths), _R2GEN_LAYOUT)
    silent = len(records) - len(reported)
    return Reading(examples, {"no findings": silent} if silent else {})


def _r2gen_example(images: Path, record: dict[str, Any], split: str) -> ReportExample:
    name = f"R2Gen record {record.get('id')}"
    try:
        paths = tuple(join_inside(images, path, name) for path in record["image_path"])
        return ReportExample(str(record["id"]), paths, one_line(record["report"]), "", split)
    except KeyError as error:
        raise ValueError(f"{name} lacks the field {error}") from error


def _parse(path: Path) -> ElementTree.Element:
    """The root of a report; a document type, the only place that entities can be declared in, is refused."""
    data = path.read_bytes()
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = _refuse_doctype
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ValueError) as error:
        raise ValueError(f"{path.name} is no report of Open-i: {error}") from error


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it declares a document type, which reports do not; entities could be anything")


def _section(study: ElementTree.Element, label: str) -> str:
    """The text of one labelled section, on one line."""
    texts = [node for node in study.iter("AbstractText") if node.get("Label") == label]
    return one_line(" ".join("".join(node.itertext()) for node in texts))


def _study_id(study: ElementTree.Element, path: Path) -> str:
    node = study.find("uId")
    if node is None or not node.get("id"):
        raise ValueError(f"{path.name} lacks the element uId with an id")
    return str(node.get("id"))
