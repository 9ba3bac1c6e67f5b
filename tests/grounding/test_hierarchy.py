"""Broad phrases are looked for by what lies below them; lesions are checked against their organ; by hand."""

import numpy as np
import pytest

from grounding.hierarchy import consistent, expand, ground_hierarchy
from grounding.ontology import Ontology
from grounding.types import Regions

KNOWN = (
    "left lung",
    "right lung",
    "liver",
    "left kidney",
    "right kidney",
    "lung nodule or mass",
    "lung cyst",
)
ONTOLOGY = Ontology.load().known_to(KNOWN)


@pytest.mark.parametrize(
    ("phrase", "looked_for"),
    [
        ("lung", ("right lung", "left lung")),
        ("Lungs", ("right lung", "left lung")),
        ("left lung", ("left lung",)),
        ("liver", ("liver",)),
        ("urinary organs", ("right kidney", "left kidney")),
        ("spleen", ("spleen",)),  # of the tree, but nothing is known there
        ("something else", ("something else",)),
    ],
)
def test_expand(phrase, looked_for):
    assert sorted(expand([phrase], ONTOLOGY).phrases) == sorted(looked_for)


def test_a_checkpoint_that_states_no_labels_is_asked_as_is():
    assert expand(["lung", "liver"], Ontology.load()).phrases == ("lung", "liver")


def make(boxes, phrases, asked=None):
    asked = tuple(dict.fromkeys(phrases)) if asked is None else asked
    index = np.array([asked.index(phrase) for phrase in phrases], dtype=np.int64)
    return Regions(np.array(boxes), np.linspace(0.9, 0.5, len(boxes)), index, asked, (100, 100))


LEFT, RIGHT = (50, 0, 90, 80), (10, 0, 50, 80)


class Image:
    def ground(self, phrases, *, box_threshold=None):
        self.asked = phrases
        found = {"left lung": LEFT, "right lung": RIGHT, "lung cyst": (92, 10, 98, 20)}
        hits = [phrase for phrase in phrases if phrase in found]
        return make([found[phrase] for phrase in hits], hits, tuple(phrases))


def test_answers_keep_the_phrase_asked():
    image = Image()
    regions = ground_hierarchy(image, ["liver", "lung"], ONTOLOGY)
    assert sorted(image.asked) == ["left lung", "liver", "right lung"]
    assert regions.asked == ("liver", "lung") and regions.phrases == ("lung", "lung")
    assert sorted(map(tuple, regions.boxes.tolist())) == sorted([LEFT, RIGHT])


def test_only_consistent_drops_a_lesion_outside_its_organ():
    asked = ["lung", "lung cyst"]
    assert ground_hierarchy(Image(), asked, ONTOLOGY).phrases.count("lung cyst") == 1
    kept = ground_hierarchy(Image(), asked, ONTOLOGY, only_consistent=True)
    assert kept.phrases == ("lung", "lung") and kept.missing == ("lung cyst",)


def test_regions_of_other_phrases_are_refused():
    with pytest.raises(ValueError, match="expected regions of"):
        expand(["lung"], ONTOLOGY).collapse(make([LEFT], ["left lung"]))


def test_a_lesion_lies_in_its_organ_where_its_centre_does():
    phrases = ["left lung", "lung cyst", "lung cyst", "liver", "lung nodule or mass"]
    boxes = [LEFT, (60, 10, 70, 20), (40, 10, 58, 20), (0, 80, 40, 100), (10, 85, 20, 95)]
    assert consistent(make(boxes, phrases), ONTOLOGY) == [None, True, False, None, False]


def test_without_its_organ_there_is_nothing_to_check():
    boxes = [(0, 80, 40, 100), (60, 10, 70, 20), (0, 0, 9, 9)]
    assert consistent(make(boxes, ["liver", "lung cyst", "no label"]), ONTOLOGY) == [None, None, None]
    assert consistent(Regions.empty((10, 10)), ONTOLOGY) == []
