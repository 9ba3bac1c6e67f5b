"""Each sentence of a report has its regions or is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from grounding.types import MedicalImage, PixelSpacing, Regions
from llm.types import Answer, Generation, Report, SpatialPrompt
from medglip_agent import NOTICE
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.report import ReportQuestion, build_report, report_text, written_report


def test_findings_and_impression(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    grounder.found = {**grounder.found, "bone fracture": [((0, 0, 20, 24), 0.6)]}
    vlm.replies = {"effusion": "Yes.", "consolidation": "left [R9]"}
    report = MedGLIPAgent(grounder, vlm).report(chest)
    sentences = [(f.sentence, f.region_ids) for f in report.findings]
    fracture = "Bone fracture is suspected in the upper left of the picture (20 x 24 px, 1 % of the picture)."
    assert sentences[1] == (fracture, (1,))
    assert sentences[3:] == [
        ("Pneumothorax: no.", ()),
        ("Pleural effusion: Yes.", ()),
        ("Lung consolidation: left.", (2,)),
        ("Enlarged heart: no.", ()),
    ]
    assert report.impression == (
        "Suspected bone fracture [R2]. The language model answers yes to: "
        f"pleural effusion (no region supports this). {NOTICE}"
    )


def test_ungrounded_sentences_are_marked(agent: MedGLIPAgent, chest: MedicalImage) -> None:
    text = report_text(agent.report(chest))
    assert "- Pneumothorax: no. (not grounded)" in text
    assert "(80 x 160 px, 27 % of the picture). [R1]" in text
    assert "No lesion was found; this does not exclude disease. Looked for: bone fracture." in text
    assert NOTICE in text


def test_nothing_found_in_a_kind_of_image_without_questions(grounder: Any, vlm: Any) -> None:
    image = MedicalImage.from_array(np.zeros((30, 30), dtype=np.uint8), modality="ES")
    report = MedGLIPAgent(grounder, vlm).report(image)
    assert report.findings == () and vlm.prompts == []
    assert "Looked for: polyp." in report.impression


def test_many_regions_are_counted(grounder: Any, vlm: Any) -> None:
    grounder.found = {"platelet": [((4 * i, 0, 4 * i + 3, 5), 0.9) for i in range(3)]}
    image = MedicalImage.from_array(np.zeros((30, 30), dtype=np.uint8), modality="SM")
    agent = MedGLIPAgent(grounder, vlm)
    assert len(agent.report(image).findings) == 3
    grounder.found = {"platelet": [((4 * i, 0, 4 * i + 3, 5), 0.9) for i in range(7)]}
    assert agent.ask(image, "Show me the platelets").text == "Platelet: 7 regions [R1] [R2] [R3] ..."


def test_sizes_in_mm_where_the_spacing_is_known(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    detector = MedicalImage(chest.pixels, "CR", spacing=PixelSpacing(0.5, 0.25, "detector"))
    report = MedGLIPAgent(grounder, vlm).report(detector)
    assert "(20 x 80 mm at the detector, 27 % of the picture)" in report.findings[0].sentence


def fracture(found: bool) -> Regions:
    one = Regions(np.array([[0, 0, 20, 24]]), np.array([0.6]), np.array([0]), ("bone fracture",), (240, 200))
    return one if found else one[[]]


def test_replies_that_the_grounder_contradicts_are_marked(chest: MedicalImage) -> None:
    question = ReportQuestion("Fracture", "Is there a bone fracture?")

    def reported(reply: str, before: bool, again: bool) -> Report:
        reply_and_confidence = [Generation(reply, 0.9)]
        return build_report(
            chest, fracture(before), [question], reply_and_confidence, lambda *_: fracture(again)
        )

    denied = reported("no", True, True)
    assert denied.findings[-1].conflict == "bone fracture was found [R1] with score 0.60."
    assert "Fracture: no. [R1] (contradicted: bone fracture was found" in report_text(denied)
    claimed = reported("yes", False, False)
    assert claimed.findings[-1].conflict == "bone fracture was looked for and not found."
    found_now = reported("yes", False, True)
    assert (found_now.findings[-1].region_ids, found_now.findings[-1].conflict) == ((0,), "")
    assert reported("left", True, True).findings[-1].conflict == ""


def test_the_agent_looks_again_for_what_its_report_claims(grounder: Any, vlm: Any) -> None:
    image = MedicalImage.from_array(np.zeros((240, 200), dtype=np.uint8), modality="MR")
    grounder.found = {}
    vlm.replies = {"mass": "yes"}
    report = MedGLIPAgent(grounder, vlm).report(image)
    (mass,) = [finding for finding in report.findings if finding.sentence == "Mass: yes."]
    assert mass.conflict == "brain tumour was looked for and not found."
    assert grounder.calls[-1] == ("brain tumour",)
    assert [step.name for step in report.steps] == ["image", "grounding", "generation", "check"]
    assert report.steps[-1].outcome == "no region; not found: brain tumour"
    answer = MedGLIPAgent(grounder, vlm).ask(image, "Write a report")
    assert (
        "Mass: yes. (not grounded) (contradicted: brain tumour was looked for and not found)" in answer.text
    )
    *_, streamed = MedGLIPAgent(grounder, vlm).stream(image, "Write a report")
    assert isinstance(streamed, Answer) and streamed.text == answer.text


def test_what_is_said_of_an_organ_does_not_deny_it(grounder: Any, vlm: Any, chest: MedicalImage) -> None:
    grounder.found = {**grounder.found, "heart": [((60, 90, 150, 180), 0.9)]}
    report = MedGLIPAgent(grounder, vlm).report(chest)
    assert "Enlarged heart: no." in [f.sentence for f in report.findings]
    assert not [f for f in report.findings if f.conflict]


def test_a_report_in_the_models_own_words(grounder: Any, chest: MedicalImage) -> None:
    vlm = FakeReporter()
    report = written_report(vlm, chest, fracture(True), lambda *_: fracture(True), grounder.ontology)
    assert [(f.sentence, f.region_ids, bool(f.conflict)) for f in report.findings] == [
        ("There is no bone fracture.", (), True),
        ("The heart is normal.", (), False),
    ]


class FakeReporter:
    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        return [Generation("Findings: There is no bone fracture. The heart is normal.", 0.5) for _ in prompts]
