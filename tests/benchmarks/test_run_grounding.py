"""The grounding benchmark end to end, with a grounder that answers one box a phrase."""

import json

import numpy as np
import pytest
from PIL import Image

import grounding.predictor
from benchmarks import run_grounding
from benchmarks.grounding_answers import CachedAnswers, CocoResults
from benchmarks.grounding_plots import mistakes
from benchmarks.leaderboard import make_boards
from benchmarks.page import IMAGES, build_page
from benchmarks.run_folder import read_run
from grounding.calibration import Calibration
from grounding.evaluate.detections import Detections, Threshold
from grounding.evaluate.targets import read_targets
from grounding.types import Regions


class OneBox:
    """The same box for every phrase, at a score above its threshold for lungs only."""

    dtype, phrases_per_pass, presence_threshold, calibration = "float32", None, 0.0, None
    fingerprint = "f"
    calls = 0

    def threshold(self, phrase):
        return 0.4

    def ask_batch(self, images, phrases_per_image):
        OneBox.calls += 1
        return [OneAnswer(image) for image in images]


class OneAnswer:
    def __init__(self, image):
        self.image = image

    def ground(self, phrases, *, box_threshold=None, nms_iou=None):
        return Regions(
            boxes=np.array([[10, 10, 30, 30]] * len(phrases), dtype=np.float32),
            scores=self.presence(phrases),
            phrase_index=np.arange(len(phrases)),
            asked=tuple(phrases),
            image_size=self.image.size,
        )

    def presence(self, phrases):
        return np.array([0.5 if phrase == "lung" else 0.25 for phrase in phrases], dtype=np.float32)


def write_set(root, name, category, modality, boxes):
    """One image a box list; boxes xywh."""
    folder = root / "grounding" / name
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i, own in enumerate(boxes, start=1):
        Image.new("L", (100, 80), i).save(folder / "images" / f"{i}.png")
        images.append(
            {"id": i, "file_name": f"{i}.png", "width": 100, "height": 80, "modality_code": modality}
        )
        annotations += [
            {"id": 10 * i + k, "image_id": i, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0}
            for k, box in enumerate(own)
        ]
    category = {"id": 1, "name": category, "granularity": "organ"}
    coco = {"images": images, "categories": [category], "annotations": annotations}
    (folder / "val.json").write_text(json.dumps(coco))
    return folder


BOX = [10, 10, 20, 20]


@pytest.fixture
def data(tmp_path, monkeypatch):
    write_set(tmp_path, "chest", "lung", "DX", [[BOX], [BOX]])
    write_set(tmp_path, "scope", "polyp", "ES", [[[50, 50, 20, 20]], []])
    monkeypatch.setattr(grounding.predictor.Grounder, "from_pretrained", lambda *a, **k: OneBox())
    monkeypatch.setattr(OneBox, "calls", 0)
    return tmp_path


def run(data, *more):
    out = data / "out"
    run_grounding.main(["--data-dir", str(data), "--out", str(out), "--bootstrap", "20", *more])
    return out


def test_every_file_is_written_and_holds_what_was_measured(data, capsys):
    out = run(data, "--gallery")
    assert "| chest | 2 | 2 | 1.000 | 1.000 | 1.000 | 1.000 |" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    chest, scope = results["chest"], results["scope"]
    assert chest["per_category"] == {"lung": {"ap": 1, "ap50": 1, "n_boxes": 2}}
    assert chest["figures"]["ap50"] == {"mean": 1, "low": 1, "high": 1}
    assert chest["slices"]["DX / organ"]["ap"]["mean"] == 1
    assert chest["labels"]["lung"]["ap50"]["mean"] == 1
    assert chest["n_groups"] == 2
    assert chest["figures"]["false_positives_foreign"]["mean"] == 0  # "polyp" is boxed below the threshold
    assert chest["figures"]["auroc_foreign"]["mean"] == 1
    assert scope["figures"]["false_positives_foreign"]["mean"] == 1
    assert scope["figures"]["no_target"]["mean"] == 1
    assert (scope["ap"], scope["figures"]["phrase_recall"]["mean"]) == (0, 0)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["mean over sets"]["nano"]["ap50"]["mean"] == 0.5
    assert summary["differences"] == {}
    tables = (out / "results.md").read_text()
    assert "| chest | nano | 1.000 [1.000, 1.000] |" in tables
    assert "| DX | organ | nano | 1.000" in tables
    pictures = ["results.png", *(f"plots/{name}.png" for name in ("froc", "reliability-nano"))]
    pictures += ["plots/precision-recall-nano.png", "gallery/nano/scope.png"]
    assert all(Image.open(out / name).size[0] > 200 for name in pictures)
    assert not (out / "gallery" / "nano" / "chest.png").exists()  # no mistakes
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert settings["checkpoint"] == "nano"
    assert len(settings["data_sha256"]["chest"]) == 64
    assert len(settings["calibration_sha256"]) == 64
    assert settings["thresholds"]["nano"] == {"scores": {"lung": 0.4, "polyp": 0.4}, "presence": 0.0}


