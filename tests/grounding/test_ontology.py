"""The label tree reads questions the way a person would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grounding.ontology import Ontology, parse_ontology

LUNGS = ("right lung", "left lung")
KIDNEYS = ("right kidney", "left kidney")


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return Ontology.load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Are the lungs normal?", LUNGS),
        ("Which lung is more opaque?", LUNGS),
        ("Is the left lung clear?", ("left lung",)),
        ("left lung", ("left lung",)),
        ("opacity in the right upper lobe", ("right lung",)),
        ("left-sided lung", ("left lung",)),
        ("Is the lesion in the right or left lung?", LUNGS),
        ("the kidney on the left", ("left kidney",)),
        ("Is the liver right of the left kidney?", ("liver", "left kidney")),
        ("left versus right-sided lung", LUNGS),
        ("Is the kidney left of the aorta?", (*KIDNEYS, "aorta")),
        ("Are both kidneys present?", KIDNEYS),
        ("right kidney, left adrenal gland", ("right kidney", "left adrenal gland")),
        ("Is it on the left. Lungs?", LUNGS),
        ("left kidney and spleen", ("left kidney", "spleen")),
        ("left kidney and kidney", ("left kidney", "right kidney")),
        ("RENAL cyst", KIDNEYS),
        ("Is there an esophageal mass?", ("oesophagus",)),
        ("a brain tumor", ("brain tumour",)),
        ("retina lesions", ("hard exudate", "retinal haemorrhage")),
        ("retinal hemorrhages", ("retinal haemorrhage",)),
        ("optic disk", ("optic disc",)),
        ("white blood cells and platelets", ("white blood cell", "platelet")),
        ("how many blood cells", ("red blood cell", "white blood cell", "platelet")),
        ("Is there a rib fracture", ("bone fracture",)),
        ("portal vein", ("portal vein and splenic vein",)),
        ("the caudate nucleus", ()),
        ("superior vena cava", ()),
        ("vena cava", ("inferior vena cava",)),
        ("delivery of slivers", ()),
        ("Where is the lesion?", ()),
        ("", ()),
    ],
)
def test_mentions(ontology: Ontology, text: str, expected: tuple[str, ...]) -> None:
    assert ontology.mentions(text) == expected


def test_vague_words_count_only_with_a_modality(ontology: Ontology) -> None:
    assert ontology.mentions("Where is the lesion?", "DMS") == ("skin lesion",)
    assert ontology.mentions("Where is the lesion?", "OP") == ("hard exudate", "retinal haemorrhage")
    assert ontology.mentions("Where is the lesion?", "CT") == ()
    assert ontology.mentions("Where is the tumor?", "MR") == ("brain tumour",)


def test_every_name_and_synonym_is_understood(ontology: Ontology) -> None:
    for name in ontology.names:
        assert ontology.mentions(f"Where is the {name}?") == (name,)
        for synonym in ontology.label(name).synonyms:
            assert ontology.mentions(f"the {synonym}.") == (name,)


def test_resolve_takes_whole_phrases_only(ontology: Ontology) -> None:
    assert ontology.resolve("the lungs") == LUNGS
    assert ontology.resolve("Left Kidney") == ("left kidney",)
    assert ontology.resolve("opacity in the left lung") == ()
    assert ontology.resolve("caudate nucleus") == ()
    assert ontology.resolve("") == ()


def test_labels_by_modality(ontology: Ontology) -> None:
    assert ontology.labels_for("CR") == (*LUNGS, "bone fracture")
    assert ontology.labels_for("ES") == ("polyp",)
    assert ontology.labels_for("MG") == ()
    assert ontology.labels_for(None) == ontology.names
    assert "spleen" in ontology.radiology_labels()
    assert "polyp" not in ontology.radiology_labels()


def test_label_fields(ontology: Ontology) -> None:
    kidney = ontology.label("left kidney")
    assert (kidney.side, kidney.organ, kidney.parent, kidney.granularity) == (
        "left",
        "kidney",
        "kidney",
        "organ",
    )
    assert ontology.label("polyp").side is None


def test_an_unknown_label_names_the_nearest(ontology: Ontology) -> None:
    with pytest.raises(KeyError, match="did you mean 'pancreas'"):
        ontology.label("pancras")
    assert ontology.suggest("erythrocites")[0] == "red blood cell"
    assert ontology.suggest("lungs") == LUNGS
    assert ontology.suggest("zzz") == ()


def _tree(**changes: Any) -> dict[str, Any]:
    liver = {"parent": "organ", "granularity": "organ", "modalities": ["CT"], "synonyms": ["hepatic"]}
    return {"labels": {"liver": liver}} | changes


def test_a_tree_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="'livr' is not a label"):
        parse_ontology(_tree(groups={"organs": {"labels": ["livr"], "synonyms": []}}))
    with pytest.raises(ValueError, match="'hepatic' is written twice"):
        parse_ontology(_tree(not_labels=["hepatic"]))
    wrong = {"parent": "x", "granularity": "blob", "modalities": [], "synonyms": []}
    with pytest.raises(ValueError, match="granularity of 'x'"):
        parse_ontology({"labels": {"x": wrong}})


def test_the_tree_covers_the_training_data(ontology: Ontology, data_dir: Path) -> None:
    names: set[str] = set()
    for path in data_dir.glob("grounding/*/train.json"):
        for category in json.loads(path.read_text())["categories"]:
            names.add(category["name"])
            for synonym in category.get("synonyms", []):
                assert ontology.mentions(synonym) == (category["name"],)
    assert names == set(ontology.names)
