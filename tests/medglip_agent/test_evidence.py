"""Evidence: which phrases are looked for, in which order regions come, and the command that writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions
from llm.data.vqa_rad import VQAExample
from medglip_agent import evidence as evidence_module
from medglip_agent.evidence import (
    ImageEvidence,
    is_coloured,
    vocabulary_for,
    write_evidence,
)

GREY = np.full((40, 40), 90, dtype=np.uint8)
COLOUR = np.dstack([GREY + 60, GREY, GREY])


def test_vocabulary_by_modality_or_colour(grounder: Any) -> None:
    known = grounder.ontology
    assert vocabulary_for(MedicalImage.from_array(GREY, modality="ES"), known) == ("polyp",)
    assert vocabulary_for(MedicalImage.from_array(GREY), known) == known.radiology_labels()
    assert vocabulary_for(MedicalImage.from_array(COLOUR), known) == known.names
    assert len(known.radiology_labels()) == 17 and len(known.names) == 27


def test_a_grounder_that_states_no_labels_is_asked_for_all() -> None:
    everything = Ontology.load().known_to(())
    image = MedicalImage.from_array(GREY, modality="DMS")
    assert vocabulary_for(image, everything) == Ontology.load().labels_for("DMS")


def test_what_the_grounder_does_not_know_is_read_as_what_it_does(grounder: Any, chest: MedicalImage) -> None:
    of_image = ImageEvidence(grounder, chest)
    assert of_image.gather("Is the right upper lobe clear?").mentioned == ("right lung",)
    assert of_image.gather("Is there a pneumothorax near the heart?").mentioned == ()
    assert len(grounder.calls) == 1  # nothing beyond the vocabulary was asked for


def test_small_coloured_marks_leave_a_picture_grey() -> None:
    pixels = np.repeat(GREY[:, :, None], 3, axis=2).copy()
    pixels[:4, :10, 0] = 255  # 40 of 1600 pixels
    assert not is_coloured(pixels)
    pixels[:10, :10, 0] = 255
    assert is_coloured(pixels)


def test_what_is_mentioned_comes_first(grounder: Any, chest: MedicalImage) -> None:
    found = ImageEvidence(grounder, chest).gather("Is the left lung normal?")
    assert found.mentioned == ("left lung",)
    assert found.regions.phrases == ("left lung", "right lung")
    assert found.missing == ()
    assert ImageEvidence(grounder, chest).gather("Is it normal?").regions.phrases == (
        "right lung",
        "left lung",
    )


def test_a_mention_beyond_the_vocabulary_is_looked_for_too(grounder: Any, chest: MedicalImage) -> None:
    grounder.found = {**grounder.found, "spleen": [((0, 0, 9, 9), 0.5)]}
    of_image = ImageEvidence(grounder, chest)
    found = of_image.gather("Is the spleen near the polyp?")
    assert found.asked == ("right lung", "left lung", "bone fracture", "spleen", "polyp")
    assert found.regions.phrases == ("spleen", "right lung", "left lung")
    assert found.missing == ("polyp",)
    of_image.gather("Spleen or polyp?")
    assert grounder.calls == [("right lung", "left lung", "bone fracture"), ("spleen", "polyp")]


def test_a_language_model_is_told_where_a_thing_would_be_and_nobody_is_shown_it(
    grounder: Any, chest: MedicalImage
) -> None:
    grounder.found = {"right lung": [((0, 0, 9, 9), 0.9)], "left lung": [((9, 0, 19, 9), 0.1)]}
    of_image = ImageEvidence(grounder, chest)
    found = of_image.gather("Is the left lung clear?")
    assert found.regions.phrases == ("right lung",) and found.missing == ("left lung",)
    assert found.prompted.phrases == ("right lung", "left lung")
    assert found.prompted.guesses["left lung"].tolist() == [9, 0, 19, 9]
    assert of_image.gather("Is it normal?").prompted.phrases == ("right lung",)  # only what is asked about


def test_organs_are_kept_once_and_lesions_a_few_times(grounder: Any, chest: MedicalImage) -> None:
    boxes = [((10 * i, 0, 10 * i + 9, 9), 0.9 - i / 10) for i in range(5)]
    grounder.found = {"right lung": boxes, "bone fracture": boxes}
    regions = ImageEvidence(grounder, chest).gather("").regions
    assert regions.phrases == ("right lung", "bone fracture", "bone fracture", "bone fracture")
    assert regions.scores.tolist() == pytest.approx([0.9, 0.9, 0.8, 0.7])
    asked = (
        ImageEvidence(grounder, chest)
        .gather("How many bone fractures are there near the right lung?")
        .regions
    )
    assert asked.phrases == ("bone fracture",) * 5 + ("right lung",)


def test_a_box_seen_twice_is_kept_once(grounder: Any, chest: MedicalImage) -> None:
    twice = [((0, 0, 100, 100), 0.9), ((0, 0, 100, 90), 0.8), ((0, 0, 100, 60), 0.7)]  # IoU .9, .6
    grounder.found = {"bone fracture": twice, "polyp": twice[:1]}
    regions = ImageEvidence(grounder, chest).ground(["polyp", "bone fracture"])
    assert regions.phrases == ("polyp", "bone fracture", "bone fracture")
    assert regions.scores.tolist() == pytest.approx([0.9, 0.9, 0.7])


def test_a_modality_without_labels_gives_empty_regions(grounder: Any) -> None:
    image = MedicalImage.from_array(GREY, modality="MG")
    found = ImageEvidence(grounder, image).gather("Is it normal?")
    assert (len(found.regions), found.asked, grounder.calls) == (0, (), [])


def _examples(folder: Path) -> list[VQAExample]:
    def example(qid: str, name: str, question: str) -> VQAExample:
        return VQAExample(qid, folder / name, question, "yes", "CLOSED", "PRES", "CHEST")

    return [
        example("1", "a.png", "Are the lungs normal?"),
        example("2", "b.png", "Is there a polyp?"),
        example("3", "a.png", "Is the left lung normal?"),
    ]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, chest: MedicalImage) -> list[str]:
    """Stands in for reading files; lists what was read."""
    names: list[str] = []

    def read(path: Path) -> MedicalImage:
        names.append(path.name)
        return MedicalImage.from_array(chest.pixels)

    monkeypatch.setattr(evidence_module, "MedicalImage", type("Reader", (), {"open": staticmethod(read)}))
    return names


def test_write_evidence(grounder: Any, tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "sub" / "regions.jsonl"
    assert write_evidence(grounder, _examples(tmp_path), out) == 3
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["qid"] for line in lines] == ["1", "3", "2"]
    assert lines[1]["mentioned"] == ["left lung"]
    assert Regions.from_dict(lines[1]["regions"]).phrases == ("left lung", "right lung")
    assert opened == ["a.png", "b.png"]  # each picture once


def test_write_evidence_resumes_with_the_same_result(
    grounder: Any, tmp_path: Path, opened: list[str]
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    write_evidence(grounder, _examples(tmp_path), whole)
    text = whole.read_text()
    cut.write_text(text[: text.index("\n") + 30])  # one line and a piece of the next
    assert write_evidence(grounder, _examples(tmp_path), cut) == 2
    assert cut.read_text() == text
    assert write_evidence(grounder, _examples(tmp_path), cut) == 0


def test_regions_of_two_grounders_are_not_mixed(grounder: Any, tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "regions.jsonl"
    write_evidence(grounder, _examples(tmp_path), out)
    grounder.name = "other"
    with pytest.raises(ValueError, match="expected regions of grounder 'other' as it is now"):
        write_evidence(grounder, _examples(tmp_path), out)


def test_stale_regions_are_not_continued(grounder: Any, tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "regions.jsonl"
    write_evidence(grounder, _examples(tmp_path), out)
    grounder.fingerprint = "after its calibration changed"
    with pytest.raises(ValueError, match="delete the file"):
        write_evidence(grounder, _examples(tmp_path), out)


def test_lesions_are_checked_against_their_organ() -> None:
    known = Ontology.load().known_to(("left lung", "lung nodule or mass"))
    boxes = {"left lung": (0, 0, 20, 40), "lung nodule or mass": (5, 5, 9, 9)}

    class Image:
        def ground(self, phrases: Any, *, box_threshold: float | None = None) -> Regions:
            index = range(len(phrases))
            return Regions([boxes[p] for p in phrases], [0.9] * len(phrases), index, phrases, (40, 40))

    class Grounder:
        ontology = known

        def set_image(self, image: MedicalImage) -> Image:
            return Image()

    image = MedicalImage.from_array(GREY, modality="CT")
    found = ImageEvidence(Grounder(), image).gather("Is there a nodule in the left lung?")
    verdicts = dict(zip(found.regions.phrases, found.in_organ, strict=True))
    assert verdicts == {"left lung": None, "lung nodule or mass": True}
    boxes["lung nodule or mass"] = (30, 5, 39, 9)
    assert False in ImageEvidence(Grounder(), image).gather("").in_organ
