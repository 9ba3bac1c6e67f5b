"""What a test shares with training, on phantoms."""

import json

import pytest
from PIL import Image

from benchmarks.contamination import Hashed, image_files, main, shared_images
from grounding.data.phantoms import make_phantom


def scene(seed):
    """A phantom chest of its own."""
    return Image.fromarray(make_phantom("CR", seed).image.pixels)


@pytest.fixture
def folders(tmp_path):
    train, test = tmp_path / "train", tmp_path / "test"
    (train / "deep").mkdir(parents=True)
    test.mkdir()
    for k in range(4):
        scene(k).save(train / f"{k}.png")
    scene(4).save(train / "deep" / "4.png")
    scene(0).save(test / "again.bmp")  # the same pixels in another file
    scene(4).save(test / "worse.jpg", quality=70)  # saved again, with loss
    scene(9).save(test / "own.png")
    (test / "notes.txt").write_text("no image")
    return train, test


def test_same_pixels_and_pictures_that_look_alike(folders, tmp_path, capsys):
    train, test = folders
    out = tmp_path / "out" / "shared.json"
    assert main(["--train", str(train), "--test", str(test), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "3 test images against 5 training images: 1 with the same pixels, 1 more that look alike" in told
    assert f"{test / 'again.bmp'} = {train / '0.png'} (same pixels)" in told
    found = json.loads(out.read_text())
    again, worse = found["shared"]
    assert (again["same_pixels"], again["bits"]) == (True, 0)
    assert (worse["same_pixels"], worse["train"]) == (False, str(train / "deep" / "4.png"))
    assert worse["bits"] <= 2
    assert (found["test_images"], found["train_images"]) == (3, 5)


def test_nothing_shared(folders):
    train, test = folders
    assert not shared_images(Hashed.of([test / "own.png"]), Hashed.of(image_files(train)))
    assert not shared_images(Hashed.of([test / "own.png"]), Hashed.of([]))


def test_mirrored_pictures_are_others(folders, tmp_path):
    train, _ = folders
    mirrored = tmp_path / "mirrored.png"
    scene(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    assert not shared_images(Hashed.of([mirrored]), Hashed.of(image_files(train)))


def test_coco_files_name_their_images(tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(3):
        scene(k).save(tmp_path / "images" / f"{k}.png")
    for split, names in (("train", [0, 1]), ("val", [2])):
        images = [{"id": k, "file_name": f"{k}.png"} for k in names]
        (tmp_path / f"{split}.json").write_text(json.dumps({"images": images}))
    train, val = tmp_path / "train.json", tmp_path / "val.json"
    assert main(["--train", str(train), "--test", str(val)]) == 0
    assert main(["--train", str(train), "--test", str(train)]) == 1


def test_a_benchmark_against_its_own_training_part(data, capsys):
    assert main(["--task", "vqa_rad", "--split", "official-test", "--data-dir", str(data)]) == 1
    assert "6 test images against 6 training images: 6 with the same pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("official-test", "203 test images against 314 training images: 203 with the same pixels, 0 more"),
        ("disjoint-test", "47 test images against 252 training images: 0 with the same pixels, 0 more"),
    ],
)
def test_vqa_rad(data_dir, capsys, split, counts):
    """The figures of docs/benchmarks.md."""
    code = main(["--task", "vqa_rad", "--split", split, "--data-dir", str(data_dir)])
    assert code == int(split == "official-test")
    assert counts in capsys.readouterr().out


def test_usage_is_told(tmp_path, capsys):
    for flags in ([], ["--task", "slake"], ["--train", "a"]):
        with pytest.raises(SystemExit):
            main(flags)
        assert "give --task with --data-dir" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="found no image"):
        list(image_files(tmp_path))
