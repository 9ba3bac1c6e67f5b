"""FHIR: valid after the R4B models, made of elements that R4 has, without a patient."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Finding, Report
from medglip_agent import NOTICE
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.exports import Model, Result
from medglip_agent.exports.fhir import CODES, PIXELS_HASH, bundle_of, check, encode

QUESTION = "Which lung is more opaque?"
# The elements of R4 (4.0.1) that may be used; R4B (4.3.0) has them unchanged.
R4 = {
    "Bundle": {"type", "timestamp", "entry"},
    "DiagnosticReport": {
        *("text", "status", "category", "code", "issued", "result", "media", "conclusion", "presentedForm"),
    },
    "Observation": {
        *("status", "code", "note", "device", "valueString", "dataAbsentReason", "derivedFrom", "bodySite"),
        "component",
    },
    "Media": {"identifier", "status", "modality", "height", "width", "content"},
    "Device": {"deviceName", "version", "note"},
}


@pytest.fixture(params=["answer", "abstention", "report", "grounding", "nothing found"])
def result(request: pytest.FixtureRequest, agent: MedGLIPAgent, chest: MedicalImage) -> Result:
    made = {
        "answer": lambda: agent.ask(chest, QUESTION),
        "abstention": lambda: Answer(
            "I cannot say.", Regions.empty(chest.size), None, True, (), "No <lung>."
        ),
        "report": lambda: agent.report(chest),
        "grounding": lambda: agent.ground(chest, ["lungs", "polyp"]),
        "nothing found": lambda: Regions.empty(chest.size, ["polyp"]),
    }
    return Result(chest, made[request.param](), (Model("grounder", "toy", {"a": "ab" * 32}),), QUESTION)


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in bundle["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "reference" in value:
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_valid(result: Result) -> None:
    pytest.importorskip("fhir.resources.R4B", reason="fhir.resources is absent: pip install '.[fhir]'")
    bundle = json.loads(encode(result))
    check(bundle)
    bundle["entry"][0]["resource"]["status"] = ["wrong"]
    with pytest.raises(ValueError, match="status"):
        check(bundle)


def test_only_elements_of_r4_and_no_patient(result: Result) -> None:
    bundle = bundle_of(result)
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        assert set(resource) - {"resourceType"} <= R4[resource["resourceType"]]
    for resource in (*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")):
        assert resource["status"] == "preliminary" and "subject" not in resource
        assert not {"valueString", "dataAbsentReason"} <= set(resource), "rule obs-6"


def test_references_stay_inside(result: Result) -> None:
    bundle = bundle_of(result)
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    assert set(references(bundle)) == set(urls[1:]), "every entry but the report is referred to"


def test_it_carries_notice_and_models(result: Result) -> None:
    bundle = bundle_of(result)
    (report,), (device,) = resources(bundle, "DiagnosticReport"), resources(bundle, "Device")
    assert NOTICE in report["conclusion"] and NOTICE in report["text"]["div"]
    assert "<lung>" not in report["text"]["div"]
    assert "ab" * 32 in device["version"][1]["value"]
    for observation in resources(bundle, "Observation"):
        assert observation["note"] == [{"text": NOTICE}]


def test_a_region_is_its_box_its_score_and_its_site(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    bundle = bundle_of(Result(chest, agent.ask(chest, QUESTION), (), QUESTION))
    statement, _, left, *_ = resources(bundle, "Observation")
    values = {c["code"]["coding"][0]["code"]: c["valueQuantity"]["value"] for c in left["component"]}
    assert values == {"x1": 110.0, "y1": 20.0, "x2": 190.0, "y2": 180.0, "score": 0.49}
    assert left["component"][0]["valueQuantity"]["code"] == "{pixel}"
    assert left["component"][0]["code"]["coding"][0]["system"] == CODES
    assert left["bodySite"]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": "39607008",
        "display": "lung",
    }
    assert statement["valueString"] == "left [R2]."
    urls = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    assert [urls[r["reference"]]["resourceType"] for r in statement["derivedFrom"]] == [
        "Observation",
        "Media",
    ]
    assert urls[statement["derivedFrom"][0]["reference"]] == left


def test_what_speaks_against_a_statement_is_noted(chest: MedicalImage) -> None:
    finding = Finding("No polyp.", (), False, "polyp was found.")
    bundle = bundle_of(Result(chest, Report((finding,), "None.", Regions.empty(chest.size))))
    (statement,), (report,) = resources(bundle, "Observation"), resources(bundle, "DiagnosticReport")
    assert statement["note"] == [{"text": "contradicted: polyp was found"}, {"text": NOTICE}]
    assert report["conclusion"].startswith("No polyp. (contradicted: polyp was found)\n")


def test_the_picture_is_named_by_its_hash(chest: MedicalImage) -> None:
    bundle = bundle_of(Result(chest, Regions.empty(chest.size)))
    (media,) = resources(bundle, "Media")
    assert media["identifier"] == [{"system": PIXELS_HASH, "value": chest.source_id}]
    assert (media["height"], media["width"]) == chest.size
    assert base64.b64decode(media["content"]["data"]).startswith(b"\x89PNG")