def test_a_set_that_shows_nothing_has_only_figures_of_absence(data):
    write_set(data, "empty", "liver", "CT", [[], []])
    figures = json.loads((run(data, "--sets", "empty") / "results.json").read_text())["empty"]["figures"]
    assert figures["false_positives_annotated"]["mean"] == 0
    assert not {"ap50", "phrase_recall", "auroc_annotated", "in_organ"} & set(figures)


def test_answers_are_kept_and_figures_computed_again_without_the_model(data):
    run(data)
    asked = OneBox.calls
    assert asked == 4  # two sets, own and foreign labels
    run(data)
    assert OneBox.calls == asked


def test_peers_stand_beside_ours_with_the_paired_difference(data):
    folder = data / "theirs"
    folder.mkdir()
    for name, rows in (("chest", [1]), ("scope", [])):
        found = [{"image_id": i, "category_id": 1, "bbox": BOX, "score": 0.9} for i in rows]
        (folder / f"{name}.json").write_text(json.dumps(found))
    out = run(data, "--peers", f"results:{folder}")
    theirs = json.loads((out / "results-theirs.json").read_text())
    assert theirs["chest"]["figures"]["recall1"]["mean"] == 0.5
    assert "false_positives_foreign" not in theirs["chest"]["figures"]
    differences = json.loads((out / "summary.json").read_text())["differences"]["nano - theirs"]
    assert differences["chest"]["recall1"]["mean"] == 0.5
    assert differences["mean over sets"]["recall1"]["mean"] == 0.25
    assert "| chest | theirs |" in (out / "results.md").read_text()


def test_phrases_a_pass_are_compared_side_by_side(data):
    out = run(data, "--phrases-per-pass", "1", "4")
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["differences"]) == {"nano - nano-1-a-pass", "nano - nano-4-a-pass"}
    tables = (out / "results.md").read_text()
    assert "| set | nano | nano-1-a-pass | nano-4-a-pass |" in tables
    assert "| mean | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |" in tables


def test_what_presence_denies_is_no_false_positive(data, monkeypatch):
    monkeypatch.setattr(OneBox, "presence_threshold", 0.6)
    monkeypatch.setattr(OneAnswer, "presence", lambda self, phrases: np.full(len(phrases), 0.5, np.float32))
    monkeypatch.setattr(
        OneAnswer,
        "ground",
        lambda self, phrases, **_: Regions([[10, 10, 30, 30]], [0.9], [0], tuple(phrases), self.image.size),
    )
    results = json.loads((run(data) / "results.json").read_text())
    figures = results["scope"]["figures"]
    assert figures["false_positives_annotated"]["mean"] == figures["false_positives_foreign"]["mean"] == 0
    assert results["chest"]["figures"]["phrase_recall"]["mean"] == 0
    assert results["chest"]["ap50"] == 1  # ranks know no threshold


def test_the_calibration_beside_the_checkpoint_is_in_the_manifest(data):
    folder = data / "mine"
    folder.mkdir()
    Calibration().save(folder / "calibration.json")

    def recorded(*more):
        out = run(data, "--checkpoint", str(folder), *more)
        return json.loads((out / "manifest.json").read_text())["settings"]["calibration_sha256"]

    first = recorded()
    Calibration(temperature=2.0).save(folder / "calibration.json")
    assert len(first) == 64 and recorded() not in (first, None)
    assert recorded("--no-calibration") is None


