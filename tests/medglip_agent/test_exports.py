"""What every export keeps to, the formats by name, and the ways there and back of JSON and COCO."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.types import MedicalImage, PixelSpacing, Regions
from llm.confidence import Certainty
from llm.types import Answer, Step
from medglip_agent import NOTICE
from medglip_agent.agent import MedGLIPAgent
from medglip_agent.exports import (
    FORMATS,
    ExportError,
    Model,
    Result,
    SourceFrame,
    check_export,
    format_of,
    models_of,
    read_export,
    result_to_dict,
    write_export,
)
from medglip_agent.exports.grounded_json import schema
from medglip_agent.exports.provenance import model_line

QUESTION = "Which lung is more opaque?"
MODELS = (Model("grounder", "toy", {"model.safetensors": "ab" * 32}), Model("vlm", "toy-vlm"))


@pytest.fixture
def answer(agent: MedGLIPAgent, chest: MedicalImage) -> Result:
    return Result(chest, agent.ask(chest, QUESTION), MODELS, QUESTION)


@pytest.fixture(params=["answer", "abstention", "report", "grounding", "nothing found", "masks"])
def result(request: pytest.FixtureRequest, agent: MedGLIPAgent, chest: MedicalImage) -> Result:
    """One result of each kind."""
    masks = np.zeros((1, *chest.size), dtype=bool)
    masks[0, 20:60, 10:30] = True
    made = {
        "answer": lambda: agent.ask(chest, QUESTION),
        "abstention": lambda: Answer(
            "I cannot say.", Regions.empty(chest.size, ["polyp"]), None, True, (), "No."
        ),
        "report": lambda: agent.report(chest),
        "grounding": lambda: agent.ground(chest, ["lungs", "polyp"]),
        "nothing found": lambda: Regions.empty(chest.size, ["polyp"]),
        "masks": lambda: Regions([[10, 20, 30, 60]], [0.5], [0], ("lung",), chest.size, masks),  # type: ignore[arg-type]
    }
    return Result(chest, made[request.param](), MODELS, QUESTION)


def core_formats() -> list[str]:
    return [suffix for suffix, form in FORMATS.items() if form.extra is None]


def test_answer(answer: Result) -> None:
    data = result_to_dict(answer)
    assert data["schema"] == "medglip.grounded-answer/1" and data["notice"] == NOTICE
    assert data["models"]["grounder"] == {
        "name": "toy",
        "weights": {"model.safetensors": "ab" * 32},
        "calibrated": False,
    }
    assert data["image"]["source_id"] == answer.image.source_id
    assert data["answer"]["citations"] == [2]
    left_lung = {"id": "R2", "label": "left lung", "score": 0.49, "box_xyxy": [110.0, 20.0, 190.0, 180.0]}
    assert data["regions"][1] == left_lung
    assert [step["name"] for step in data["steps"]][-1] == "citation"


def test_json_follows_its_schema(result: Result) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is absent: pip install '.[dev]'")
    checker = jsonschema.Draft202012Validator(schema())
    checker.check_schema(schema())
    spaced = replace(result.image, spacing=PixelSpacing(0.2, 0.3, "detector"), orientation=("L", "F"))
    for one in (result, replace(result, image=spaced)):
        data = json.loads(FORMATS[".json"].encode(one))
        assert data == result_to_dict(one)
        checker.validate(data)
    assert not checker.is_valid({**data, "patient": "Doe"})
    assert not checker.is_valid({key: value for key, value in data.items() if key != "notice"})


@pytest.mark.parametrize("suffix", [".json", ".coco.json"])
def test_regions_come_back(result: Result, suffix: str, tmp_path: Path) -> None:
    write_export(tmp_path / f"x{suffix}", result)
    back, given = read_export(tmp_path / f"x{suffix}"), result.regions
    assert back.asked == given.asked and back.phrases == given.phrases
    assert back.image_size == given.image_size
    np.testing.assert_allclose(back.boxes, given.boxes, atol=0.01)
    np.testing.assert_allclose(back.scores, given.scores, atol=1e-4)
    assert (back.masks is None) == (given.masks is None)
    if given.masks is not None:
        np.testing.assert_array_equal(back.masks, given.masks)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-50, 5000, width=32)] * 4, st.floats(0, 1, width=32)), max_size=5))
def test_any_box_comes_back_within_half_a_pixel(rows: list[tuple[float, ...]]) -> None:
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d, _ in rows]
    image = MedicalImage.from_array(np.zeros((30, 40), dtype=np.uint8))
    regions = Regions(
        np.array(boxes, dtype=np.float32),
        np.array([row[4] for row in rows], dtype=np.float32),
        np.zeros(len(rows), dtype=np.int64),
        ("nodule",),
        image.size,
    )
    from medglip_agent.exports import coco, grounded_json

    for module in (coco, grounded_json):
        back = module.read(json.loads(module.encode(Result(image, regions))))
        assert np.abs(back.boxes - regions.boxes).max(initial=0.0) <= 0.5


def test_coco_is_what_pycocotools_reads(answer: Result, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "x.coco.json"
    write_export(path, answer)
    coco = COCO(str(path))
    (first, second) = coco.loadAnns(coco.getAnnIds())
    assert first["bbox"] == [10.0, 20.0, 80.0, 160.0] and first["area"] == 12800.0
    assert coco.loadCats(second["category_id"])[0]["name"] == "left lung"
    assert NOTICE in coco.dataset["info"]["description"]
    assert "grounder toy (model.safetensors sha256 abab" in coco.dataset["info"]["contributor"]


def test_picture(answer: Result) -> None:
    with Image.open(BytesIO(FORMATS[".png"].encode(answer))) as picture:
        assert picture.text["Disclaimer"] == NOTICE  # type: ignore[attr-defined]
        assert "ab" * 32 in picture.text["Models"]  # type: ignore[attr-defined]
        assert picture.width == 400 and picture.height > 480  # enlarged twice, and a footer


@pytest.mark.parametrize("suffix", core_formats())
def test_every_text_carries_notice_version_and_models_but_no_path(
    answer: Result, suffix: str, tmp_path: Path
) -> None:
    from medglip_agent.exports.provenance import software_version

    assert isinstance(answer.content, Answer)
    step = Step("grounding", {"grounder": "/home/doe/secret/toy"}, "found", 0.1)
    content = replace(answer.content, steps=(step,))
    source = SourceFrame(Path("/home/doe/secret/Doe^Jane.png"))
    data = FORMATS[suffix].encode(replace(answer, content=content, source=source))
    if suffix == ".png":
        with Image.open(BytesIO(data)) as picture:
            data = json.dumps(picture.text).encode()  # type: ignore[attr-defined]
    text = data.decode().replace("\\", "")
    assert NOTICE in text and software_version() in text
    assert "toy" in text and "ab" * 32 in text
    assert "secret" not in text and "doe" not in text.lower()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.json", ".json"),
        ("a.coco.json", ".coco.json"),
        ("A.FHIR.JSON", ".fhir.json"),
        ("a.sc.dcm", ".sc.dcm"),
    ],
)
def test_the_longest_end_of_the_name_decides(name: str, suffix: str) -> None:
    assert format_of(Path(name)).suffix == suffix


def test_a_name_without_a_format_is_refused(answer: Result, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"end in one of \.png, .*got 'x\.jpg'"):
        write_export(tmp_path / "x.jpg", answer)
    assert not list(tmp_path.iterdir())


def test_an_absent_extra_is_told_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medglip_agent.exports.formats.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"\.fhir\.json needs fhir, .*pip install '\.\[fhir\]'"):
        check_export(Path("x.fhir.json"))
    assert check_export(Path("x.json")).suffix == ".json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not json", "neither JSON nor DICOM"),
        (b"[1]", "JSON of another kind"),
        (b'{"schema": "medglip.grounded-answer/0"}', "expected the schema 'medglip.grounded-answer/1'"),
        (b'{"schema": "medglip.grounded-answer/1"}', "does not follow its schema"),
        (b'{"annotations": [], "images": [{}, {}], "categories": []}', "about one picture, got 2"),
        (b'{"annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []}', "does not hang together"),
    ],
)
def test_what_cannot_be_read_back_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=re.escape(message)):
        read_export(path)


def test_a_result_belongs_to_its_picture(chest: MedicalImage) -> None:
    with pytest.raises(ValueError, match="got one of"):
        Result(chest, Regions.empty((5, 5)))
    with pytest.raises(ValueError, match="time zone"):
        Result(chest, Regions.empty(chest.size), created=datetime(2026, 1, 1))
    assert Result(chest, Regions.empty(chest.size)).created.tzinfo is UTC


def test_hashes_are_those_of_the_weight_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")

    class Loaded:
        calibration, certainty = object(), Certainty()

        def __init__(self, name: str) -> None:
            self.name = name

    class Agent:
        grounder = Loaded("nano")
        vlm = Loaded(str(folder))
        segmenter = Loaded(str(folder))
        models: Mapping[str, str] = {"grounder": "nano", "chat": "talker"}

    grounder, vlm, segmenter, chat = models_of(Agent())
    assert segmenter == replace(vlm, role="segmenter") and chat == Model("chat", "talker")
    assert grounder.calibrated and "calibrated" in model_line(grounder)
    assert vlm == Model("vlm", "mine", {"model.safetensors": sha256(b"weights").hexdigest()})
    packaged = Path(__file__).parents[2] / "grounding" / "checkpoints" / "nano" / "model.safetensors"
    assert grounder.weights["model.safetensors"] == sha256(packaged.read_bytes()).hexdigest()
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert models_of(Agent())[1].weights != vlm.weights
