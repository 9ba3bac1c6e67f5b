"""One row, with an ontology of four labels."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from grounding.data.engine.config import BuildConfig, SourceConfig
from grounding.data.engine.regions import RegionRules
from grounding.data.engine.rows import RowMaker, as_json
from grounding.data.records import DatasetInfo, SourceImage, SourceRegion, encode_png
from grounding.data.schema import SCHEMA

PICTURE = encode_png(np.arange(60 * 80, dtype=np.uint8).reshape(60, 80))


@dataclass(frozen=True)
class ToyLabel:
    name: str
    parent: str
    granularity: str = "organ"
    side: str | None = None
    body_region: str = "chest"


class ToyOntology:
    labels = (
        ToyLabel("left lung", "lung", side="left"),
        ToyLabel("right lung", "lung", side="right"),
        ToyLabel("lung", "chest"),
        ToyLabel("nodule", "lung", "lesion"),
    )

    def canonical(self, raw, modality=None):
        return next((label for label in self.labels if label.name == raw.replace("_", " ")), None)

    def ancestors(self, name):
        label = self.canonical(name)
        return (label.parent, *self.ancestors(label.parent)) if label else ()

    def phrases(self, name, modality=None):
        return (name, f"the {name}", f"{name} on {modality}")


def image(**changes) -> SourceImage:
    regions = (
        SourceRegion("left_lung", box=np.array([2.0, 3.0, 30.5, 40.0]), attributes={"score": 1}),
        SourceRegion("odd_thing", box=np.array([5.0, 5.0, 50.0, 50.0])),
        SourceRegion("nodule", box=np.array([5.0, 5.0, 6.0, 6.0])),
    )
    fields = {
        "annotated": ("left_lung", "right_lung", "lung", "nodule", "odd_thing", "other_thing"),
        "file_name": "a/b.png",
        "modality": "CT",
        "patient": "John Doe",
        "series": "2",
        "slice_index": 4,
        "axis": "axial",
        "window": (40.0, 400.0),
        "orientation": ("P", "L"),
        "spacing_mm": (0.5, 0.5),
    }
    return SourceImage("a/b", PICTURE, (60, 80), changes.pop("regions", regions), **{**fields, **changes})


def maker(config: BuildConfig | None = None, **changes) -> RowMaker:
    source = SourceConfig("coco", Path("x"), name="set", **changes)
    config = config or BuildConfig((source,), regions=RegionRules(training_size=80))
    return RowMaker(source, DatasetInfo("set", "CC0"), config, ToyOntology())


def row(made=None, **changes):
    return (made or maker()).make(image(**changes)).row


def test_a_row_has_the_columns_of_the_schema():
    made = row()
    assert list(made) == SCHEMA.names
    assert (made["image_id"], made["dataset"], made["licence"]) == ("set/a/b", "set", "CC0")
    assert (made["height"], made["width"], made["body_region"], made["axis"]) == (60, 80, "chest", "axial")
    assert (made["window"], made["orientation"], made["spacing_mm"]) == ([40, 400], ["P", "L"], [0.5, 0.5])
    assert made["image"]["bytes"] == PICTURE
    assert len(made["perceptual_hash"]) == 16


def test_regions_carry_the_label_and_the_raw_label():
    lung, odd = row()["regions"]
    assert (lung["box"], lung["area"]) == ([2, 3, 30.5, 40], 28.5 * 37)
    assert (lung["label"], lung["raw_label"], lung["side"], lung["parent"]) == (
        "left lung",
        "left_lung",
        "left",
        "lung",
    )
    assert (lung["known"], lung["granularity"], lung["attributes"]) == (True, "organ", '{"score": 1}')
    assert (odd["label"], odd["phrase"], odd["known"], odd["granularity"]) == (
        "odd_thing",
        "odd thing",
        False,
        "",
    )
    assert odd["source_index"] == 1


def test_negatives_are_annotated_and_neither_there_nor_a_whole_of_what_is_there():
    made = row()
    assert made["annotated_labels"] == [
        "left lung",
        "right lung",
        "lung",
        "nodule",
        "odd_thing",
        "other_thing",
    ]
    # the lung is there with its left one; the nodule was dropped as tiny, but the source saw one
    assert made["absent_labels"] == ["right lung", "other_thing"]
    assert row(annotated=())["absent_labels"] == []


def test_phrases_are_drawn_by_seed_and_place_from_the_ontology():
    drawn = {
        row(maker(BuildConfig((SourceConfig("coco", Path("x")),), seed=seed)))["regions"][0]["phrase"]
        for seed in range(20)
    }
    assert drawn == {"left lung", "the left lung", "left lung on CT"}
    assert row()["regions"] == row()["regions"]


def test_the_source_s_own_phrase_wins():
    region = SourceRegion(
        "left_lung", box=np.array([2.0, 3.0, 30.0, 40.0]), attributes={"phrase": " hazy lung "}
    )
    assert row(regions=(region,))["regions"][0]["phrase"] == "hazy lung"


def test_no_patient_identifier_is_stored():
    made = row()
    assert "John" not in str({key: value for key, value in made.items() if key != "image"})
    assert len(made["patient"]) == 16
    assert row(patient=None)["patient"] == ""
    shared = [row(maker(patients="mimic"))["patient"], row(maker())["patient"]]
    assert shared[0] != shared[1]


def test_images_of_a_patient_share_a_side_and_unknown_ones_go_by_series():
    config = BuildConfig((SourceConfig("coco", Path("x")),), val_fraction=0.5)
    assert len({row(maker(config), series=str(n))["split"] for n in range(9)}) == 1
    assert len({row(maker(config), patient=None, slice_index=n)["split"] for n in range(9)}) == 1


def test_official_splits_stay_unless_told():
    assert row(split="validation")["split"] == "val"
    drawn = {row(maker(splits="patient"), split="test", patient=str(n))["split"] for n in range(12)}
    assert "train" in drawn
    with pytest.raises(ValueError, match="fold"):
        row(split="fold 2")


def test_a_thinned_slice_has_no_row_but_is_counted():
    outcome = maker(keep_every=3).make(image())
    assert (outcome.row, outcome.annotations, outcome.image_id) == (None, 3, "set/a/b")


def test_a_picture_s_own_licence_wins():
    assert row(attributes={"licence": {"id": 1, "name": "CC BY 3.0"}})["licence"] == "CC BY 3.0"
    assert row(attributes={"licence": "CC BY 4.0"})["licence"] == "CC BY 4.0"


def test_attributes_are_json_or_refused():
    assert json.loads(row(attributes={"b": 1, "a": "ä"})["attributes"]) == {"a": "ä", "b": 1}
    with pytest.raises(ValueError, match="JSON-able"):
        as_json({"value": float("nan")})


def test_a_row_does_not_depend_on_what_was_made_before():
    used = maker()
    used.make(replace(image(), key="other"))
    assert used.make(image()).row == maker().make(image()).row
