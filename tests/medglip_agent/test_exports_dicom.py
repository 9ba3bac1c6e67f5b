"""DICOM SR and Secondary Capture: read back by pydicom and highdicom; identifiers stand in the SR only."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from grounding.types import MedicalImage, PixelSpacing, Regions, Window
from llm.types import Answer, Finding, Report
from medglip_agent import NOTICE
from medglip_agent.exports import (
    FORMATS,
    ExportError,
    Model,
    Result,
    SourceFrame,
    check_export,
    read_export,
    write_export,
)

highdicom = pytest.importorskip("highdicom", reason="highdicom is absent: pip install '.[dicom-sr]'")

MODELS = (Model("grounder", "toy", {"model.safetensors": "ab" * 32}),)
IDENTIFIERS = {
    "PatientName": "Döe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19500102",
    "AccessionNumber": "ACC-0815",
    "ReferringPhysicianName": "House^Gregory",
    "InstitutionName": "Princeton Plainsboro",
}


def answer_about(image: MedicalImage, text: str = "Left [R2].") -> Answer:
    """Three boxes, one of them past the edge, one free phrase."""
    height, width = image.size
    boxes = [[1.25, 2.5, width / 2, height / 3], [width / 2, 3, width, height], [-5, 4, 6.75, height + 9]]
    labels = (
        "right lung",
        "left lung",
        "a \\ mark of — 64 characters and more, as nobody has ever used before " * 2,
    )
    regions = Regions(
        np.array(boxes, dtype=np.float32),
        np.array([0.9, 0.5, 0.125], dtype=np.float32),
        np.arange(3),
        (*labels, "polyp"),
        image.size,
    )
    return Answer(text, regions, 0.5, False)


@pytest.fixture
def chest_file(tmp_path: Path) -> Path:
    """A one-frame CT with planted identifiers, in Latin-1."""
    source = get_testdata_file("CT_small.dcm")
    assert isinstance(source, str)
    dataset = pydicom.dcmread(source)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in IDENTIFIERS.items():
        setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "Doe_Jane.dcm")
    return tmp_path / "Doe_Jane.dcm"


def result_of(path: Path, **how: object) -> Result:
    image = MedicalImage.open(path, **how)  # type: ignore[arg-type]
    frame = how.get("frame")
    assert frame is None or isinstance(frame, int)
    return Result(image, answer_about(image), MODELS, "Which lung?", SourceFrame(path, frame))


def written(result: Result) -> Dataset:
    return pydicom.dcmread(BytesIO(FORMATS[".dcm"].encode(result)))


def clipped(regions: Regions) -> np.ndarray:
    height, width = regions.image_size
    return np.clip(regions.boxes, 0, [width, height, width, height])


def test_boxes_come_back(chest_file: Path, tmp_path: Path) -> None:
    result = result_of(chest_file)
    write_export(tmp_path / "x.dcm", result)
    back = read_export(tmp_path / "x.dcm")
    np.testing.assert_allclose(back.boxes, clipped(result.regions), atol=1e-3)
    np.testing.assert_allclose(back.scores, result.regions.scores, atol=1e-4)
    assert back.image_size == result.image.size
    assert back.phrases[:2] == ("right lung", "left lung")
    assert back.phrases[2] == " ".join(result.regions.phrases[2].replace("\\", " ").split())


def test_highdicom_reads_groups_with_polylines_in_pixels(chest_file: Path) -> None:
    result = result_of(chest_file)
    document = highdicom.sr.srread(BytesIO(FORMATS[".dcm"].encode(result)))
    groups = document.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["R1", "R2", "R3"]
    x1, y1, x2, y2 = clipped(result.regions)[1].tolist()
    roi = groups[1].roi
    assert roi.graphic_type.value == "POLYLINE"
    np.testing.assert_allclose(roi.value, [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
    (site,) = groups[1].finding_sites
    assert site.value.value == "39607008" and site.laterality.meaning == "Left"
    assert not groups[2].finding_sites


def test_pydicom_reads_references_scores_and_words(chest_file: Path) -> None:
    source, sr = pydicom.dcmread(chest_file), written(result_of(chest_file))
    assert sr.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (sr.VerificationFlag, sr.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert sr.SoftwareVersions and sr.SeriesDescription == NOTICE
    series = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    texts = [item.TextValue for item in sr.ContentSequence if item.ValueType == "TEXT"]
    assert "Left [R2]." in texts and NOTICE in texts and "Question: Which lung?" in texts
    assert "Looked for and not found: polyp" in texts
    assert any("ab" * 32 in item.get("TextValue", "") for item in walk(sr))
    numbers = [
        item.MeasuredValueSequence[0].NumericValue
        for item in walk(sr)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == "score"
    ]
    np.testing.assert_allclose([float(n) for n in numbers], [0.9, 0.5, 0.125])


def walk(item: Dataset) -> list[Dataset]:
    inner = [child for child in item.get("ContentSequence", [])]
    return [*inner, *(deeper for child in inner for deeper in walk(child))]


def test_an_sr_belongs_to_its_study_and_every_other_export_to_nobody(chest_file: Path) -> None:
    source, result = pydicom.dcmread(chest_file), result_of(chest_file)
    sr = written(result)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
        assert str(sr[keyword].value) == str(source[keyword].value), keyword
    planted = [*IDENTIFIERS.values(), "Doe_Jane", *(str(source[k].value) for k in UIDS)]
    for suffix, form in FORMATS.items():
        if not form.identifies and not form.absent:
            data = form.encode(result)
            found = [one for one in planted if one.encode() in data or one.encode("latin-1") in data]
            assert not found, suffix


UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def test_a_frame_is_referred_to_by_its_number() -> None:
    file = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(file, str)
    sr = written(result_of(Path(file), frame=4))
    frames = [i.ReferencedSOPSequence[0].ReferencedFrameNumber for i in walk(sr) if i.ValueType == "IMAGE"]
    assert frames == [5, 5, 5]
    with pytest.raises(ExportError, match=r"frame 3 .* is not the picture"):
        written(replace(result_of(Path(file), frame=4), source=SourceFrame(Path(file), 3)))


def test_windows_do_not_matter(chest_file: Path) -> None:
    written(result_of(chest_file, window=Window(40, 400)))
    written(result_of(chest_file, modality="MR"))


def test_another_file_is_refused(chest_file: Path) -> None:
    other = get_testdata_file("MR_small.dcm")
    assert isinstance(other, str)
    with pytest.raises(ExportError, match="is not the picture that the result is about"):
        written(replace(result_of(chest_file), source=SourceFrame(Path(other))))


def test_what_is_no_dicom_is_refused_with_the_remedy(tmp_path: Path, chest: MedicalImage) -> None:
    picture = tmp_path / "chest.png"
    picture.write_bytes(FORMATS[".png"].encode(Result(chest, Regions.empty(chest.size))))
    with pytest.raises(
        ExportError, match=r"chest\.png is none: write the picture as DICOM first .*\.sc\.dcm"
    ):
        check_export(tmp_path / "x.dcm", SourceFrame(picture))
    with pytest.raises(ExportError, match="expected the picture's file, got none"):
        check_export(tmp_path / "x.dcm")


def test_a_file_against_the_rules_is_refused_without_quoting_it() -> None:
    file = get_testdata_file("ExplVR_BigEnd.dcm")
    assert isinstance(file, str)
    with pytest.raises(ExportError, match="breaks the standard") as caught:
        written(result_of(Path(file)))
    assert "14:04" not in str(caught.value)


def test_a_file_without_uids_is_refused(chest_file: Path) -> None:
    dataset = pydicom.dcmread(chest_file)
    del dataset.StudyInstanceUID
    dataset.save_as(chest_file)
    with pytest.raises(ExportError, match=r"Doe_Jane\.dcm lacks StudyInstanceUID, .*\.sc\.dcm"):
        check_export(Path("x.dcm"), SourceFrame(chest_file))


@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_of_any_kind_goes_by_way_of_a_capture(
    colour: bool, chest: MedicalImage, tmp_path: Path
) -> None:
    pixels = chest.pixels.copy()
    if colour:
        pixels[..., 1] //= 2
    image = MedicalImage(pixels, "CR", PixelSpacing(0.5, 0.25), ("L", "F"))
    capture = tmp_path / "x.sc.dcm"
    write_export(capture, Result(image, Regions.empty(image.size), MODELS))
    stored = pydicom.dcmread(capture)
    assert not stored.PatientID and not stored.PatientName and stored.SeriesDescription == NOTICE
    assert "toy" in stored.ImageComments
    again = MedicalImage.open(capture)
    assert again.source_id == image.source_id and again.modality == "CR"
    assert again.spacing is not None and (again.spacing.row_mm, again.spacing.col_mm) == (0.5, 0.25)
    assert again.orientation == ("L", "F")
    result = Result(again, answer_about(again), MODELS, "", SourceFrame(capture))
    write_export(tmp_path / "x.dcm", result)
    np.testing.assert_allclose(read_export(tmp_path / "x.dcm").boxes, clipped(result.regions), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small.dcm",
        "SC_rgb_rle.dcm",
        "examples_palette.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_nothing_that_is_written_breaks_the_rules_of_values(name: str) -> None:
    """Each value is read again under pydicom's strictest check."""
    file = get_testdata_file(name)
    assert isinstance(file, str)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would quote the source
        sr = written(result_of(Path(file)))
    for element in sr.iterall():
        if element.VR not in ("SQ", "PN"):
            pydicom.DataElement(element.tag, element.VR, element.value, validation_mode=pydicom.config.RAISE)


