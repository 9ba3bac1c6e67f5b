import json

import pytest
from PIL import Image

from grounding.data.readers.biomedparse import BiomedParse
from grounding.data.records import UnitError


def save(path, value, size=(6, 4)):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("L", size, value).save(path)


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "train/amos_0004_75_CT_abdomen.png", 90)
    save(tmp_path / "train/amos_0004_76_CT_abdomen.png", 90)
    save(tmp_path / "train/covid_1585_X-Ray_chest.png", 90)
    save(tmp_path / "train_mask/amos_0004_75_CT_abdomen_left+kidney.png", 255)
    save(tmp_path / "train_mask/amos_0004_75_CT_abdomen_liver.png", 1)
    save(tmp_path / "train_mask/amos_0004_76_CT_abdomen_aorta.png", 0)
    save(tmp_path / "train_mask/covid_1585_X-Ray_chest_lung.png", 255)
    save(tmp_path / "test/p_1_MRI-FLAIR_brain.png", 90)
    save(tmp_path / "test_mask/p_1_MRI-FLAIR_brain_lower-grade+glioma.png", 255)
    (tmp_path / "train.json").write_text("{}")
    return tmp_path


def read_all(reader):
    return {image.key: image for unit in reader.units() for image in reader.read(unit)}


def test_images_and_their_masks(root):
    reader = BiomedParse(root)
    assert [unit.key for unit in reader.units()] == [
        "test/p_1_MRI-FLAIR_brain.png",
        "train/amos_0004_75_CT_abdomen.png",
        "train/amos_0004_76_CT_abdomen.png",
        "train/covid_1585_X-Ray_chest.png",
    ]
    assert all(json.loads(json.dumps(unit.payload)) == unit.payload for unit in reader.units())
    images = read_all(reader)
    image = images["train/amos_0004_75_CT_abdomen.png"]
    assert [region.label for region in image.regions] == ["left kidney", "liver"]
    assert all(region.mask.all() for region in image.regions)
    assert image.annotated == ("left kidney", "liver")
    assert (image.size, image.modality, image.split) == ((4, 6), "CT", "train")
    assert (image.patient, image.slice_index) == ("amos_0004", 75)
    assert image.attributes == {"source_modality": "CT", "site": "abdomen"}
    xray = images["train/covid_1585_X-Ray_chest.png"]
    assert (xray.patient, xray.slice_index, xray.modality) == (None, None, "DX")
    assert images["test/p_1_MRI-FLAIR_brain.png"].regions[0].label == "lower-grade glioma"


def test_an_empty_mask_stays_a_region(root):
    (region,) = read_all(BiomedParse(root))["train/amos_0004_76_CT_abdomen.png"].regions
    assert region.label == "aorta" and not region.mask.any()


def test_an_exhaustive_set_looks_for_the_targets_of_its_kind(root):
    images = read_all(BiomedParse(root, exhaustive=True))
    assert set(images["train/amos_0004_76_CT_abdomen.png"].annotated) == {"aorta", "left kidney", "liver"}
    assert images["train/covid_1585_X-Ray_chest.png"].annotated == ("lung",)


def test_an_image_without_masks_has_no_regions(root):
    (root / "train_mask/covid_1585_X-Ray_chest_lung.png").unlink()
    image = read_all(BiomedParse(root))["train/covid_1585_X-Ray_chest.png"]
    assert (image.regions, image.annotated) == ((), ())


@pytest.mark.parametrize(
    ("add", "key", "message"),
    [
        ("train_mask/lost_1_CT_chest_lung.png", "train/lost_1_CT_chest.png", "cannot be read"),
        ("train_mask/liver.png", "train/.png", r"expected a name \[NAME\]_\[MODALITY\]_\[SITE\]\.png"),
        ("train/photo.png", "train/photo.png", r"expected a name \[NAME\]"),
        ("train_mask/amos_0004_75_CT_abdomen_.png", "train/amos_0004_75_CT_abdomen.png", "got no target"),
    ],
)
def test_nothing_is_lost_silently(root, add, key, message):
    save(root / add, 255)
    reader = BiomedParse(root)
    (unit,) = [unit for unit in reader.units() if unit.key == key]
    with pytest.raises(UnitError, match=message):
        list(reader.read(unit))


def test_masks_of_another_size_are_told(root):
    save(root / "train_mask/covid_1585_X-Ray_chest_lung.png", 255, size=(4, 6))
    with pytest.raises(UnitError, match=r"chest_lung\.png: has 6 x 4 pixels .* its image 4 x 6"):
        read_all(BiomedParse(root))


def test_a_folder_of_another_kind_is_told(tmp_path):
    with pytest.raises(UnitError, match="expected folders such as train/ and train_mask/"):
        list(BiomedParse(tmp_path).units())
    (tmp_path / "train_mask").mkdir()
    with pytest.raises(UnitError, match="train: cannot be listed"):
        list(BiomedParse(tmp_path).units())
    with pytest.raises(UnitError, match="nowhere: cannot be listed"):
        list(BiomedParse(tmp_path / "nowhere").units())
