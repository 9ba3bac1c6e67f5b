"""DICOM SR, TID 1500: a planar ROI a region, its box as a closed polyline in pixels of the source image.

Needs highdicom (extra `dicom-sr`) and the DICOM file that the picture was read from: an SR belongs to its
study and takes patient and study from that file. It is the one export that carries identifiers. SCOORD
coordinates have their origin at the top-left corner of the top-left pixel (PS3.3 C.18.6.1.2), as our boxes
do; boxes are clipped to the picture. Scores and phrases stand in codes of the private scheme 99MEDGLIP, sites
in SNOMED CT.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from grounding.boxes import clip_boxes
from grounding.types import GroundedRegion, Regions
from llm.types import Report

from .. import NOTICE
from ..report import against, in_brackets
from .codes import SNOMED_SIDES, site_of
from .dicom_source import REMEDY, check_same, open_reference, silence
from .provenance import SOFTWARE, Model, model_line, software_version
from .result import ExportError, Result, SourceFrame
from .wording import remarks

SCHEME: Final = "99MEDGLIP"
_SCORE: Final = ("score", SCHEME, "Detection score, 0 to 1")
_PIXELS: Final = ("{pixels}", "UCUM", "pixels")
_DEIDENTIFIED: Final = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
_LONGEST_MEANING: Final = 64  # characters of a Code Meaning, PS3.5 6.2 (LO)
_HEX: Final = 64  # whole hashes


def check_source(source: SourceFrame | None) -> None:
    """Check, before anything is computed, that there is something to point into.

    Raises:
        ExportError: see `open_reference`.
    """
    open_reference(source)


def encode(result: Result) -> bytes:
    """Return the SR as a DICOM file.

    Raises:
        ExportError: highdicom is not installed, the result's source is absent or another picture's, or there
            is no region, without which TID 1500 allows no report.
    """
    if not len(result.regions):
        raise ExportError("a DICOM SR needs a region to report, and none was found: choose another format")
    reference = open_reference(result.source)
    check_same(result)
    content = _content(result, reference)
    with silence():
        document = _document(content, reference)
        for keyword in _DEIDENTIFIED:  # highdicom copies only that identity was removed, not how
            if keyword in reference:
                document[keyword] = reference[keyword]
        buffer = io.BytesIO()
        document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(data: bytes, image_size: tuple[int, int] | None = None) -> Regions:
    """Return the planar ROIs of a TID 1500 SR; each is taken by its bounding box, xyxy in pixels.

    Args:
        data: the file.
        image_size: (height, width) of the picture; None where the SR tells it, as ours do.

    Raises:
        ExportError: highdicom is not installed, it is no such SR, or the size is not known.
    """
    highdicom = _highdicom()
    try:
        document = highdicom.sr.srread(io.BytesIO(data))
        groups = document.content.get_planar_roi_measurement_groups()
    except (AttributeError, RuntimeError, ValueError) as error:
        raise ExportError(f"expected a DICOM SR after TID 1500, which this file is not ({error})") from error
    size = image_size or _stated_size(document)
    groups = [group for group in groups if group.roi is not None]
    phrases = [_phrase(group.finding_type) for group in groups]
    asked = tuple(dict.fromkeys(phrases))
    boxes = [_bounds(np.asarray(group.roi.value)) for group in groups]
    return Regions(
        np.array(boxes, dtype=np.float32),
        np.array([_score(group) for group in groups], dtype=np.float32),
        np.array([asked.index(phrase) for phrase in phrases], dtype=np.int64),
        asked,
        size,
    )


def _document(content: Any, reference: Dataset) -> Any:
    highdicom = _highdicom()
    try:
        return highdicom.sr.ComprehensiveSR(
            evidence=[reference],
            content=content,
            series_instance_uid=highdicom.UID(),
            series_number=1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=SOFTWARE,
            manufacturer_model_name=SOFTWARE,
            software_versions=software_version(),
            series_description=NOTICE,
            specific_character_set="ISO_IR 192",  # ours; the source's names are encoded anew
        )
    except (TypeError, ValueError) as error:  # its message quotes the source
        raise ExportError(
            f"the picture's file breaks the standard in what an SR takes from it (patient or study): {REMEDY}"
        ) from error


def _content(result: Result, reference: Dataset) -> Any:
    sr = _highdicom().sr
    origin = sr.SourceImageForRegion(
        reference.SOPClassUID, reference.SOPInstanceUID, _frames(result, reference)
    )
    algorithm = _algorithm(result.models)
    content = sr.MeasurementReport(
        observation_context=_observer(result.models),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[_group(region, result, origin, algorithm) for region in result.regions],
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.extend(_root_items(result))
    return content


def _frames(result: Result, reference: Dataset) -> list[int] | None:
    """The frame's number, from 1; None for a file of one frame, where DICOM wants none."""
    count = int(reference.get("NumberOfFrames") or 1)
    frame = result.source.frame if result.source is not None else None
    return None if count == 1 else [(frame or 0) % count + 1]