def test_what_speaks_against_a_sentence_stands_in_the_sr(chest_file: Path) -> None:
    result = result_of(chest_file)
    finding = Finding("No polyp.", (), False, "polyp was found.")
    report = Report((finding,), "None.", result.regions)
    texts = [item.TextValue for item in walk(written(replace(result, content=report))) if "TextValue" in item]
    assert "No polyp. (contradicted: polyp was found)" in texts


def test_without_a_region_there_is_no_sr(chest_file: Path) -> None:
    result = result_of(chest_file)
    with pytest.raises(ExportError, match="needs a region to report"):
        written(replace(result, content=Regions.empty(result.image.size)))


def test_an_sr_of_another_program_needs_the_size(chest_file: Path) -> None:
    sr = written(result_of(chest_file))
    sr.ContentSequence = [i for i in sr.ContentSequence if i.ValueType != "NUM"]
    for item in walk(sr):
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.Finding.value:
            item.ConceptCodeSequence[0].CodingSchemeDesignator = "99OTHER"
    path = chest_file.with_name("other.dcm")
    sr.save_as(path, enforce_file_format=True)
    with pytest.raises(ExportError, match="give image_size"):
        read_export(path)
    assert read_export(path, (128, 128)).phrases[0] == "right lung"
    with pytest.raises(ExportError, match="expected a DICOM SR"):
        read_export(chest_file)
