"""The file behind the label tree: its size, its codes, and what the loader refuses."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import yaml
from pydicom.sr._concepts_dict import concepts

from grounding.ontology import Ontology, parse_ontology
from grounding.types import MODALITIES


def test_size() -> None:
    ontology = Ontology.load()
    fine = [name for name in ontology.names if not ontology.children(name)]
    assert len(fine) >= 198
    assert len(ontology.classes) >= 38
    assert ontology.regions == ("head and neck", "thorax", "abdomen", "pelvis", "limbs", "whole body")
    assert {ontology.label(n).granularity for n in ontology.names} == {
        "organ",
        "substructure",
        "lesion",
        "cell",
    }
    for name in ontology.names:
        label = ontology.label(name)
        assert label.modalities and set(label.modalities) <= set(MODALITIES)
        assert ontology.ancestors(name)[-1] == label.body_region
        assert ontology.ancestors(name)[-2] in ontology.classes
        assert name in ontology.children(label.parent)


def test_no_key_of_the_file_stands_twice() -> None:
    def check(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(set(keys)) == len(keys), sorted(keys)
        for child in node.value if isinstance(node, yaml.CollectionNode) else ():
            for part in child if isinstance(child, tuple) else (child,):
                check(part)

    text = resources.files("grounding").joinpath("labels.yaml").read_text(encoding="utf-8")
    check(yaml.compose(text, Loader=yaml.CSafeLoader))


def test_codes_agree_with_dicom() -> None:
    meanings: dict[str, set[str]] = {}
    for codes in concepts["SCT"].values():
        for code, (meaning, _) in codes.items():
            meanings.setdefault(code, set()).add(meaning.split(" (")[0])
    ontology = Ontology.load()
    coded = [label for n in ontology.names if (label := ontology.label(n)).snomed is not None]
    assert len(coded) > 290
    known = [label for label in coded if label.snomed in meanings]
    assert len(known) == len(coded)
    for label in known:
        found = [ontology.canonical(meaning) for meaning in meanings[label.snomed or ""]]
        assert label.snomed in {f.snomed for f in found if f}, (label.name, meanings[label.snomed or ""])


def _file(lesions: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    organs = {"liver": {"adjectives": ["hepatic"]}, "kidney": {"sides": "both", "synonyms": ["ren"]}}
    block = {"modalities": "CT", "organs": organs, "lesions": lesions or {}}
    return {"regions": {"abdomen": {"abdominal organs": block}}, **more}


def test_a_small_tree() -> None:
    ontology = parse_ontology(_file({"liver cyst": {"in": "liver", "modalities": "CT MR"}}))
    assert ontology.names == ("liver", "kidney", "right kidney", "left kidney", "liver cyst")
    assert ontology.label("liver cyst").modalities == ("CT", "MR")
    assert ontology.ancestors("liver cyst") == ("liver", "abdominal organs", "abdomen")


@pytest.mark.parametrize(
    ("lesions", "message"),
    [
        ({"a": {"in": "b"}, "b": {"in": "a"}}, "'a' lies in itself: b in a in b|lies in itself"),
        ({"cyst": {"in": "livr"}}, "unknown parent 'livr'; nearest: liver"),
        ({"cyst": {"synonyms": ["REN"]}}, "'REN' is written twice, for 'right kidney' and for 'cyst'"),
        ({"cyst": {"synonyms": ["cysts"]}}, "'cysts' is written twice"),
        ({"cyst": {"raw": ["Ren"]}}, "'Ren' is written twice, for 'cyst' and for 'kidney'"),
        ({"liver": {}}, "'liver' is written twice"),
        ({"left kidney": {}}, "'left kidney' is the name of two things"),
        ({"abdominal organs": {}}, "names of classes and of labels"),
        ({"cyst": {"modalities": "CT XY"}}, "unknown modality 'XY' of 'cyst'"),
        ({"cyst": {"sides": "above"}}, "unknown side 'above' of 'cyst'"),
        ({"cyst": {"left": ["x"]}}, "needs `sides`"),
        ({"cyst": {"synonym": ["x"]}}, "unknown field \\['synonym'\\] of 'cyst'"),
    ],
)
def test_a_tree_that_contradicts_itself_is_refused(lesions: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_ontology(_file(lesions))


def test_groups_and_sections_are_checked_too() -> None:
    with pytest.raises(ValueError, match="unknown granularity 'blobs' in 'c'"):
        parse_ontology({"regions": {"r": {"c": {"modalities": "CT", "blobs": {"x": None}}}}})
    with pytest.raises(ValueError, match="'livr' is not a label; nearest: liver"):
        parse_ontology(_file(groups={"organs": {"labels": ["livr"]}}))
    with pytest.raises(ValueError, match="'livr' is not a label"):
        parse_ontology(_file(by_modality={"mass": {"CT": "livr"}}))
    with pytest.raises(ValueError, match="'hepatic' is written twice, for 'liver' and for 'not_labels'"):
        parse_ontology(_file(not_labels=["hepatic"]))