def _group(region: GroundedRegion, result: Result, origin: Any, algorithm: Any) -> Any:
    sr = _highdicom().sr
    x1, y1, x2, y2 = (float(v) for v in clip_boxes(region.box[None], result.image.size)[0])
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    site = site_of(region.phrase)
    score = sr.Measurement(name=_code(*_SCORE), value=round(region.score, 4), unit=codes.UCUM.NoUnits)
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(_highdicom().UID(), f"R{region.index + 1}"),
        referenced_region=sr.ImageRegion("POLYLINE", corners, origin),
        finding_type=_concept(region.phrase, region.phrase),
        algorithm_id=algorithm,
        finding_sites=None if site is None else [_site(site.code, site.name, site.side)],
        measurements=[score],
    )


def _site(code: str, name: str, side: str | None) -> Any:
    sr = _highdicom().sr
    value, meaning = SNOMED_SIDES.get(side or "", ("", ""))
    laterality = _code(value, "SCT", meaning) if value else None
    return sr.FindingSite(_code(code, "SCT", name), laterality)


def _root_items(result: Result) -> list[Any]:
    """The picture's size, what was said, and the notice: TID 1500 is extensible at its root."""
    sr = _highdicom().sr
    size = ((codes.DCM.PixelDataRows, result.image.height), (codes.DCM.PixelDataColumns, result.image.width))
    texts = [
        (codes.DCM.Finding, f"{item.sentence}{in_brackets(against(item))}") for item in result.statements
    ]
    if isinstance(result.content, Report):
        texts.append((codes.DCM.Impression, result.content.impression))
    else:
        texts += [(codes.DCM.Comment, remark) for remark in remarks(result)]
    if result.question.strip():
        texts.append((codes.DCM.Comment, f"Question: {result.question.strip()}"))
    if result.regions.missing:
        texts.append((codes.DCM.Comment, f"Looked for and not found: {', '.join(result.regions.missing)}"))
    texts.append((codes.DCM.Comment, NOTICE))
    contains = sr.RelationshipTypeValues.CONTAINS
    items = [
        sr.NumContentItem(name, value, _code(*_PIXELS), relationship_type=contains) for name, value in size
    ]
    return items + [
        sr.TextContentItem(name, text, relationship_type=contains) for name, text in texts if text
    ]


def _observer(models: Iterable[Model]) -> Any:
    """The software as device observer; its UID follows from version and models."""
    highdicom = _highdicom()
    lines = [f"{SOFTWARE} {software_version()}", *(model_line(model, _HEX) for model in models)]
    made = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(lines))
    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=highdicom.UID.from_uuid(str(made)),
        name=SOFTWARE,
        manufacturer_name=SOFTWARE,
        model_name=", ".join(f"{model.role} {model.name}" for model in models) or SOFTWARE,
    )
    context = highdicom.sr.ObserverContext(codes.DCM.Device, device)
    return highdicom.sr.ObservationContext(observer_device_context=context)


def _algorithm(models: Iterable[Model]) -> Any:
    parameters = [model_line(model, _HEX) for model in models]
    return _highdicom().sr.AlgorithmIdentification(
        name=SOFTWARE, version=software_version(), parameters=[*parameters, NOTICE]
    )


def _concept(value: str, meaning: str) -> Any:
    """A private code; backslashes and control characters have no place in DICOM's strings."""
    words = [
        " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in text).split())
        for text in (value, meaning)
    ]
    return _code(words[0], SCHEME, words[1][:_LONGEST_MEANING])


def _code(value: str, scheme: str, meaning: str) -> Any:
    return _highdicom().sr.CodedConcept(value, scheme, meaning)


def _phrase(finding: Any) -> str:
    """The phrase of ours, which is the code itself; of other programs' codes the meaning."""
    if finding is None:
        return "region"
    return str(finding.value if finding.scheme_designator == SCHEME else finding.meaning)


def _score(group: Any) -> float:
    """The score of ours; 1 where another program gives none."""
    found = [
        m.value for m in group.get_measurements() if (m.name.value, m.name.scheme_designator) == _SCORE[:2]
    ]
    return float(found[0]) if found else 1.0


def _bounds(points: npt.NDArray[Any]) -> list[float]:
    return [*points[:, :2].min(axis=0).tolist(), *points[:, :2].max(axis=0).tolist()]


def _stated_size(document: Any) -> tuple[int, int]:
    found = {}
    for item in document.ContentSequence:
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeValue
            found[name] = int(item.MeasuredValueSequence[0].NumericValue)
    try:
        return found[codes.DCM.PixelDataRows.value], found[codes.DCM.PixelDataColumns.value]
    except KeyError as error:
        raise ExportError(
            "this SR does not say how large its picture is: give image_size (height, width)"
        ) from error


def _highdicom() -> Any:
    try:
        import highdicom
        import highdicom.sr
    except ImportError as error:
        raise ExportError("DICOM needs highdicom, which is absent: pip install '.[dicom-sr]'") from error
    return highdicom
