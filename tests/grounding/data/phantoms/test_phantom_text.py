"""Questions, answers and report sentences of phantoms say what the regions say, and nothing else."""

import re
from functools import cache

import numpy as np
import pytest

from grounding.data.phantoms import MODALITIES, Phantom, make_phantom
from grounding.data.phantoms.labels import PHANTOM_LABELS
from grounding.data.phantoms.text import PICTURES, ask_about, plural, write_report
from grounding.types import Regions

SEEDS = range(8)
KINDS = {"modality", "presence", "count", "side", "where", "larger", "measure"}
PLURALS = {plural(name): name for table in PHANTOM_LABELS.values() for name in table}
NAMES = sorted({name for table in PHANTOM_LABELS.values() for name in table}, key=len, reverse=True)


@cache
def phantom(modality: str, seed: int) -> Phantom:
    return make_phantom(modality, seed, size=192)


def named_in(text: str) -> list[str]:
    """The names in a question or a sentence, longest first, each word once."""
    text, found = text.replace("retinal vasculature", "retinal vessel"), []
    for name in NAMES:
        for spelling in (name, plural(name)):
            if re.search(rf"\b{spelling}\b", text):
                found.append(name)
                text = re.sub(rf"\b{spelling}\b", "", text)
    return found


def areas(regions: Regions, name: str) -> int:
    return sum(int(region.mask.sum()) for region in regions if region.phrase == name)


