"""Twenty real pictures with their annotated boxes go out in every format that comes back, and come back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from grounding.types import MedicalImage, Regions
from medglip_agent.exports import FORMATS, Result, SourceFrame, read_export, write_export

_CASES = 20
_MODALITIES = {"cxr_lungs": "CR", "fracture_xray": "CR", "ct_organs": "CT", "brain_tumour_mri": "MR"}


@dataclass(frozen=True)
class Case:
    """A real picture and where the annotators saw what."""

    image: MedicalImage
    regions: Regions


def real_cases(folder: Path) -> list[Case]:
    """The first pictures of each data set's validation part that have boxes, in turn."""
    sets = sorted(path.parent for path in folder.glob("*/val.json"))
    each = -(-_CASES // max(1, len(sets)))
    cases = [case for one in sets for case in _cases_of(one, each)]
    return cases[:_CASES]


def _cases_of(folder: Path, count: int) -> list[Case]:
    data = json.loads((folder / "val.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in data["categories"]}
    asked = tuple(dict.fromkeys(names.values()))
    cases: list[Case] = []
    for entry in data["images"]:
        found = [a for a in data["annotations"] if a["image_id"] == entry["id"]]
        if not found or len(cases) == count:
            continue
        image = MedicalImage.open(
            folder / "images" / Path(entry["file_name"]).name, modality=_MODALITIES.get(folder.name)
        )
        x, y, width, height = np.array([a["bbox"] for a in found], dtype=np.float32).T
        boxes = np.stack([x, y, x + width, y + height], axis=1)
        index = np.array([asked.index(names[a["category_id"]]) for a in found])
        scores = np.linspace(0.2, 0.9, len(found), dtype=np.float32)
        cases.append(Case(image, Regions(boxes, scores, index, asked, image.size)))
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".json", ".coco.json", ".dcm"])
def test_boxes_of_real_cases_come_back_within_half_a_pixel(
    data_dir: Path, suffix: str, tmp_path: Path
) -> None:
    if FORMATS[suffix].absent:
        pytest.skip(FORMATS[suffix].absent)
    cases = real_cases(data_dir / "grounding")
    assert len(cases) == _CASES
    for number, case in enumerate(cases):
        result = Result(case.image, case.regions)
        if suffix == ".dcm":
            capture = tmp_path / f"{number}.sc.dcm"
            write_export(capture, result)
            image = MedicalImage.open(capture, modality=case.image.modality)
            assert image.source_id == case.image.source_id
            result = Result(image, case.regions, source=SourceFrame(capture))
        path = tmp_path / f"{number}{suffix}"
        write_export(path, result)
        back = read_export(path)
        height, width = case.image.size
        given = np.clip(case.regions.boxes, 0, [width, height, width, height])
        assert np.abs(back.boxes - given).max() <= 0.5
        assert back.phrases == case.regions.phrases and back.image_size == case.image.size
        np.testing.assert_allclose(back.scores, case.regions.scores, atol=1e-3)


@pytest.mark.slow
def test_fhir_of_real_cases_is_valid(data_dir: Path) -> None:
    if FORMATS[".fhir.json"].absent:
        pytest.skip(FORMATS[".fhir.json"].absent)
    for case in real_cases(data_dir / "grounding"):
        FORMATS[".fhir.json"].encode(Result(case.image, case.regions))
