"""Training examples: crops by hand, no mirroring, repeatable draws, honest absent phrases, weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from grounding.data.coco import CocoSet, Sample
from grounding.data.holdout import held_out_groups
from grounding.data.mixture import AugmentConfig, GroundingMixture, augmented, collate, turned
from grounding.denoising import DenoisingConfig
from grounding.modeling import MedGLIPConfig
from grounding.train import picture_sides, without_sides
from grounding.train_config import TrainConfig

PLAIN = AugmentConfig(crop_probability=0.0, colour=0.0, synonym_probability=0.0, absent_phrases=0)


# --- crops --------------------------------------------------------------------------------------------------


def make_sample(path, pixels, boxes=(), labels=(), modality="CT"):
    Image.fromarray(pixels).save(path)
    return Sample(
        path,
        pixels.shape[:2],
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        modality,
        str(path),
    )


def test_a_training_never_sees_what_is_held_out_and_pictures_grow(tmp_path):
    sample = make_sample(tmp_path / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
    patients = [f"patient {n // 2}" for n in range(20)]  # ten patients with two images each
    coco = CocoSet("set", ("x",), ((),), tuple(replace(sample, group=patient) for patient in patients))
    kept = {each.group for each in coco.without_held_out(0.3).samples}
    held = held_out_groups("set", patients, 0.3)
    assert len(held) == 3 and kept == set(patients) - held
    assert coco.without_held_out(0.0).samples == coco.samples
    assert len(held_out_groups("set", ["a", "b", "b"], 0.01)) == 1  # never none
    assert held_out_groups("set", ["b", "a"], 0.5) == held_out_groups("set", ["a", "b"], 0.5)
    with pytest.raises(ValueError, match="fraction"):
        held_out_groups("set", patients, 3)
    config = TrainConfig(sets={}, steps=3, batch_size=2, first_steps=1, first_image_size=8, image_size=16)
    assert picture_sides(config).tolist() == [8, 8, 16, 16, 16, 16]


def test_pictures_are_never_mirrored(tmp_path):
    # The top left quarter is bright. A crop of at least 0.6 of each side keeps its corner top left.
    pixels = np.zeros((60, 100, 3), dtype=np.uint8)
    pixels[:30, :50] = 255
    sample = make_sample(tmp_path / "a.png", pixels, [[0, 0, 50, 30]], [0])
    for seed in range(40):
        rng = np.random.default_rng(seed)
        picture, boxes, _, _ = augmented(
            sample, 32, AugmentConfig(crop_probability=1.0, min_visible=0.0), rng
        )
        assert picture[0, 0, 0] > picture[0, -1, 0]
        assert picture[0, 0, 0] > picture[-1, 0, 0]
        assert boxes[0, :2].tolist() == [
            0,
            0,
        ]  # the box keeps to its corner, and shrinks or grows with the crop
        assert 0 < boxes[0, 2] < 1 and 0 < boxes[0, 3] < 1


def test_close_pictures_hold_a_box_or_none_about_evenly(tmp_path):
    sample = make_sample(tmp_path / "a.png", np.zeros((50, 100, 3), np.uint8), [[60, 10, 90, 40]], [0])
    config = AugmentConfig(crop_probability=0.0, close_probability=1.0)
    held = [len(augmented(sample, 32, config, np.random.default_rng(seed))[1]) for seed in range(100)]
    assert 35 < sum(held) < 65


@pytest.mark.parametrize("symmetry", range(8))
def test_boxes_follow_the_picture_when_it_is_turned(symmetry):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[1:3, 4:7] = 255
    boxes = np.array([[4, 1, 7, 3]], np.float32) / 8
    moved, (box,) = turned(pixels, boxes, symmetry)
    x1, y1, x2, y2 = (box * 8).astype(int)
    assert (moved[y1:y2, x1:x2] == 255).all()
    assert moved.sum() == pixels.sum()
    assert (symmetry == 0) == np.array_equal(moved, pixels)
    assert turned(pixels, np.zeros((0, 4), np.float32), symmetry)[1].shape == (0, 4)


def test_the_eight_symmetries_differ():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert len({turned(pixels, np.zeros((0, 4)), symmetry)[0].tobytes() for symmetry in range(8)}) == 8


def test_sets_with_sides_are_not_turned():
    with pytest.raises(ValueError, match="right kidney"):
        without_sides(CocoSet("x", ("right kidney", "spleen"), ((), ()), ()))
    assert without_sides(CocoSet("x", ("cell",), ((),), ())).turned


def test_boxes_follow_the_picture_through_a_crop(tmp_path):
    pixels = np.zeros((100, 160, 3), dtype=np.uint8)
    pixels[40:60, 60:110] = 255
    sample = make_sample(tmp_path / "a.png", pixels, [[60, 40, 110, 60]], [0])
    for seed in range(20):
        config = AugmentConfig(crop_probability=1.0, colour=0.0)
        picture, boxes, labels, _ = augmented(sample, 64, config, np.random.default_rng(seed))
        if len(boxes):
            rows, columns = np.nonzero(picture[..., 0] > 127)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(boxes[0] * 64 - seen).max() < 1.01
            assert labels.tolist() == [0]


def test_grey_stays_grey_and_colour_changes(tmp_path):
    grey = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    sample = make_sample(tmp_path / "a.png", grey)
    pictures = [
        augmented(sample, 32, AugmentConfig(crop_probability=0.0), np.random.default_rng(seed))[0]
        for seed in (0, 1)
    ]
    assert (pictures[0][..., 0] == pictures[0][..., 2]).all()
    assert (pictures[0] != pictures[1]).any()


def test_without_augmentation_training_sees_what_inference_sees(tmp_path):
    from grounding.preprocess import preprocess, to_tensor

    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    sample = make_sample(tmp_path / "a.png", pixels)
    picture, _, _, _ = augmented(sample, 32, PLAIN, np.random.default_rng(0))
    assert torch.equal(to_tensor(picture), preprocess(pixels, 32))


# --- the mixture --------------------------------------------------------------------------------------------


@pytest.fixture
def sets(tmp_path):
    """Sets of two boxes or one an image: three modalities, a second CT set, CR beside DX, and one unknown."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:20, 5:25], pixels[20:36, 40:55] = 120, 250

    def make(name, labels, modality, count, synonyms=None):
        boxes = [[5, 10, 25, 20], [40, 20, 55, 36]][: len(labels)]
        samples = tuple(
            make_sample(tmp_path / f"{name}{i}.png", pixels, boxes, range(len(boxes)), modality)
            for i in range(count)
        )
        return CocoSet(name, labels, synonyms or ((),) * len(labels), samples)

    return {
        "abdomen": make("abdomen", ("liver", "spleen"), "CT", 3, (("hepar", "jecur"), ())),
        "kidneys": make("kidneys", ("left kidney",), "CT", 2),
        "chest": make("chest", ("heart", "left lung"), "DX", 4),
        "film": make("film", ("right lung",), "CR", 1),  # conditioned like DX
        "smear": make("smear", ("red blood cell",), "SM", 2),
        "unknown": make("unknown", ("polyp",), None, 2),
    }


