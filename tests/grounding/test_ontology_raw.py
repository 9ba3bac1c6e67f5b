"""Raw labels of data sets lead to the right label or to none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.ontology import Ontology

SIDED = """kidney lung_upper_lobe lung_lower_lobe adrenal_gland subclavian_artery common_carotid_artery
brachiocephalic_vein iliac_artery iliac_vena humerus scapula clavicula femur hip gluteus_maximus
gluteus_medius gluteus_minimus autochthon iliopsoas kidney_cyst"""
MIDLINE = """spleen gallbladder liver stomach pancreas esophagus trachea thyroid_gland small_bowel duodenum
colon urinary_bladder prostate sacrum heart aorta pulmonary_vein brachiocephalic_trunk superior_vena_cava
atrial_appendage_left inferior_vena_cava portal_vein_and_splenic_vein spinal_cord brain skull sternum
costal_cartilages lung_middle_lobe_right vertebrae_S1"""
TOTAL_SEGMENTATOR = [
    *(f"{name}_{side}" for name in SIDED.split() for side in ("left", "right")),
    *(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
    *(f"vertebrae_{s}{n}" for s, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)),
    *MIDLINE.split(),
]
SETS = {
    "BTCV, AMOS, FLARE": (
        "CT",
        "spleen|right kidney|left kidney|gall bladder|esophagus|liver|stomach|aorta|postcava|pancreas|"
        "right adrenal gland|left adrenal gland|duodenum|bladder|prostate/uterus|inferior vena cava|"
        "portal vein and splenic vein",
    ),
    "BraTS": (
        "MR",
        "whole tumor|tumor core|enhancing tumor|necrotic tumor core|non-enhancing tumor|edema|"
        "peritumoral edema|resection cavity",
    ),
    "KiTS, LiTS, MSD": (
        "CT",
        "kidney|kidney tumor|kidney cyst|liver|liver tumor|lung cancer|pancreas cancer|hepatic vessel|"
        "colon cancer primaries|hepatic tumor",
    ),
    "MSD on MR": ("MR", "Anterior hippocampus|Posterior hippocampus|left atrium|peripheral zone"),
    "ACDC, CAMUS": ("US", "LV myocardium|left ventricle|right ventricle|left atrium|myocardium"),
    "ChestX-Det": (
        "DX",
        "Atelectasis|Calcification|Cardiomegaly|Consolidation|Diffuse Nodule|Effusion|Emphysema|Fibrosis|"
        "Fracture|Mass|Nodule|Pleural Thickening|Pneumothorax",
    ),
    "VinDr-CXR": (
        "DX",
        "Aortic enlargement|Atelectasis|Calcification|Cardiomegaly|Clavicle fracture|Consolidation|Edema|"
        "Emphysema|Enlarged PA|ILD|Infiltration|Lung Opacity|Lung cavity|Lung cyst|Mediastinal shift|"
        "Nodule/Mass|Pleural effusion|Pleural thickening|Pneumothorax|Pulmonary fibrosis|Rib fracture|"
        "Lung tumor|Pneumonia|Tuberculosis",
    ),
    "MS-CXR": (
        "CR",
        "Atelectasis|Cardiomegaly|Consolidation|Edema|Lung Opacity|Pleural Effusion|Pneumonia|Pneumothorax",
    ),
    "fundus": ("OP", "optic disc|optic cup|macula|fovea|Microaneurysms|Haemorrhages|Soft Exudates|vessel"),
    "dermoscopy": ("DMS", "lesion|Melanoma|nevus|pigment_network|milia_like_cyst|basal cell carcinoma"),
    "endoscopy": ("ES", "polyp|instrument|z-line|ulcerative-colitis|dyed-lifted-polyps|cecum|esophagitis"),
    "cells": ("SM", "RBC|WBC|Platelets|Neoplastic|Lymphocyte|Neutrophil|gland|nuclei|mitotic figure"),
}


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return Ontology.load()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("gluteus_maximus_left", "left gluteus maximus"),
        ("right_lung", "right lung"),
        ("liver tumor", "liver tumour"),
        ("Rt kidney", "right kidney"),
        ("BARRETT'S_OESOPHAGUS", "Barrett's oesophagus"),
        ("hepatic_tumor", "liver tumour"),
        ("LUNG-UPPER-LOBE-LEFT", "left upper lung lobe"),
        ("lung_upper_lobe_left", "left upper lung lobe"),
        ("rib_left_1", "left rib 1"),
        ("heart_blood_pool", "heart blood pool"),
        ("vertebrae_T12", "T12 vertebra"),
        ("heart_ventricle_left", "left heart ventricle"),
        ("left_atrial_appendage", "left atrial appendage"),
        ("Eye_L", "left eye"),
        ("SpinalCord", "spinal cord"),
        ("OpticNerve_R", "right optic nerve"),
        ("kidney", "kidney"),
        ("Kidneys", "kidney"),
        ("left pleural effusion", "pleural effusion"),  # where a lesion lies does not change what it is
        ("lobe of the left lung", "left lung lobe"),
    ],
)
def test_examples(ontology: Ontology, raw: str, expected: str) -> None:
    label = ontology.canonical(raw)
    assert (label and label.name) == expected


@pytest.mark.parametrize(
    "raw",
    """|left|thing|left liver|left middle lung lobe|left right kidney|mass|T1|renal|no finding|other lesion|
    opacity in the left lung|liver and spleen|not the liver|'|'_'|s'""".split("|"),
)
def test_what_is_not_known_is_not_guessed(ontology: Ontology, raw: str) -> None:
    assert ontology.canonical(raw) is None


def test_some_raw_labels_need_the_modality(ontology: Ontology) -> None:
    codes = ("CR", "MR", "CT", None)
    found = [ontology.canonical("Edema", code) for code in codes]
    assert [label and label.name for label in found] == ["pulmonary oedema", "brain oedema", None, None]


def test_all_structures_of_total_segmentator(ontology: Ontology) -> None:
    assert len(set(TOTAL_SEGMENTATOR)) == 117
    labels = {raw: ontology.canonical(raw, "CT") for raw in TOTAL_SEGMENTATOR}
    assert [raw for raw, label in labels.items() if label is None] == []
    assert len({label.name for label in labels.values() if label}) == 117
    for raw, label in labels.items():
        assert label is not None and "CT" in label.modalities
        sides = [side for side in ("left", "right") if f"_{side}" in raw]
        assert [label.side] == (sides or [None])


@pytest.mark.parametrize("name", SETS)
def test_data_sets(ontology: Ontology, name: str) -> None:
    modality, raw = SETS[name]
    assert [label for label in raw.split("|") if ontology.canonical(label, modality) is None] == []


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_spelling_of_any_name_gives_its_label(data: st.DataObject) -> None:
    ontology = Ontology.load()
    label = ontology.label(data.draw(st.sampled_from(ontology.names)))
    spelling = data.draw(st.sampled_from((label.name, *label.synonyms)))
    words = spelling.split()
    if words[0] == label.side:
        written = {"left": ["left", "LT", "l"], "right": ["right", "Rt", "R"]}[words.pop(0)]
        words.insert(data.draw(st.integers(0, len(words))), data.draw(st.sampled_from(written)))
    case = data.draw(st.sampled_from((str.lower, str.upper, str.title, str.swapcase, str)))
    raw = data.draw(st.sampled_from((" ", "_", "-", "  "))).join(case(word) for word in words)
    found = ontology.canonical(raw)
    assert found is not None and found.name == label.name, raw


@settings(max_examples=200, deadline=None)
@given(raw=st.text(alphabet=st.one_of(st.characters(), st.sampled_from("'\u2019_-/sSlr ")), max_size=30))
def test_any_text_is_read_without_an_error(raw: str) -> None:
    Ontology.load().canonical(raw)
    Ontology.load().mentions(raw)
    Ontology.load().resolve(raw)