@pytest.mark.parametrize("modality", MODALITIES)
def test_yes_and_no_and_counts_are_those_of_the_regions(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        present = [item for item in drawn.qa if item.kind == "presence"]
        assert "no" in {item.answer for item in present}
        for item in present:
            (name,) = named_in(item.question)
            assert item.answer == ("yes" if name in drawn.regions.phrases else "no"), item
            assert item.phrases == ((name,) if item.answer == "yes" else ())
        for item in drawn.qa:
            if item.kind == "count":
                (name,) = named_in(item.question)
                assert int(item.answer) == drawn.regions.phrases.count(name)


def test_yes_is_as_usual_as_no() -> None:
    answers = [q.answer for m in MODALITIES for s in SEEDS for q in phantom(m, s).qa if q.kind == "presence"]
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


@pytest.mark.parametrize("modality", ["CR", "CT", "MR"])
def test_sides_are_the_patients(modality: str) -> None:
    asked = 0
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        for item in drawn.qa:
            if item.kind == "side":
                assert "of the patient" in item.question
                (name,) = named_in(item.question)
                x = [np.nonzero(r.mask)[1].mean() for r in drawn.regions if r.phrase == name]
                assert all((centre < 96) == (item.answer == "right") for centre in x), item
                asked += 1
    assert asked > 5


def test_what_lies_in_the_middle_has_no_side() -> None:
    asked = {
        q.question for m in ("CR", "CT", "MR") for s in SEEDS for q in phantom(m, s).qa if q.kind == "side"
    }
    assert not [q for q in asked if any(name in q for name in ("trachea", "vertebra", "aorta", "the brain?"))]


@pytest.mark.parametrize("modality", ["US", "ES", "DMS", "OP"])
def test_sides_are_the_pictures_where_nobody_knows_better(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        for item in drawn.qa:
            if item.kind == "side" and "eye" not in item.question:
                assert "of the image" in item.question
                (name,) = named_in(item.question)
                x = [(r.box[0] + r.box[2]) / 2 for r in drawn.regions if r.phrase == name]
                assert all((centre > 96) == (item.answer == "right") for centre in x), item


@pytest.mark.parametrize("modality", MODALITIES)
def test_places_are_those_of_the_masks(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        for item in drawn.qa:
            if item.kind != "where":
                continue
            (name,) = named_in(item.question)
            boxes = [r.box for r in drawn.regions if r.phrase == name]
            if "of the image" in item.answer:
                ((x1, y1, x2, y2),) = boxes
                assert ("left" in item.answer) == ((x1 + x2) / 2 < 64)
                assert ("right" in item.answer) == ((x1 + x2) / 2 >= 128)
                assert ("upper" in item.answer) == ((y1 + y2) / 2 < 64)
                assert ("lower" in item.answer) == ((y1 + y2) / 2 >= 128)
            else:
                holders = named_in(item.answer)
                assert set(item.phrases) == {name, *holders}
                for region in drawn.regions:
                    if region.phrase == name:
                        inside = [(region.mask <= r.mask).all() for r in drawn.regions if r.phrase in holders]
                        assert any(inside)


def test_the_larger_is_larger_and_measures_hold() -> None:
    kinds = set()
    for seed in range(12):
        for modality in ("CR", "CT", "MR", "OP"):
            drawn = phantom(modality, seed)
            box = {region.phrase: region.box for region in drawn.regions}
            for item in drawn.qa:
                if item.question.endswith("is larger?"):
                    other = next(phrase for phrase in item.phrases if phrase != item.answer)
                    assert areas(drawn.regions, item.answer) > areas(drawn.regions, other)
                elif item.question == "Is the heart enlarged?":
                    chest = max(box[f"{s} lung"][2] for s in ("right", "left")) - box["right lung"][0]
                    ratio = (box["heart"][2] - box["heart"][0]) / chest
                    assert item.answer == ("yes" if ratio > 0.5 else "no")
                elif item.question == "Is the optic cup enlarged?":
                    heights = [box[name][3] - box[name][1] for name in ("optic cup", "optic disc")]
                    assert item.answer == ("yes" if heights[0] > 0.6 * heights[1] else "no")
                elif "left eye" in item.question:
                    assert (box["optic disc"][0] > box["macula"][0]) == (item.answer == "right")
                else:
                    continue
                kinds.add((item.question, item.answer))
    for question in ("Is the heart enlarged?", "Is the optic cup enlarged?"):
        assert {(question, "yes"), (question, "no")} <= kinds


def test_the_more_opaque_lung_holds_more() -> None:
    for seed in range(12):
        drawn = phantom("CR", seed)
        lungs = {r.phrase: r.mask for r in drawn.regions if r.phrase.endswith("lung")}
        lesions = [
            r.mask for r in drawn.regions if r.phrase in ("pleural effusion", "lung opacity", "lung nodule")
        ]
        burden = {name: sum(int((mask & lung).sum()) for mask in lesions) for name, lung in lungs.items()}
        for item in drawn.qa:
            if item.question == "Which lung is more opaque?":
                assert item.answer == max(burden, key=lambda name: burden[name])


@pytest.mark.parametrize("modality", MODALITIES)
def test_report_agrees_with_the_regions(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        text = " ".join(sentence.text for sentence in drawn.report)
        for sentence in drawn.report[1:]:
            names = named_in(sentence.text)
            assert set(sentence.phrases) <= set(drawn.regions.phrases), "every phrase has a region"
            if sentence.text.startswith("No ") or sentence.text.endswith("not seen."):
                assert names[0] not in drawn.regions.phrases
            else:
                assert set(names) <= set(sentence.phrases), f"all that is said is pointed at: {sentence}"
            if found := re.match(r"There are (\d+) ", sentence.text):
                assert drawn.regions.phrases.count(sentence.phrases[0]) == int(found[1])
            elif sentence.text.startswith("There is"):
                assert drawn.regions.phrases.count(sentence.phrases[0]) == 1 or "oedema" in sentence.text
        for name, label in PHANTOM_LABELS[modality].items():
            if label.granularity in ("lesion", "cell"):
                assert name in named_in(text), f"{name} is spoken of"
                assert (f"No {name}." in text) == (name in drawn.regions.missing)


@pytest.mark.parametrize("modality", MODALITIES)
def test_kinds_are_known_and_phrases_have_regions(modality: str) -> None:
    for seed in SEEDS:
        drawn = phantom(modality, seed)
        assert {item.kind for item in drawn.qa} <= KINDS
        assert len({item.question for item in drawn.qa}) == len(drawn.qa), "no question twice"
        assert all(set(item.phrases) <= set(drawn.regions.phrases) for item in drawn.qa)
        assert drawn.qa[-1].answer == PICTURES[modality]


def test_a_hand_made_picture() -> None:
    """Two polyps and no diverticulum on a colon of 10 x 10 pixels."""
    masks = np.zeros((3, 10, 10), dtype=bool)
    masks[0] = True
    masks[1, 1:3, 6:8] = True
    masks[2, 7:9, 7:9] = True
    boxes = np.array([[0, 0, 10, 10], [6, 1, 8, 3], [7, 7, 9, 9]], dtype=np.float32)
    asked = tuple(PHANTOM_LABELS["ES"])
    index = np.array([asked.index(name) for name in ("colon", "polyp", "polyp")])
    regions = Regions(boxes, np.ones(3, np.float32), index, asked, (10, 10), masks)
    answers = {item.question: item.answer for item in ask_about("ES", regions, np.random.default_rng(0))}
    assert answers["How many polyps are there?"] == "2"
    assert answers["On which side of the image are the polyps?"] == "right"
    assert answers["Is there a diverticulum?"] == "no"
    assert [sentence.text for sentence in write_report("ES", regions)] == [
        "Colonoscopy.",
        "Visible is the colon.",
        "There are 2 polyps.",
        "No diverticulum.",
    ]


@pytest.mark.parametrize(
    ("name", "many"),
    [("lung opacity", "lung opacities"), ("cell nucleus", "cell nuclei"), ("diverticulum", "diverticula")],
)
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many
