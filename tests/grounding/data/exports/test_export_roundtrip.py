"""COCO in, native rows, COCO / ODVG / YOLO out and in again: no box moves, nothing that can be held is lost.

The rows are written here by hand, one region an annotation, so that what is tested are readers and exports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from grounding.data.engine.builder import build
from grounding.data.engine.config import BuildConfig, SourceConfig
from grounding.data.engine.regions import RegionRules
from grounding.data.exports.coco import export_coco
from grounding.data.exports.odvg import export_odvg
from grounding.data.exports.yolo import export_yolo
from grounding.data.readers.coco_json import CocoJson, coco_info
from grounding.data.readers.odvg import Odvg
from grounding.data.readers.yolo import Yolo
from grounding.data.records import DatasetInfo, SourceImage, SourceRegion

REAL = (
    *("blood_cells", "brain_tumour_mri", "ct_organs", "cxr_lungs", "fetal_head_ultrasound", "fracture_xray"),
    *("fundus", "nuclei", "polyp_endoscopy", "skin_lesion"),
)
WriteNative = Callable[..., Path]


def region_row(region: SourceRegion, index: int) -> dict[str, Any]:
    """A native region as the source has it; the box of a mask where there is no other."""
    packed = None
    if region.mask is not None:
        packed = coco_mask.encode(np.asfortranarray(region.mask.astype(np.uint8)))
    x1, y1, width, height = coco_mask.toBbox(packed) if packed else (0.0, 0.0, 0.0, 0.0)
    box = region.box.tolist() if region.box is not None else [x1, y1, x1 + width, y1 + height]
    return {
        "box": [float(value) for value in box],
        **dict.fromkeys(("label", "raw_label", "phrase"), region.label),
        **{"known": False, "granularity": "", "parent": "", "side": "", "source_index": index},
        "mask": packed["counts"].decode() if packed else "",
        "area": float(region.mask.sum()) if packed else float((box[2] - box[0]) * (box[3] - box[1])),
        "attributes": json.dumps(region.attributes),
    }


def native_row(image: SourceImage, info: DatasetInfo) -> dict[str, Any]:
    """A native row of one image."""
    present = {region.label for region in image.regions}
    return {
        "image_id": f"{info.name}/{image.key}",
        "image": {"bytes": image.picture, "path": None},
        **{"height": image.size[0], "width": image.size[1], "dataset": info.name, "licence": info.licence},
        **{"file_name": image.file_name, "modality": image.modality or "", "body_region": ""},
        **{"patient": image.patient or "", "series": image.series or "", "axis": image.axis or ""},
        "slice_index": -1 if image.slice_index is None else image.slice_index,
        **{name: list(getattr(image, name) or ()) for name in ("window", "orientation", "spacing_mm")},
        **{"perceptual_hash": "0" * 16, "split": image.split or "train"},
        "annotated_labels": list(image.annotated),
        "absent_labels": [label for label in image.annotated if label not in present],
        "attributes": json.dumps(image.attributes),
        "regions": [region_row(region, index) for index, region in enumerate(image.regions)],
    }


def round_trip(images: Sequence[SourceImage], info: DatasetInfo, native: Path, out: Path) -> None:
    """Export three ways, read again, compare with `images`."""
    assert export_coco(native, out / "coco").losses == {}
    again = read_all(CocoJson(out / "coco" / info.name, info))
    same_boxes(images, again)
    for image, copy in zip(by_picture(images), by_picture(again), strict=True):
        assert (copy.annotated, copy.modality) == (image.annotated, image.modality)
        assert (copy.patient, copy.series, copy.slice_index) == (
            image.patient,
            image.series,
            image.slice_index,
        )
        assert (copy.window, copy.orientation, copy.spacing_mm) == (
            *(image.window, image.orientation, image.spacing_mm),
        )
        kept = {
            name: value for name, value in image.attributes.items() if name not in ("categories", "licence")
        }
        assert kept.items() <= copy.attributes.items()
        for region, other in zip(image.regions, copy.regions, strict=True):
            assert region.attributes.items() <= other.attributes.items()
            assert (region.mask is None) == (other.mask is None)
            assert region.mask is None or np.array_equal(region.mask, other.mask)
    export_odvg(native, out / "detection")
    same_boxes(images, read_all(Odvg(out / "detection" / info.name, info)))
    export_odvg(native, out / "grounding", variant="grounding")
    same_boxes(images, read_all(Odvg(out / "grounding" / info.name, info)), ordered=False)
    export_yolo(native, out / "yolo")
    same_boxes(images, read_all(Yolo(out / "yolo" / info.name, info)))


def read_all(reader: Any) -> list[SourceImage]:
    return [image for unit in reader.units() for image in reader.read(unit)]


def by_picture(images: Sequence[SourceImage]) -> list[SourceImage]:
    return sorted(images, key=lambda image: image.picture)


def same_boxes(images: Sequence[SourceImage], again: Sequence[SourceImage], ordered: bool = True) -> None:
    """The same pictures byte for byte, the same labels and splits, boxes within 1e-3 px."""
    assert len(images) == len(again)
    for image, copy in zip(by_picture(images), by_picture(again), strict=True):
        assert image.picture == copy.picture and (image.split or "train") == copy.split
        pairs = [[(r.label, *boxes_of(r)) for r in one.regions] for one in (image, copy)]
        first, second = pairs if ordered else map(sorted, pairs)
        assert [label for label, *_ in first] == [label for label, *_ in second]
        boxes = [np.array([box for _, *box in rows]) for rows in (first, second)]
        assert np.abs(boxes[0] - boxes[1]).max(initial=0) < 1e-3


def boxes_of(region: SourceRegion) -> list[float]:
    return region_row(region, 0)["box"]


def made_set(root: Path, boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Path:
    """A COCO set of two pictures, the second without a region."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for number, name in enumerate(("case 1/left.png", "b.png"), 1):
        (root / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("L", (size[1], size[0]), 40 * number).save(root / "images" / name)
        images.append(
            {"id": number, "file_name": name, "height": size[0], "width": size[1], "patient": f"P{number}"}
        )
    rows = [{"id": n, "image_id": 1, "category_id": n % 2, "bbox": list(b)} for n, b in enumerate(boxes)]
    names = [{"id": 0, "name": "left lung", "synonyms": ["lung, left"]}, {"id": 1, "name": "nodule: small"}]
    content = {"images": images, "annotations": rows, "categories": names}
    (root / "val.json").write_text(json.dumps(content))
    return root


def test_made_files(tmp_path: Path, write_native: WriteNative) -> None:
    info = DatasetInfo("made set", "CC0", modality="CT")
    root = made_set(tmp_path / "in", [[1.25, 2.5, 30.125, 7], [0, 0, 100, 80], [3, 4, 0.5, 0.25]], (80, 100))
    images = read_all(CocoJson(root, info))
    native = write_native([native_row(image, info) for image in images])
    out = tmp_path / "out"
    export_coco(native, out)
    assert [path.name for path in out.iterdir()] == ["made_set"]
    names = sorted(path.name for path in (out / "made_set" / "images").iterdir())
    assert names == ["val_b.png", "val_case_1_left.png"]
    content = json.loads((out / "made_set" / "val.json").read_text())
    assert [category["synonyms"] for category in content["categories"]] == [["lung, left"], []]
    again = read_all(CocoJson(out / "made_set", info))
    same_boxes(images, again)
    assert [image.patient for image in again] == ["P1", "P2"]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=4),
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
)
def test_any_box_survives(
    tmp_path_factory: pytest.TempPathFactory,
    write_native: WriteNative,
    corners: list[Any],
    size: tuple[int, int],
) -> None:
    folder, info = tmp_path_factory.mktemp("trip"), DatasetInfo("made", "CC0")
    height, width = size
    boxes = [(x * width, y * height, w * (1 - x) * width, h * (1 - y) * height) for x, y, w, h in corners]
    images = read_all(CocoJson(made_set(folder / "in", boxes, size), info))
    round_trip(images, info, write_native([native_row(image, info) for image in images]), folder)


