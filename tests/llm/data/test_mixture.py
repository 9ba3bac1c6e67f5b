"""The mixture: shares, coverage, purity of position, and noise that keeps answers true."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from grounding.types import Regions
from llm.data.augment import View, misplace_regions
from llm.data.instructions import (
    Instruction,
    as_text,
    from_vqa,
    read_instructions,
    split_by_group,
    with_regions,
    write_instructions,
)
from llm.data.mixture import BLOCK, EXACT, InstructionMixture, RegionNoise, Source, load_mixture
from llm.data.vqa import VQAExample

LOUD = RegionNoise(omit=0.0, drop=0.5, misplace=0.5, jitter=0.05)


def regions(number=0, count=3):
    x = np.arange(count, dtype=np.float32) * 20
    boxes = np.stack([x, x, x + 10 + number, x + 15], axis=1)
    return Regions(boxes, np.ones(count), np.zeros(count, int), ("cell",), (100, 120))


def item(number, source="a", kind="vqa", region_ids=(), image=True):
    return Instruction(
        f"{source}/{number}",
        Path(f"/data/{number}.png") if image else None,
        f"Is it number {number}?",
        "yes",
        kind,
        source,
        f"g{number}",
        regions=regions(number) if image else None,
        region_ids=region_ids,
    )


def items(source, count, **fields):
    return [item(k, source, **fields) for k in range(count)]


@pytest.fixture
def mixture():
    return InstructionMixture(
        [Source("a", items("a", 7), 3.0, LOUD), Source("b", items("b", 11), 1.0, LOUD)], seed=4
    )


def same(first, second):
    a, b = (d.item.to_dict(Path("/")) for d in (first, second))
    return a == b and first.view == second.view


def test_shares_are_kept_in_every_block(mixture):
    for start in (0, BLOCK, 5 * BLOCK):
        seen = Counter(mixture[k].item.source for k in range(start, start + BLOCK))
        assert seen == {"a": 150, "b": 50}


def test_all_items_come_before_one_comes_again(mixture):
    seen = [d.item.qid for d in islice(mixture.stream(), 400) if d.item.source == "b"]
    for start in range(0, 88, 11):
        assert len(set(seen[start : start + 11])) == 11


def test_a_position_is_the_same_in_any_order_and_after_a_restart(mixture):
    again = InstructionMixture(mixture.sources, seed=4)
    positions = [903, 0, 17, 400, 16]
    backward = {k: again[k] for k in sorted(positions, reverse=True)}
    assert all(same(mixture[k], backward[k]) for k in positions)
    assert all(
        same(a, b)
        for a, b in zip(islice(mixture.stream(300), 20), islice(again.stream(300), 20), strict=True)
    )


def test_workers_share_the_stream(mixture):
    whole = list(islice(mixture.stream(), 12))
    parts = [list(islice(mixture.stream(k, step=3), 4)) for k in range(3)]
    assert all(same(whole[k], parts[k % 3][k // 3]) for k in range(12))


def test_seeds_differ(mixture):
    other = InstructionMixture(mixture.sources, seed=5)
    assert any(not same(mixture[k], other[k]) for k in range(5))


def test_regions_are_dropped_moved_and_misplaced(mixture):
    drawn = [d.item.regions for d in islice(mixture.stream(), 200)]
    kept = sum(map(len, drawn))
    assert 0.4 < kept / 600 < 0.6
    scores = np.concatenate([r.scores for r in drawn])
    assert (scores < 0.45).mean() > 0.3
    assert (scores < 1).mean() > 0.9


def test_regions_that_are_named_by_number_stay():
    bound = InstructionMixture([Source("a", items("a", 5, region_ids=(1,)), 1.0, LOUD)], seed=0)
    for drawn in islice(bound.stream(), 40):
        assert len(drawn.item.regions) == 3
        number = int(drawn.item.qid.split("/")[1])
        assert np.abs(drawn.item.regions.boxes - regions(number).boxes).max() < 6


def test_answers_from_boxes_keep_their_boxes_and_their_plain_view():
    views = (View(), View(angle=5.0))
    source = Source("a", items("a", 5, kind="side"), 1.0)
    mixture = InstructionMixture([source], seed=0, views_of=lambda path: views)
    drawn = list(islice(mixture.stream(), 200))
    assert {d.view for d in drawn} == {0}
    omitted = [d for d in drawn if d.item.regions is None]
    assert 5 < len(omitted) < 40
    shown = [d for d in drawn if d.item.regions is not None]
    assert all(len(d.item.regions) == 3 for d in shown)
    moved = [np.abs(d.item.regions.boxes - regions(int(d.item.qid[2:])).boxes).max() for d in shown]
    assert 0 < np.mean(moved) < 0.5
    assert EXACT.drop == EXACT.misplace == 0


def test_views_move_the_boxes_of_other_answers():
    views = (View(), View(shift=(0.1, 0.0)))
    quiet = RegionNoise(omit=0, drop=0, misplace=0, jitter=0)
    mixture = InstructionMixture(
        [Source("a", items("a", 5), 1.0, quiet)], seed=0, views_of=lambda path: views
    )
    for drawn in islice(mixture.stream(), 30):
        shift = drawn.item.regions.boxes[0, 0] - regions().boxes[0, 0]
        assert shift == pytest.approx(12.0 * drawn.view)


def test_text_alone_has_no_view_and_no_regions():
    mixture = InstructionMixture([Source("t", items("t", 3, image=False), 1.0)], seed=0)
    assert mixture[5].item.image_path is None
    assert mixture[5].item.regions is None


def test_misplaced_regions_keep_size_stay_inside_and_score_low():
    moved = misplace_regions(regions(), np.random.default_rng(0), 1.0)
    assert np.allclose(moved.boxes[:, 2:] - moved.boxes[:, :2], [[10, 15]] * 3, atol=1e-4)
    assert (moved.boxes >= 0).all()
    assert (moved.boxes <= [120, 100, 120, 100]).all()
    assert (moved.scores < 0.4).all()
    assert (misplace_regions(regions(), np.random.default_rng(0), 0.0).boxes == regions().boxes).all()


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(ValueError, match="leave it out"):
        Source("a", [], 1.0)
    with pytest.raises(ValueError, match="different names"):
        InstructionMixture([Source("a", items("a", 1), 1.0)] * 2, seed=0)
    with pytest.raises(IndexError, match="start at 0"):
        InstructionMixture([Source("a", items("a", 1), 1.0)], seed=0)[-1]


# ---- instructions ------------------------------------------------------------------------------------


def test_files_come_back_equal_and_move_with_their_images(tmp_path):
    own = [
        Instruction(
            "a/1",
            tmp_path / "images" / "1.png",
            "Where?",
            "left",
            "where",
            "a",
            "g",
            ("cell",),
            regions(),
            (2,),
        ),
        Instruction("t/1", None, "What is a liver?", "an organ", "text", "t", "g"),
    ]
    path = tmp_path / "out" / "a.jsonl"
    assert write_instructions(path, own) == 2
    assert '"../images/1.png"' in path.read_text()
    first, second = read_instructions(path)
    assert first.to_dict(tmp_path) == own[0].to_dict(tmp_path)
    assert first.image_path.resolve() == own[0].image_path.resolve()
    assert second.to_dict(tmp_path) == own[1].to_dict(tmp_path)
    mixture = load_mixture(tmp_path / "out", {"a": 1.0}, seed=0)
    assert {mixture[k].item.qid for k in range(2)} == {"a/1", "t/1"}


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(FileNotFoundError, match=r"medglip_agent\.instructions"):
        read_instructions(path)
    path.write_text('{"qid": "1"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:1 is no instruction"):
        read_instructions(path)


def test_a_region_that_is_not_there_cannot_be_named():
    with pytest.raises(ValueError, match=r"names the regions \[3\], but has 3"):
        item(1, region_ids=(3,))


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Is it there?", "yes", "CLOSED"),
        ("Which is larger, the liver or the left kidney?", "left kidney", "CLOSED"),
        ("Which side: left, right, both or neither?", "both", "CLOSED"),
        ("Where is the liver?", "upper left", "OPEN"),
        ("How many cells are there?", "3", "OPEN"),
    ],
)
def test_choices_named_in_the_question_are_closed(question, answer, expected):
    assert Instruction("1", None, question, answer, "k", "s", "g").answer_type == expected


def test_groups_are_kept_apart_as_a_whole():
    own = [item(k, source) for k in range(200) for source in "ab"]
    kept, watched = split_by_group(own, 0.2)
    assert len(kept) + len(watched) == 400
    assert 20 < len({i.group for i in watched}) < 60
    assert not {i.group for i in kept} & {i.group for i in watched}
    assert split_by_group(own[::-1], 0.2)[1] == watched[::-1]


EXAMPLE = VQAExample(
    "7", Path("imgs/xmlab3/source.jpg"), "What is it?", "Liver", "OPEN", "Organ", "Abdomen", "MRI"
)


def test_vqa_questions_become_instructions_and_back():
    (made,) = from_vqa([EXAMPLE], "slake", {"7": regions()})
    assert made.to_vqa().question == "What is it?"
    assert made.qid == "slake/7"
    (other,) = with_regions([made], {"slake/7": regions(count=1)})
    assert len(other.regions) == 1
    with pytest.raises(ValueError, match="by number"):
        with_regions([item(1, region_ids=(0,))], {})


def test_questions_without_their_image_say_so():
    (made,) = as_text([EXAMPLE], "slake")
    assert made.image_path is None
    assert made.question == "No picture, only words: MRI of the abdomen. What is it?"
    with pytest.raises(ValueError, match="needs an image"):
        made.to_vqa()
