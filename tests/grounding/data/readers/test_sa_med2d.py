import itertools
import json

import numpy as np
import pytest
from PIL import Image

from grounding.data.readers.sa_med2d import SaMed2D
from grounding.data.records import UnitError

IMAGE = "images/ct_00--AbdomenCT1K--Case_00011--x_0040.png"
STEM = "ct_00--AbdomenCT1K--Case_00011--x_0040"
MASKS = [f"masks/{STEM}--0000_000.png", f"masks/{STEM}--0000_001.png", f"masks/{STEM}--0002_000.png"]
FLAIR = "images/mr_flair--BraTS2021--BraTS2021_00003--y_0007.png"
FLAIR_MASK = "masks/mr_flair--BraTS2021--BraTS2021_00003--y_0007--0001_000.png"
CLASSES = {"AbdomenCT1K": {"liver": "0", "kidney": "1", "spleen": "2"}, "BraTS2021": {"edema": 1}}


def save(path, values):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    grey = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    save(tmp_path / IMAGE, grey)
    save(tmp_path / FLAIR, grey)
    for number, mask in enumerate([*MASKS, FLAIR_MASK]):
        values = np.zeros((6, 8))
        values[number, number : number + 2] = 255 if number else 1
        save(tmp_path / mask, values)
    write_index(tmp_path, {FLAIR: [FLAIR_MASK], IMAGE: MASKS})
    (tmp_path / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(CLASSES))
    return tmp_path


def write_index(root, index):
    (root / "SAMed2D_v1.json").write_text(json.dumps(index))


def read_all(reader):
    return {image.key: image for unit in reader.units() for image in reader.read(unit)}


def test_images_masks_and_names(root):
    reader = SaMed2D(root)
    assert [unit.key for unit in reader.units()] == [FLAIR, IMAGE]
    assert all(json.loads(json.dumps(unit.payload)) == unit.payload for unit in reader.units())
    image = read_all(reader)[IMAGE]
    assert (image.size, image.picture) == ((6, 8), (root / IMAGE).read_bytes())
    assert [region.label for region in image.regions] == ["liver", "liver", "spleen"]
    assert [region.attributes for region in image.regions] == [
        {"class_id": 0, "part": 0},
        {"class_id": 0, "part": 1},
        {"class_id": 2, "part": 0},
    ]
    assert np.argwhere(image.regions[1].mask).tolist() == [[1, 1], [1, 2]]
    assert image.annotated == ("liver", "spleen")
    assert (image.modality, image.patient, image.slice_index) == ("CT", "AbdomenCT1K--Case_00011", 40)
    assert image.series == "ct_00--AbdomenCT1K--Case_00011--x"
    assert (image.axis, image.orientation, image.split) == (None, None, None)
    assert image.attributes["slice_direction"] == "x"


def test_sequences_of_a_case_share_the_patient_and_not_the_series(root):
    image = read_all(SaMed2D(root))[FLAIR]
    assert (image.modality, image.patient) == ("MR", "BraTS2021--BraTS2021_00003")
    assert image.series == "mr_flair--BraTS2021--BraTS2021_00003--y"
    assert image.attributes["source_modality"] == "mr_flair"


def test_an_empty_mask_stays_a_region(root):
    save(root / MASKS[0], np.zeros((6, 8)))
    regions = read_all(SaMed2D(root))[IMAGE].regions
    assert len(regions) == 3 and not regions[0].mask.any()


def test_units_need_no_more_of_the_index_than_they_give(root):
    text = "{" + ",".join(f'"images/{number}.png": []' for number in range(2_000)) + ", broken"
    (root / "SAMed2D_v1.json").write_text(text)
    assert [unit.key for unit in itertools.islice(SaMed2D(root).units(), 2)] == [
        "images/0.png",
        "images/1.png",
    ]
    with pytest.raises(UnitError, match=r"SAMed2D_v1\.json: is no JSON, or truncated"):
        list(SaMed2D(root).units())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({IMAGE: [f"masks/{STEM}--0009_000.png"]}, r"class 9 of 'AbdomenCT1K' has no name, or two.*complete"),
        ({IMAGE: [FLAIR_MASK]}, "expected a mask of .*, called <image>--<class id>_<part>.png"),
        ({IMAGE: ["masks/liver.png"]}, "expected a mask of"),
        ({IMAGE: [f"masks/{STEM}--0000_007.png"]}, "0000_007.png: cannot be read"),
        ({IMAGE: [f"../{STEM}--0000_000.png"]}, "refers to the file"),
        ({IMAGE: "masks/a.png"}, "expected a list of mask files"),
        ({IMAGE: [3]}, "expected a list of mask files"),
        ({IMAGE: None}, "expected a list of mask files"),
        ({"images/a.png": []}, "expected a name <modality>_<sub-modality>--<set>"),
        ({"images/ct_00--Set----x_0001.png": []}, "expected a name"),
        ({"images/ct_00--Set--Case--0001.png": []}, "expected a name"),
        ({"": []}, "expected"),
    ],
)
def test_what_is_wrong_with_an_entry(root, index, message):
    write_index(root, index)
    with pytest.raises(UnitError, match=message):
        read_all(SaMed2D(root))


def test_a_class_id_with_two_names_is_nobodys(root):
    mapping = {**CLASSES, "AbdomenCT1K": {"liver": 0, "hepar": 0, "spleen": 2}}
    (root / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(mapping))
    with pytest.raises(UnitError, match="class 0 of 'AbdomenCT1K' has no name, or two"):
        read_all(SaMed2D(root))


@pytest.mark.parametrize("mapping", [[], {"a": 3}, {"a": {"liver": "x"}}, {"a": {"": 0}}, {"a": {"b": None}}])
def test_a_broken_mapping_is_told(root, mapping):
    (root / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(mapping))
    with pytest.raises(UnitError, match=r"class_mapping_id\.json: "):
        list(SaMed2D(root).units())


def test_missing_index_files_are_told(tmp_path):
    with pytest.raises(UnitError, match=r"class_mapping_id\.json: cannot be read"):
        list(SaMed2D(tmp_path).units())
    (tmp_path / "SAMed2D_v1_class_mapping_id.json").write_text("{}")
    with pytest.raises(UnitError, match=r"SAMed2D_v1\.json: cannot be read"):
        list(SaMed2D(tmp_path).units())


def test_a_picture_of_another_size_or_kind(root):
    save(root / IMAGE, np.zeros((5, 8)))
    with pytest.raises(UnitError, match=r"0000_000\.png: has 6 x 8 pixels .* its image 5 x 8"):
        read_all(SaMed2D(root))
    (root / IMAGE).write_text("text")
    with pytest.raises(UnitError, match="is no readable picture"):
        read_all(SaMed2D(root))
