"""FHIR R4: a Bundle of a DiagnosticReport, an Observation a statement and a region, the picture, the device.

Elements are those that R4 and R4B share; the R4B models of fhir.resources (extra `fhir`) check what is
written. They do not write it: their serialisation changes decimals. There is no subject, no patient, no
study: the picture (Media) is named by the hash of its pixels. A region's box stands in components x1, y1, x2,
y2, in pixels of that Media, origin at its top-left corner.
"""

from __future__ import annotations

import base64
import json
import uuid
from html import escape
from typing import Any, Final

from grounding.types import GroundedRegion
from llm.types import Answer, Finding

from .. import NOTICE
from ..report import against, in_brackets
from .annotated_png import encode as annotated_png
from .annotated_png import plain_png
from .codes import site_of
from .provenance import SOFTWARE, model_line, software_version
from .result import ExportError, Result
from .wording import remarks

CODES: Final = "urn:x-medglip:codes"
"""System of our own codes: statement, region, missing; x1, y1, x2, y2, score."""
PIXELS_HASH: Final = "urn:x-medglip:pixels-sha256"
"""System of the identifier of a picture: sha256 of its shape and its 8-bit RGB pixels."""

_UNITS: Final = "http://unitsofmeasure.org"
_SNOMED: Final = "http://snomed.info/sct"
_DICOM: Final = "http://dicom.nlm.nih.gov/resources/ontology/DCM"
_HEX: Final = 64  # whole hashes
_SPACE: Final = uuid.UUID(
    "5a0b9c1e-52f4-4b0c-9a8e-6f0d3f2f6f7b"
)  # any fixed one: entries of a result keep their ids
_Resource = dict[str, Any]


def encode(result: Result) -> bytes:
    """Return the checked Bundle as JSON, UTF-8.

    Raises:
        ExportError: fhir.resources is not installed.
    """
    bundle = bundle_of(result)
    check(bundle)
    return json.dumps(bundle, indent=1, ensure_ascii=False, allow_nan=False).encode()


def check(bundle: _Resource) -> None:
    """Validate a Bundle against the R4B models.

    Raises:
        ExportError: fhir.resources is not installed.
        ValueError: it is not valid (pydantic's ValidationError).
    """
    try:
        from fhir.resources.R4B.bundle import Bundle
    except ImportError as error:
        raise ExportError("FHIR needs fhir.resources, which is absent: pip install '.[fhir]'") from error
    Bundle.model_validate(bundle)


def bundle_of(result: Result) -> _Resource:
    """Return the Bundle in plain JSON types, unchecked."""
    device, media = (_entry(result, name) for name in ("device", "media"))
    device["resource"] |= _device(result)
    media["resource"] |= _media(result)
    links = {"device": device["fullUrl"], "media": media["fullUrl"]}
    regions = [_entry(result, f"region {region.index}") for region in result.regions]
    for entry, region in zip(regions, result.regions, strict=True):
        entry["resource"] |= _region(region, links)
    statements = [_entry(result, f"statement {number}") for number in range(len(result.statements))]
    for entry, statement in zip(statements, result.statements, strict=True):
        evidence = [regions[index]["fullUrl"] for index in statement.region_ids]
        entry["resource"] |= _statement(statement, result, evidence, links)
    found = [*statements, *regions]
    if result.regions.missing:
        found.append(_entry(result, "missing"))
        found[-1]["resource"] |= _missing(result, links)
    report = _entry(result, "report")
    report["resource"] |= _report(result, [entry["fullUrl"] for entry in found], links)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": result.created.isoformat(),
        "entry": [report, *found, media, device],
    }


def _entry(result: Result, name: str) -> dict[str, Any]:
    made = uuid.uuid5(_SPACE, f"{result.image.source_id} {result.created.isoformat()} {result.title} {name}")
    return {"fullUrl": f"urn:uuid:{made}", "resource": {}}


