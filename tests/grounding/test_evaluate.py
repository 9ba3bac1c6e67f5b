"""COCO metrics: hand-computed average precision, parity with pycocotools, the dataset loop."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from grounding.evaluate import (
    DetectionResult,
    detect_dataset,
    evaluate_dataset,
    find_sets,
    markdown_table,
    read_coco,
    regions_to_coco,
    score_detections,
)
from grounding.types import Regions


def coco_set(boxes, categories=("a",), n_images=2, size=(100, 100)):
    """boxes: (image_id, category_id, xywh)."""
    return {
        "images": [
            {"id": i + 1, "file_name": f"{i + 1}.png", "height": size[0], "width": size[1]}
            for i in range(n_images)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(categories)],
        "annotations": [
            {"id": n + 1, "image_id": i, "category_id": c, "bbox": list(b), "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, c, b) in enumerate(boxes)
        ],
    }


def detection(image_id, box, score, category_id=1):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(box), "score": score}


TRUTH = [(1, 1, (10, 10, 20, 20)), (2, 1, (50, 50, 20, 20))]


def test_perfect_detections_score_one():
    result = score_detections(coco_set(TRUTH), [detection(i, b, 0.9) for i, _, b in TRUTH])
    assert (result.ap, result.ap50, result.ap75, result.ar100) == (1, 1, 1, 1)
    assert (result.n_images, result.n_boxes) == (2, 2)


def test_ap50_with_a_false_box_in_between_by_hand():
    # Ranked: hit (.9), false (.8), hit (.7). Precision at recall <= .5 is 1; above it, 2/3.
    # COCO's 101 recall points: 51 (0 .. .50) at 1 and 50 (.51 .. 1) at 2/3.
    detections = [
        detection(1, (10, 10, 20, 20), 0.9),
        detection(1, (70, 70, 20, 20), 0.8),
        detection(2, (50, 50, 20, 20), 0.7),
    ]
    result = score_detections(coco_set(TRUTH), detections)
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert result.ap50 == pytest.approx(expected)
    assert result.ap == pytest.approx(expected)  # both hits are exact at every IoU
    assert result.ar100 == 1


def test_ap_counts_only_the_iou_thresholds_reached():
    # IoU 16/20 = .8: a hit at .50 .. .80 (7 of the 10 thresholds), a miss at .85 .. .95.
    truth = coco_set([(1, 1, (0, 0, 20, 20))], n_images=1)
    result = score_detections(truth, [detection(1, (0, 0, 20, 16), 0.5)])
    assert result.ap == pytest.approx(0.7)
    assert (result.ap50, result.ap75) == (1, 1)


def test_no_detection_is_zero_and_no_truth_is_nan():
    empty = score_detections(coco_set(TRUTH, ("a", "b")), [])
    assert (empty.ap, empty.ap50, empty.ar100) == (0, 0, 0)
    assert empty.per_category[0].ap == 0
    assert math.isnan(empty.per_category[1].ap)
    no_truth = score_detections(coco_set([]), [detection(1, (0, 0, 5, 5), 0.5)])
    assert math.isnan(no_truth.ap)
    assert no_truth.to_dict()["ap"] is None


def test_a_category_without_a_true_box_is_left_out_of_the_mean():
    result = score_detections(
        coco_set(TRUTH, ("a", "absent")),
        [*(detection(i, b, 0.9) for i, _, b in TRUTH), detection(1, (0, 0, 9, 9), 0.9, category_id=2)],
    )
    assert result.ap == 1
    assert [c.name for c in result.per_category] == ["a", "absent"]
    assert math.isnan(result.per_category[1].ap50)


def test_parity_with_pycocotools_on_random_boxes():
    pycocotools_coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    truth = [
        (i, int(rng.integers(1, 4)), tuple(rng.uniform(5, 40, 4))) for i in range(1, 13) for _ in range(6)
    ]
    coco = coco_set(truth, ("a", "b", "c"), n_images=12)
    detections = [
        detection(i, np.array(b) + rng.normal(0, scale, 4), float(rng.uniform()), c)
        for i, c, b in truth
        for scale in (0.5, 2.0, 6.0)
    ]
    for d in detections:
        d["bbox"] = [float(v) for v in np.maximum(d["bbox"], 1)]
    ours = score_detections(coco, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = pycocotools_coco.COCO()
        reference.dataset = json.loads(json.dumps(coco | {"info": {}}))
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(json.loads(json.dumps(detections))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert [ours.ap, ours.ap50, ours.ap75] == pytest.approx(list(evaluation.stats[:3]), abs=1e-9)
    assert ours.ar100 == pytest.approx(evaluation.stats[8], abs=1e-9)
    assert 0.05 < ours.ap < 0.95  # the case is not a trivial one


def test_regions_become_xywh_of_the_asked_category_best_100_only():
    n = 130
    regions = Regions(
        boxes=np.tile(np.array([[10, 20, 30, 60]], dtype=np.float32), (n, 1)),
        scores=np.linspace(0, 1, n, dtype=np.float32),
        phrase_index=np.full(n, 1),
        asked=("a", "b"),
        image_size=(100, 100),
    )
    results = regions_to_coco(regions, image_id=7, category_ids=[11, 12])
    assert len(results) == 100
    assert results[0] == {"image_id": 7, "category_id": 12, "bbox": [10, 20, 20, 40], "score": 1.0}
    assert results[-1]["score"] == pytest.approx(30 / 129)
    with pytest.raises(ValueError, match="asked for 1 categories, got 2"):
        regions_to_coco(regions, 7, [11])


class OracleGrounder:
    """Returns the true boxes, told by the order of the calls; checks what it is asked."""

    def __init__(self, coco):
        self.coco, self.next, self.calls = coco, 0, []

    def ground_batch(self, images, phrases_per_image, *, box_threshold=None):
        self.calls.append((len(images), list(phrases_per_image[0]), box_threshold))
        found = []
        for image, phrases in zip(images, phrases_per_image, strict=True):
            record = self.coco["images"][self.next]
            self.next += 1
            mine = [a for a in self.coco["annotations"] if a["image_id"] == record["id"]]
            boxes = np.array(
                [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in mine)], dtype=np.float32
            )
            index = np.array([a["category_id"] - 1 for a in mine], dtype=np.int64)
            scores = np.ones(len(mine), dtype=np.float32)
            found.append(Regions(boxes.reshape(-1, 4), scores, index, tuple(phrases), image.size))
        return found


@pytest.fixture
def set_on_disk(tmp_path):
    folder = tmp_path / "grounding" / "toy"
    (folder / "images").mkdir(parents=True)
    coco = coco_set([*TRUTH, (2, 2, (5, 5, 10, 10))], ("a", "b"), n_images=3, size=(100, 120))
    for record in coco["images"]:
        Image.new("L", (record["width"], record["height"])).save(folder / "images" / record["file_name"])
    (folder / "val.json").write_text(json.dumps(coco))
    return tmp_path, coco


def test_dataset_asks_every_category_of_every_image(set_on_disk):
    root, coco = set_on_disk
    grounder, seen = OracleGrounder(coco), []
    folder = root / "grounding" / "toy"
    result = evaluate_dataset(
        grounder, folder / "val.json", folder / "images", batch_size=2, progress=lambda *p: seen.append(p)
    )
    assert grounder.calls == [(2, ["a", "b"], 0.0), (1, ["a", "b"], 0.0)]
    assert seen == [(2, 3), (3, 3)]
    assert result.ap == 1
    assert result.n_images == 3


def test_limit_keeps_the_first_images_and_their_boxes(set_on_disk):
    root, _ = set_on_disk
    coco = read_coco(root / "grounding" / "toy" / "val.json", limit=1)
    assert [i["id"] for i in coco["images"]] == [1]
    assert [a["image_id"] for a in coco["annotations"]] == [1]


def test_an_image_of_another_size_is_refused(set_on_disk):
    root, coco = set_on_disk
    coco["images"][0]["width"] = 99
    with pytest.raises(ValueError, match=r"expected \(height, width\) \(100, 99\).*got \(100, 120\)"):
        detect_dataset(OracleGrounder(coco), coco, root / "grounding" / "toy" / "images")


def test_find_sets_names_what_is_there(set_on_disk):
    root, _ = set_on_disk
    assert [p.name for p in find_sets(root)] == ["toy"]
    with pytest.raises(FileNotFoundError, match=r"toy.*--sets"):
        find_sets(root, ["other"])


def test_table_has_a_row_a_set_and_their_mean():
    def result(ap):
        return DetectionResult(ap, ap, ap, ap, (), 3, 4)

    table = markdown_table({"x": result(0.2), "y": result(0.4)})
    assert "| x | 3 | 4 | 0.200 |" in table
    assert "| mean of 2 sets | | | 0.300 |" in table