@pytest.mark.parametrize("name", REAL)
def test_real_sets(data_dir: Path, tmp_path: Path, write_native: WriteNative, name: str) -> None:
    root = data_dir / "grounding" / name
    info = coco_info(root)
    reader = CocoJson(root, info)
    units = list(reader.units())
    images = [image for unit in [*units[:: len(units) // 3], units[-1]] for image in reader.read(unit)]
    assert images and {image.split for image in images} == {"train", "val"}
    native = write_native([native_row(image, info) for image in images])
    round_trip(images, info, native, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_whole_real_sets_through_the_builder(data_dir: Path, tmp_path: Path, name: str) -> None:
    """All images of a set: files -> build -> COCO, ODVG and YOLO -> readers again."""
    root = data_dir / "grounding" / name
    everything = RegionRules(min_area=0, min_area_fraction=0.0, min_side=0.0)
    source = SourceConfig("coco", root, name=name)
    manifest = build(
        BuildConfig((source,), duplicate_bits=None, regions=everything), tmp_path / "built", progress=False
    )
    (account,) = manifest["sources"]
    assert account["counts"]["units_quarantined"] == 0
    assert not account["images_dropped"] and not account["regions_dropped"]
    info = coco_info(root)
    images = read_all(CocoJson(root, info))
    for written, reader in (
        (export_coco(tmp_path / "built", tmp_path / "coco").folder, CocoJson),
        (export_odvg(tmp_path / "built", tmp_path / "odvg").folder, Odvg),
        (export_yolo(tmp_path / "built", tmp_path / "yolo").folder, Yolo),
    ):
        same_boxes(images, read_all(reader(written / name, info)))