def test_unknown_peers_and_double_names_are_refused(data):
    with pytest.raises(ValueError, match="grounder:, transformers: or results:"):
        run(data, "--peers", "mmdet:x")
    with pytest.raises(ValueError, match="different names"):
        run(data, "--peers", "grounder:nano")


def test_result_files_answer_the_sets_own_labels_only(data):
    targets = read_targets(data / "grounding" / "chest")
    source = CocoResults(data / "theirs")
    with pytest.raises(FileNotFoundError, match=r"chest\.json"):
        source.answer(targets, [targets.labels] * 2)
    (data / "theirs").mkdir()
    path = data / "theirs" / "chest.json"
    path.write_text(json.dumps([{"image_id": 2, "category_id": 1, "bbox": BOX, "score": 0.5}]))
    first, second = source.answer(targets, [targets.labels] * 2)
    assert (len(first.regions), second.regions.boxes.tolist()) == (0, [[10, 10, 30, 30]])
    with pytest.raises(ValueError, match="own labels"):
        source.answer(targets, [("polyp",)] * 2)
    path.write_text(json.dumps([{"image_id": 2, "category_id": 9, "bbox": BOX, "score": 0.5}]))
    with pytest.raises(ValueError, match=r"category ids \(1,\).*\[9\]"):
        source.answer(targets, [targets.labels] * 2)


def test_the_cache_knows_the_question_and_the_detector(data):
    class Fake:
        name, fingerprint, asked, threshold = "fake", "1", 0, Threshold(lambda phrase: 0.5)

        def detect(self, images, phrases_per_image):
            self.asked += len(images)
            return [Detections.by_best_box(Regions.empty((80, 100), p)) for p in phrases_per_image]

    targets, fake = read_targets(data / "grounding" / "chest"), Fake()
    source = CachedAnswers(fake, data / "cache", batch_size=1)
    for phrases in (["lung"], ["lung"], ["heart"]):
        source.answer(targets, [phrases] * 2)
    assert fake.asked == 4
    fake.fingerprint = "2"
    source.answer(targets, [["lung"]] * 2)
    assert fake.asked == 6


def test_mistakes_count_missed_and_false_boxes(data):
    target = read_targets(data / "grounding" / "chest").targets[0]
    regions = Regions(
        [[10, 10, 30, 30], [60, 60, 70, 70], [0, 0, 5, 5]], [0.9, 0.8, 0.1], [0, 0, 0], ("lung",), (80, 100)
    )
    answer = Detections.by_best_box(regions)
    assert mistakes(target, answer, Threshold(lambda phrase: 0.5)) == 1
    assert mistakes(target, answer, Threshold(lambda phrase: 0.95)) == 1
    assert mistakes(target, answer, Threshold(lambda phrase: 0.0)) == 2


def test_the_page_shows_right_and_wrong_images_with_their_boxes(data):
    out = run(data, "--phrases-per-pass", "1")
    text = build_page(read_run(out), data_dir=data, count=3)
    assert IMAGES in text and "<script" not in text
    assert "Right: 2" in text and "Wrong: 1" in text  # both lungs; the polyp is missed, its score too low
    assert text.count("<image ") == 3
    assert text.count('class="box dashed"') == 3 and text.count('class="box"') == 2
    assert "nano - nano-1-a-pass" in text and "True boxes found" in text and "DX / organ" in text
    assert "<image " not in build_page(read_run(out))


def test_the_page_needs_the_data_and_the_thresholds_of_the_run(data):
    out = run(data)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["settings"]["thresholds"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="does not say from which score nano shows boxes"):
        build_page(read_run(out), data_dir=data)
    run(data)
    (data / "grounding" / "chest" / "val.json").write_text("{}")
    with pytest.raises(ValueError, match="does not hold the data"):
        build_page(read_run(out), data_dir=data)


def test_detectors_stand_in_a_leaderboard(data):
    (board,) = make_boards([read_run(run(data, "--phrases-per-pass", "1"))])
    assert board.heading == "grounding, chest, scope: ap50"
    assert [entry.name for entry in board.entries] == ["nano", "nano-1-a-pass"]
    assert board.differences[1]["difference"]["mean"] == 0
    assert board.table()[1][1][-2] == "-"  # no test without rows of single images
