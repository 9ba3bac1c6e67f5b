"""The label tree reads questions the way a person would, in the labels that a model knows."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from grounding.ontology import Ontology

LUNGS = ("right lung", "left lung")
KIDNEYS = ("right kidney", "left kidney")


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return Ontology.load()


@pytest.fixture(scope="module")
def nano(ontology: Ontology) -> Ontology:
    """The tree as the packaged checkpoint knows it."""
    config = json.loads(resources.files("grounding").joinpath("checkpoints/nano/config.json").read_text())
    return ontology.known_to(config["labels"], config["label_modalities"])


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
        ("right middle lobe collapse", ("right lung",)),
        ("lobes of the left lung", ("left lung",)),
        ("Which lobe of the lung is affected?", LUNGS),
        ("the aortic arch", ("aorta",)),
        ("segment IV of the liver, liver segment 4", ("liver",)),
        ("a liver cyst beside a pneumothorax", ("liver",)),
        ("the kidney on the patient's left", ("left kidney",)),
        ("a melanoma", ("skin lesion",)),
        ("neutrophils", ("white blood cell",)),
        ("delivery of slivers", ()),
        ("Where is the lesion?", ()),
        ("", ()),
    ],
)
def test_mentions_in_the_labels_of_a_model(nano: Ontology, text: str, expected: tuple[str, ...]) -> None:
    assert nano.mentions(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Are the lungs normal?", LUNGS),
        ("opacity in the right upper lobe", ("right upper lung lobe",)),
        ("the left middle lobe", ()),  # there is none
        ("RENAL cysts", ("right kidney cyst", "left kidney cyst")),
        ("the left ventricle of the heart", ("left heart ventricle",)),
        ("left 3rd rib, right third rib", ("left rib 3", "right rib 3")),
        ("superior vena cava", ("superior vena cava",)),
        ("T1 weighted, T1 vertebra", ("T1 vertebra",)),
        ("the caudate nuclei", ("right caudate nucleus", "left caudate nucleus")),
        ("a rib fracture", ("right rib", "left rib", "bone fracture")),
        ("a non-enhancing brain tumor", ("non-enhancing brain tumour",)),
    ],
)
def test_mentions_in_the_whole_tree(ontology: Ontology, text: str, expected: tuple[str, ...]) -> None:
    assert ontology.mentions(text) == expected


def test_vague_words_count_only_with_a_modality(ontology: Ontology, nano: Ontology) -> None:
    assert nano.mentions("Where is the lesion?", "DMS") == ("skin lesion",)
    assert nano.mentions("Where is the lesion?", "OP") == ("hard exudate", "retinal haemorrhage")
    assert nano.mentions("Where is the lesion?", "CT") == ()
    assert nano.mentions("Where is the tumor?", "MR") == ("brain tumour",)
    assert nano.mentions("Where is the skull?", "US") == ("fetal head",)
    assert ontology.mentions("Where is the skull?", "CT") == ("skull",)
    assert "liver tumour" in ontology.mentions("Is there a mass?", "CT")


def test_every_name_and_synonym_is_understood(ontology: Ontology) -> None:
    for name in ontology.names:
        sides = {n for n in ontology.children(name) if ontology.label(n).organ == name}
        expected = sides or {name}
        assert set(ontology.mentions(f"Where is the {name}?")) == expected
        for synonym in ontology.label(name).synonyms:
            assert set(ontology.mentions(f"the {synonym}.")) == expected


def test_resolve_takes_whole_phrases_only(ontology: Ontology, nano: Ontology) -> None:
    assert ontology.resolve("the lungs") == LUNGS
    assert ontology.resolve("Left Kidney") == ("left kidney",)
    assert ontology.resolve("left ventricle") == ("left heart ventricle",)
    assert ontology.resolve("caudate nucleus") == ("right caudate nucleus", "left caudate nucleus")
    assert ontology.resolve("opacity in the left lung") == ()
    assert ontology.resolve("left lung nodule") == ()
    assert ontology.resolve("") == ()
    assert nano.resolve("right upper lobe") == ("right lung",)
    assert nano.resolve("caudate nucleus") == ()
    assert nano.resolve("liver tumour") == ()  # more than the liver


def test_labels_by_modality(ontology: Ontology, nano: Ontology) -> None:
    assert nano.labels_for("CR") == (*LUNGS, "bone fracture")
    assert nano.labels_for("ES") == ("polyp",)
    assert ontology.labels_for("MG") == nano.labels_for("MG") == ()
    assert nano.labels_for(None) == nano.names
    assert "spleen" in nano.radiology_labels() and "polyp" not in nano.radiology_labels()
    assert set(LUNGS) < set(ontology.labels_for("CT"))


def test_what_a_model_knows(ontology: Ontology) -> None:
    assert ontology.known_to(()) is ontology
    model = ontology.known_to(["spleen", "kidney", "a label of its own"], {"spleen": ("MR",)})
    assert model.names == ("spleen", "kidney")
    assert model.labels_for("MR") == ("spleen", "kidney") and model.labels_for("CT") == ("kidney",)
    assert model.mentions("the left kidney, the liver and the renal pelvis") == ("kidney",)
    assert model.label("liver").name == "liver"
    assert ontology.label("spleen").modalities == ("CT", "MR", "US")


def test_label_fields(ontology: Ontology) -> None:
    kidney = ontology.label("left kidney")
    assert (kidney.side, kidney.organ, kidney.parent, kidney.granularity, kidney.body_region) == (
        "left",
        "kidney",
        "kidney",
        "organ",
        "abdomen",
    )
    assert ontology.label("polyp").side is None
    assert kidney.snomed == ontology.label("kidney").snomed == "64033007"
    assert ontology.label("left pulmonary artery").synonyms[0] == "left pulmonary trunk"


def test_the_tree(ontology: Ontology) -> None:
    assert ontology.ancestors("left kidney") == ("kidney", "urinary organs", "abdomen")
    lobe = ("upper lung lobe", "left lung", "lung", "lungs and airways", "thorax")
    assert ontology.ancestors("left upper lung lobe") == lobe
    assert ontology.ancestors("right middle lung lobe") == ("right lung", *lobe[2:])
    assert ontology.ancestors("L3 vertebra") == ("vertebra", "spine", "vertebral column", "whole body")
    assert ontology.children("kidney")[:2] == KIDNEYS
    assert ontology.children("adrenal glands") == ("adrenal gland",)
    assert "urinary organs" in ontology.children("abdomen")
    with pytest.raises(KeyError, match="did you mean 'pancreas'"):
        ontology.children("pancras")


def test_nearest(ontology: Ontology) -> None:
    assert ontology.nearest("liver", {"liver", "spleen"}) == "liver"
    assert ontology.nearest("left upper lung lobe", LUNGS) == "left lung"
    assert ontology.nearest("left kidney", {"kidney"}) == "kidney"
    assert ontology.nearest("hepatocellular carcinoma", {"liver", "liver lesion"}) == "liver lesion"
    assert ontology.nearest("spleen", {"liver"}) is None


def test_phrases(ontology: Ontology) -> None:
    assert ontology.phrases("left kidney", "CT") == (
        "left kidney",
        "the left kidney",
        "the patient's left kidney",
        "kidney on the patient's left",
        "left kidney on CT",
        "CT: left kidney",
    )
    assert ontology.phrases("oesophagus") == ("oesophagus", "esophagus", "gullet", "the oesophagus")
    for name in ontology.names:
        phrases = ontology.phrases(name, "MR")
        assert phrases[0] == name and len(set(phrases)) == len(phrases)


def test_an_unknown_label_names_the_nearest(ontology: Ontology) -> None:
    with pytest.raises(KeyError, match="did you mean 'pancreas'"):
        ontology.label("pancras")
    assert ontology.suggest("erythrocites")[0] == "red blood cell"
    assert ontology.suggest("lungs") == LUNGS
    assert ontology.suggest("zzz") == ()


def test_the_tree_covers_the_training_data(nano: Ontology, data_dir: Path) -> None:
    names: set[str] = set()
    for path in data_dir.glob("grounding/*/train.json"):
        for category in json.loads(path.read_text())["categories"]:
            names.add(category["name"])
            for synonym in category.get("synonyms", []):
                assert nano.mentions(synonym) == (category["name"],)
    assert names == set(nano.names)