@pytest.fixture
def mix(sets, tokenizer):
    def make(names, augment=PLAIN, length=8, seed=0, weights=None):
        weights = weights or [1.0] * len(names)
        config = MedGLIPConfig(image_size=32)
        sides = np.full(length, config.image_size)
        return GroundingMixture([sets[n] for n in names], weights, tokenizer, config, augment, sides, seed)

    return make


@pytest.fixture
def phrases_of(tokenizer):
    """The phrases of an example's prompt, in order (the tests' phrases survive decoding)."""

    def read(example):
        ids = example.prompt.input_ids
        return [tokenizer.decode(list(ids[start:end])) for start, end in example.prompt.token_spans]

    return read


def equal(a, b):
    return (
        torch.equal(a.pixels, b.pixels)
        and a.prompt == b.prompt
        and torch.equal(a.boxes, b.boxes)
        and torch.equal(a.phrase_index, b.phrase_index)
        and a.modality_id == b.modality_id
    )


def test_an_example_depends_on_seed_and_position_only(mix):
    names = ["abdomen", "chest", "smear"]
    one, other = mix(names, AugmentConfig(), length=6), mix(names, AugmentConfig(), length=6)
    forwards = [one[i] for i in range(6)]
    backwards = [other[i] for i in reversed(range(6))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    reseeded = mix(names, AugmentConfig(), length=6, seed=1)
    assert not any(equal(example, reseeded[i]) for i, example in enumerate(forwards))
    assert not any(torch.equal(forwards[0].pixels, later.pixels) for later in forwards[1:])


def test_only_turned_sets_are_turned(sets, mix):
    name = "kidneys"
    upright = [mix([name], length=16)[position] for position in range(16)]
    assert len({example.boxes.numpy().tobytes() for example in upright}) == 1
    sets[name] = replace(sets[name], turned=True)
    moved = [mix([name], length=16)[position] for position in range(16)]
    assert len({example.boxes.numpy().tobytes() for example in moved}) > 4
    for example in moved:  # the picture goes with its boxes: what lies in them is bright
        side = len(example.pixels)
        for x, y, _, _ in (example.boxes * side).int().tolist():
            assert example.pixels[y, x].min() > 60


def test_boxes_are_cxcywh_and_point_at_their_own_phrase(mix, phrases_of):
    expected = {"liver": [0.25, 0.375, 1 / 3, 0.25], "spleen": [47.5 / 60, 0.7, 0.25, 0.4]}
    orders = set()
    for example in mix(["abdomen"], length=12):
        phrases = phrases_of(example)
        orders.add(tuple(phrases))
        found = {phrases[i]: box for i, box in zip(example.phrase_index.tolist(), example.boxes, strict=True)}
        assert set(found) == set(expected)
        for phrase, box in found.items():
            assert box.tolist() == pytest.approx(expected[phrase])
    assert orders == {("liver", "spleen"), ("spleen", "liver")}  # shuffled


def test_absent_phrases_are_of_other_modalities_and_carry_no_box(mix, phrases_of):
    mixture = mix(["abdomen", "kidneys", "chest", "smear"], AugmentConfig(absent_phrases=3), length=120)
    seen = set()
    for position, example in enumerate(mixture):
        coco = mixture.sets[mixture.draws[position, 0]]
        own = {*coco.labels, *(synonym for group in coco.synonyms for synonym in group)}
        phrases = phrases_of(example)
        absent = set(phrases) - own
        assert len(phrases) == len(set(phrases)) and len(absent) <= 3
        assert {phrases[i] for i in example.phrase_index.tolist()} <= own
        if coco.name == "abdomen":
            seen |= absent
    assert seen == {"heart", "left lung", "red blood cell"}  # never the other CT set's kidney


def test_modalities_of_one_group_lend_each_other_no_absent_phrases(mix, phrases_of):
    mixture = mix(["chest", "film"], AugmentConfig(absent_phrases=4), length=30)
    for position, example in enumerate(mixture):
        assert set(phrases_of(example)) == set(mixture.sets[mixture.draws[position, 0]].labels)


def test_an_unknown_modality_proves_nothing_absent(mix, phrases_of):
    mixture = mix(["unknown", "chest"], AugmentConfig(absent_phrases=4), length=30)
    for position, example in enumerate(mixture):
        assert set(phrases_of(example)) == set(mixture.sets[mixture.draws[position, 0]].labels)


def test_synonyms_stand_for_their_label(mix, phrases_of):
    mixture = mix(
        ["abdomen"], AugmentConfig(0.0, colour=0.0, synonym_probability=1.0, absent_phrases=0), length=20
    )
    named = set()
    for example in mixture:
        phrases = phrases_of(example)
        assert "spleen" in phrases and "liver" not in phrases
        liver = phrases[example.phrase_index[0]]  # the liver's box comes first
        named.add(liver.replace(" ", ""))
    assert named == {"hepar", "jecur"}


@pytest.mark.parametrize(("withheld", "expected"), [(0.0, {2}), (1.0, {0}), (0.5, {0, 2})])
def test_modality_is_withheld_as_often_as_asked(mix, withheld, expected):
    config = AugmentConfig(crop_probability=0.0, colour=0.0, absent_phrases=0, unknown_modality=withheld)
    assert {example.modality_id for example in mix(["abdomen"], config, length=20)} == expected  # CT is row 2


def test_sets_are_drawn_in_proportion_to_their_weights(mix):
    draws = mix(["abdomen", "chest", "smear"], length=6000, weights=[3.0, 1.0, 0.0]).draws
    share = np.bincount(draws[:, 0], minlength=3) / 6000
    assert share == pytest.approx([0.75, 0.25, 0.0], abs=0.02)


def test_a_set_is_seen_whole_before_it_is_seen_again(mix):
    draws = mix(["chest", "smear"], length=200).draws
    of_chest = draws[draws[:, 0] == 0, 1]
    for start in range(0, len(of_chest) - 3, 4):
        assert sorted(of_chest[start : start + 4]) == [0, 1, 2, 3]


def test_collate_keeps_each_images_own_prompt(mix):
    mixture = mix(["abdomen", "smear"], length=12)
    first = next(e for i, e in enumerate(mixture) if mixture.draws[i, 0] == 0)
    second = next(e for i, e in enumerate(mixture) if mixture.draws[i, 0] == 1)
    batch = collate([first, second])
    assert batch.pixel_values.shape == (2, 3, 32, 32)
    # [CLS] liver . spleen . [SEP] and [CLS] red blood cell . [SEP]
    assert batch.attention_mask.sum(1).tolist() == [6, 6]
    assert batch.targets[0].positive_map.int().tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert batch.targets[1].positive_map.int().tolist() == [[0, 1, 1, 1, 0, 0]]
    assert torch.equal(batch.targets[1].boxes, second.boxes)
    assert batch.modality_ids.tolist() == [first.modality_id, second.modality_id]


def test_batch_makes_the_network_input(mix):
    from grounding.preprocess import to_tensor

    example = mix(["abdomen"])[0]
    batch = collate([example])
    assert batch.pixels.dtype == torch.uint8
    torch.testing.assert_close(batch.pixel_values[0], to_tensor(example.pixels.numpy()))
    assert batch.pixel_values.is_contiguous(memory_format=torch.channels_last)


def test_labels_not_in_the_picture_are_asked_as_often_as_told(sets, mix, phrases_of):
    only_liver = [replace(s, boxes=s.boxes[:1], labels=s.labels[:1]) for s in sets["abdomen"].samples]
    sets["abdomen"] = replace(sets["abdomen"], samples=tuple(only_liver))
    asked = {
        share: {
            tuple(sorted(phrases_of(e))) for e in mix(["abdomen"], replace(PLAIN, annotated_absent=share), 12)
        }
        for share in (0.0, 0.5, 1.0)
    }
    assert asked[0.0] == {("liver",)}
    assert asked[0.5] == {("liver",), ("liver", "spleen")}
    assert asked[1.0] == {("liver", "spleen")}


def test_something_is_asked_of_a_picture_that_shows_nothing(sets, mix, phrases_of):
    empty = [replace(s, boxes=s.boxes[:0], labels=s.labels[:0]) for s in sets["abdomen"].samples]
    sets["abdomen"] = replace(sets["abdomen"], samples=tuple(empty))
    for example in mix(["abdomen"], replace(PLAIN, annotated_absent=0.0)):
        assert len(phrases_of(example)) == 1 and len(example.boxes) == 0


def test_a_phrase_cut_away_in_part_is_unsure(mix, phrases_of):
    augment = replace(PLAIN, crop_probability=1.0, min_crop=0.5, min_visible=0.95)
    seen = set()
    for example in mix(["abdomen"], augment, length=40):
        shown = set(example.phrase_index.tolist())
        for index, unsure in enumerate(example.unsure.tolist()):
            assert not (unsure and index in shown)
            seen.add((unsure, index in shown))
    assert seen == {(True, False), (False, True), (False, False)}


def test_true_modality_is_kept_when_withheld_and_prefix_follows_what_is_told(sets, tokenizer):
    config = MedGLIPConfig(image_size=32, modality_prefix=True)
    for withheld, told in ((1.0, 0), (0.0, 2)):
        augment = replace(PLAIN, unknown_modality=withheld)
        example = GroundingMixture(
            [sets["abdomen"]], [1.0], tokenizer, config, augment, np.array([config.image_size]), 0
        )[0]
        assert (example.modality_id, example.true_modality_id) == (told, 2)
        assert (example.prompt.token_spans[0][0] > 1) == bool(told)
        assert collate([example]).targets[0].modality_id == 2


def test_denoising_queries_come_with_the_example(sets, tokenizer):
    config = MedGLIPConfig(image_size=32)
    arguments = ([sets["abdomen"]], [1.0], tokenizer, config, PLAIN, np.full(2, config.image_size), 0)
    mixture = GroundingMixture(*arguments, DenoisingConfig(queries=8, phrase_noise=0.0))
    batch = collate([mixture[0], mixture[1]])
    assert batch.denoising.boxes.shape == (2, 8, 4)  # two boxes, positive and negative, two groups
    for row in range(2):
        for query in (0, 1):
            truth = batch.targets[row]
            tokens = truth.positive_map[truth.phrase_index[query]]
            assert torch.equal(batch.denoising.positive[row, query], tokens)
            assert torch.equal(batch.denoising.target_boxes[row, query], truth.boxes[query])
    assert collate([GroundingMixture(*arguments)[0]]).denoising is None
