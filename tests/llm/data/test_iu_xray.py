"""The IU-Xray readers on made-up studies in Open-i's and R2Gen's layouts, and on the real texts."""

import gzip
import json
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from llm.data.iu_xray import read_iu_xray, read_iu_xray_r2gen


def report(
    uid: str, findings: str, impression: str = "", images: tuple[str, ...] = (), terms: tuple[str, ...] = ()
) -> str:
    sections = {"COMPARISON": "None.", "INDICATION": "Cough.", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "".join(
        f'<AbstractText Label="{label}">{escape(text)}</AbstractText>' for label, text in sections.items()
    )
    majors = "".join(f"<major>{escape(term)}</major>" for term in terms)
    parents = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="{uid}"/><MedlineCitation><Article>'
        f"<Abstract>{texts}</Abstract></Article></MedlineCitation>"
        f"<MeSH>{majors}<automatic>other</automatic></MeSH>{parents}</eCitation>"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "NLMCXR_png").mkdir()
    names = ("CXR2_IM-1001", "CXR2_IM-2001")
    for name in (*names, "CXR10_IM-1001"):
        (tmp_path / "NLMCXR_png" / f"{name}.png").touch()
    files = {
        "2": report("CXR2", " Clear\n lungs & heart. ", "Normal.", names, ("normal",)),
        "10": report("CXR10", "Large heart.", "", ("CXR10_IM-1001",), ("Cardiomegaly/mild", "Lung/scar")),
        "11": report("CXR11", "", "Normal.", names),
        "12": report("CXR12", "Clear lungs."),
    }
    for number, text in files.items():
        (tmp_path / "ecgen-radiology" / f"{number}.xml").write_text(text, encoding="utf-8")
    return tmp_path


def test_studies_in_the_order_of_their_numbers(root: Path) -> None:
    read = read_iu_xray(root)
    first, second = read
    assert (first.study_id, first.findings, first.impression) == ("CXR2", "Clear lungs & heart.", "Normal.")
    assert [path.name for path in first.image_paths] == ["CXR2_IM-1001.png", "CXR2_IM-2001.png"]
    assert (first.split, first.patient, first.labels) == ("", None, {"normal": 1.0})
    assert (second.study_id, second.labels) == ("CXR10", {"Cardiomegaly/mild": 1.0, "Lung/scar": 1.0})
    assert read.dropped == {"no findings": 1, "no image": 1}


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "bb">]><eCitation><uId id="&b;"/></eCitation>',
        '<?xml version="1.0"?>\n<!doctype a><eCitation/>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><eCitation/>',
        "<eCitation>",
        "",
        report("CXR2", "Clear.", images=("../x",)),
        report("", "Clear.", images=("x",)),
    ],
)
def test_broken_and_dangerous_reports_are_named(root: Path, text: str) -> None:
    (root / "ecgen-radiology" / "2.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"2\.xml"):
        read_iu_xray(root)


def test_document_types_are_refused_in_any_encoding(root: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "bb">]><eCitation/>'
    (root / "ecgen-radiology" / "2.xml").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match="document type"):
        read_iu_xray(root)


def test_absent_images_are_an_error_unless_only_text_is_wanted(root: Path) -> None:
    (root / "NLMCXR_png" / "CXR10_IM-1001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"CXR10_IM-1001\.png; expected the Open-i folder"):
        read_iu_xray(root)
    assert len(read_iu_xray(root, images=False)) == 2


def test_empty_folder_tells_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="NLMCXR_png"):
        read_iu_xray(tmp_path)


@pytest.fixture
def r2gen(tmp_path: Path) -> Path:
    (tmp_path / "images" / "CXR1_IM").mkdir(parents=True)
    for number in (0, 1):
        (tmp_path / "images" / "CXR1_IM" / f"{number}.png").touch()
    pair = ["CXR1_IM/0.png", "CXR1_IM/1.png"]
    annotation = {
        "train": [
            {"id": "CXR1_IM", "report": "Clear  lungs.", "image_path": pair, "split": "train"},
            {"id": "CXR2_IM", "report": "", "image_path": pair, "split": "train"},
        ],
        "val": [],
        "test": [{"id": "CXR3_IM", "report": "Large heart.", "image_path": ["../0.png"], "split": "test"}],
    }
    (tmp_path / "annotation.json").write_text(json.dumps(annotation))
    return tmp_path


def test_r2gen_annotation(r2gen: Path) -> None:
    read = read_iu_xray_r2gen(r2gen, "train")
    (only,) = read
    assert (only.study_id, only.findings, only.impression, only.split) == (
        "CXR1_IM",
        "Clear lungs.",
        "",
        "train",
    )
    assert only.image_paths == tuple(r2gen / "images" / "CXR1_IM" / f"{number}.png" for number in (0, 1))
    assert read.dropped == {"no findings": 1}
    assert len(read_iu_xray_r2gen(r2gen, "val")) == 0


def test_r2gen_errors(r2gen: Path) -> None:
    with pytest.raises(ValueError, match="CXR3_IM"):
        read_iu_xray_r2gen(r2gen, "test")
    with pytest.raises(ValueError, match="val"):
        read_iu_xray_r2gen(r2gen, "validate")  # type: ignore[arg-type]
    (r2gen / "images" / "CXR1_IM" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation\.json"):
        read_iu_xray_r2gen(r2gen, "train")
    (r2gen / "annotation.json").write_text('{"train": [{"id": "CXR5", "report": "Clear."}]}')
    with pytest.raises(ValueError, match="CXR5 lacks the field 'image_path'"):
        read_iu_xray_r2gen(r2gen, "train")
    (r2gen / "annotation.json").write_text("[]")
    with pytest.raises(ValueError, match="train, val and test"):
        read_iu_xray_r2gen(r2gen, "train")


def test_real_texts_come_back_as_written(data_dir: Path, tmp_path: Path) -> None:
    """Every eighth real report, put into the layout, is read back with its sections, images and terms."""
    path = data_dir / "reports" / "iu_xray_reports.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for number, line in enumerate(file) if number % 8 == 0]
    (tmp_path / "ecgen-radiology").mkdir()
    for record in records:
        text = report(
            record["uid"],
            record["findings"] or "",
            record["impression"] or "",
            tuple(record["image_ids"]),
            tuple(record["mesh_major"]),
        )
        (tmp_path / "ecgen-radiology" / f"{record['uid'][3:]}.xml").write_text(text, encoding="utf-8")
    read = read_iu_xray(tmp_path, images=False)
    whole = {record["uid"]: record for record in records if record["findings"] and record["image_ids"]}
    assert {e.study_id for e in read} == set(whole)
    assert len(read) + sum(read.dropped.values()) == len(records)
    for example in read:
        record = whole[example.study_id]
        assert example.findings == " ".join(record["findings"].split())
        assert example.impression == " ".join((record["impression"] or "").split())
        assert [path.stem for path in example.image_paths] == record["image_ids"]
        assert list(example.labels) == list(dict.fromkeys(record["mesh_major"]))
