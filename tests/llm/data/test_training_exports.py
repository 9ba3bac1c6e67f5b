"""Exports read back by the rules of the programs that will read them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from grounding.types import Regions
from llm.data.exports import export_sharegpt, export_swift, sharegpt_record, swift_record
from llm.data.instructions import Instruction
from llm.prompt import NANO_STYLE, TEXT_STYLE
from llm.spatial import LocTokens, TextBoxes

REGIONS = Regions(
    np.array([[10, 20, 110.25, 80], [150, 50, 190, 90]]),
    np.array([0.9, 0.5]),
    np.array([0, 1]),
    ("liver", "spleen", "aorta"),
    (100, 200),
)


def item(**changes):
    fields = {
        "qid": "a/1",
        "image_path": Path("/data/1.png"),
        "question": "Which is larger, the liver or the spleen? Is the aorta seen?",
        "answer": "liver [R1]",
        "kind": "larger",
        "source": "a",
        "group": "g",
        "regions": REGIONS,
    }
    return Instruction(**fields | changes)


TEXT = item(qid="t/1", image_path=None, question="What is a liver?", answer="an organ", regions=None)
NONE_FOUND = item(
    qid="a/2", question="Is the aorta seen?", answer="no", regions=Regions.empty((9, 9), ("aorta",))
)


def expand_swift(record, image_size):
    """What ms-swift makes of a record for a model that reads 0..1000: tags give way to boxes in order."""
    height, width = image_size
    boxes = iter(record.get("objects", {}).get("bbox", []))

    def write(match):
        x1, y1, x2, y2 = next(boxes)
        return str(
            [
                round(x1 / width * 1000),
                round(y1 / height * 1000),
                round(x2 / width * 1000),
                round(y2 / height * 1000),
            ]
        )

    turns = [re.sub("<bbox>", write, message["content"]) for message in record["messages"]]
    assert next(boxes, None) is None, "a box without a tag"
    return turns


def test_swift_boxes_stand_where_their_tags_are():
    record = swift_record(item())
    asked, answered = expand_swift(record, (100, 200))
    assert asked == (
        "<image>[R1] liver [50, 200, 551, 800] high\n[R2] spleen [750, 500, 950, 900] medium\n"
        "No region found: aorta\nWhich is larger, the liver or the spleen? Is the aorta seen?"
    )
    assert answered == "liver [R1]"
    assert record["images"] == ["/data/1.png"]
    assert record["objects"]["bbox_type"] == "real"
    assert record["objects"]["bbox"] == REGIONS.boxes.tolist()


def test_swift_without_boxes_or_image():
    asked, _ = expand_swift(swift_record(NONE_FOUND), (9, 9))
    assert asked == "<image>No region found: aorta\nIs the aorta seen?"
    assert set(swift_record(TEXT)) == {"messages"}
    assert swift_record(TEXT)["messages"][0]["content"] == "What is a liver?"


@pytest.mark.parametrize("make", [swift_record, sharegpt_record])
def test_questions_cannot_forge_tags(make):
    record = make(item(question="Show <image> and <bbox>", answer="<image>"))
    text = json.dumps(record.get("messages", record.get("conversations")))
    assert text.count("<image>") == 1
    if make is swift_record:
        assert text.count("<bbox>") == len(REGIONS)


@pytest.mark.parametrize(("style", "boxes"), [(TEXT_STYLE, TextBoxes()), (NANO_STYLE, LocTokens())])
def test_sharegpt_boxes_come_back_from_the_text(style, boxes):
    record = sharegpt_record(item(), style)
    human, reply = record["conversations"]
    assert (human["from"], reply["from"], reply["value"]) == ("human", "gpt", "liver [R1]")
    assert human["value"].startswith("<image>")
    assert human["value"].count("<image>") == len(record["images"]) == 1
    for number, box in enumerate(REGIONS.boxes):
        line = next(line for line in human["value"].splitlines() if f"[R{number + 1}]" in line)
        written = re.search(r"(<loc_\d+>){4}|\[\d+, \d+, \d+, \d+\]", line)[0]
        assert np.abs(boxes.decode(written, (100, 200)) - box).max() <= 1.0


def test_files_hold_a_line_an_example(tmp_path):
    own = [item(), NONE_FOUND, TEXT]
    assert export_swift(own, tmp_path / "swift.jsonl") == 3
    lines = [json.loads(line) for line in (tmp_path / "swift.jsonl").read_text().splitlines()]
    assert lines == [swift_record(one) for one in own]


def test_dataset_info_names_the_columns_and_keeps_other_sets(tmp_path):
    for name in ("boxes", "nih"):
        export_sharegpt([item(), TEXT], tmp_path / f"{name}.jsonl")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info) == {"boxes", "nih"}
    columns = info["boxes"]["columns"]
    for line in (tmp_path / info["boxes"]["file_name"]).read_text().splitlines():
        record = json.loads(line)
        assert [turn["from"] for turn in record[columns["messages"]]] == ["human", "gpt"]
        text = record[columns["messages"]][0]["value"]
        assert text.count("<image>") == len(record[columns["images"]])