def _report(result: Result, results: list[str], links: dict[str, str]) -> _Resource:
    said = [f"{item.sentence}{in_brackets(against(item))}" for item in result.statements]
    conclusion = "\n".join([*said, *remarks(result), NOTICE])
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in [result.title, *conclusion.splitlines()])
    return {
        "resourceType": "DiagnosticReport",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>',
        },
        "status": "preliminary",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                        "code": "IMG",
                        "display": "Diagnostic Imaging",
                    }
                ]
            }
        ],
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
            ],
            "text": result.title,
        },
        "issued": result.created.isoformat(),
        **({"result": [_reference(url) for url in results]} if results else {}),
        "media": [{"comment": "the picture that boxes refer to", "link": _reference(links["media"])}],
        "conclusion": conclusion,
        "presentedForm": [
            {
                "contentType": "image/png",
                "title": "the picture with its regions",
                "data": base64.b64encode(annotated_png(result)).decode("ascii"),
            }
        ],
    }


def _statement(statement: Finding, result: Result, evidence: list[str], links: dict[str, str]) -> _Resource:
    content = result.content
    if isinstance(content, Answer) and content.abstained:
        absent = {"coding": [_absent("unknown", "Unknown")], "text": content.reason}
        value: dict[str, Any] = {"dataAbsentReason": absent}
    else:
        value = {"valueString": statement.sentence}
    return {
        **_observation("statement", "statement", links),
        **value,
        "derivedFrom": [_reference(url) for url in (*evidence, links["media"])],
        **({"note": [{"text": against(statement)}, {"text": NOTICE}]} if statement.conflict else {}),
    }


def _region(region: GroundedRegion, links: dict[str, str]) -> _Resource:
    numbers = zip(("x1", "y1", "x2", "y2"), region.box, strict=True)
    pixels = [(name, round(float(value), 2), "{pixel}") for name, value in numbers]
    components = [*pixels, ("score", round(region.score, 4), "1")]
    site = site_of(region.phrase)
    body_site = {} if site is None else {"bodySite": _body_site(region.phrase, site.code, site.name)}
    return {
        **_observation("region", f"R{region.index + 1} {region.phrase}", links),
        "valueString": region.phrase,
        **body_site,
        "derivedFrom": [_reference(links["media"])],
        "component": [
            {
                "code": {"coding": [{"system": CODES, "code": name}], "text": name},
                "valueQuantity": {
                    "value": value,
                    "unit": unit.strip("{}"),
                    "system": _UNITS,
                    "code": unit,
                },
            }
            for name, value, unit in components
        ],
    }


def _missing(result: Result, links: dict[str, str]) -> _Resource:
    return {
        **_observation("missing", "looked for and not found", links),
        "valueString": ", ".join(result.regions.missing),
        "derivedFrom": [_reference(links["media"])],
    }


def _observation(code: str, text: str, links: dict[str, str]) -> _Resource:
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"coding": [{"system": CODES, "code": code}], "text": text},
        "note": [{"text": NOTICE}],
        "device": _reference(links["device"]),
    }


def _body_site(phrase: str, code: str, name: str) -> dict[str, Any]:
    return {"coding": [{"system": _SNOMED, "code": code, "display": name}], "text": phrase}


def _media(result: Result) -> _Resource:
    image = result.image
    modality = (
        {}
        if image.modality is None
        else {"modality": {"coding": [{"system": _DICOM, "code": image.modality}], "text": image.modality}}
    )
    return {
        "resourceType": "Media",
        "identifier": [{"system": PIXELS_HASH, "value": image.source_id}],
        "status": "completed",
        **modality,
        "height": image.height,
        "width": image.width,
        "content": {
            "contentType": "image/png",
            "data": base64.b64encode(plain_png(image)).decode("ascii"),
        },
    }


def _device(result: Result) -> _Resource:
    versions = [("software", software_version())]
    versions += [(model.role, model_line(model, _HEX)) for model in result.models]
    return {
        "resourceType": "Device",
        "deviceName": [{"name": SOFTWARE, "type": "user-friendly-name"}],
        "version": [{"type": {"text": kind}, "value": value} for kind, value in versions],
        "note": [{"text": NOTICE}],
    }


def _reference(url: str) -> dict[str, str]:
    return {"reference": url}


def _absent(code: str, display: str) -> dict[str, str]:
    system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
    return {"system": system, "code": code, "display": display}
