"""The mixture: shares, coverage, and noise that keeps answers true."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grounding.types import Regions
from llm.data.augment import View, doubt_regions, guess_absent, misplace_regions
from llm.data.instructions import (
    Instruction,
    as_text,
    from_vqa,
    read_instructions,
    split_by_group,
    with_regions,
    write_instructions,
)
from llm.data.mixture import EXACT, Source, noise_of, noisy_regions
from llm.data.vqa import VQAExample


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


def draws(item, count=200, view=View()):  # noqa: B008 (a frozen value)
    return [noisy_regions(item, view, np.random.default_rng(k)) for k in range(count)]


def test_without_a_number_a_source_shows_everything_once():
    source = Source("a", tuple(items("a", 7)))
    drawn = source.draw(np.random.default_rng(0), 5)
    assert sorted(drawn) == list(range(7)) != drawn


def test_a_number_takes_whole_images_up_to_a_few_questions_each():
    same_image = [replace(item(n), image_path=Path(f"/data/{n % 4}.png")) for n in range(40)]
    source = Source("a", tuple(same_image), questions=9)
    seen = set()
    for epoch in range(30):
        drawn = source.draw(np.random.default_rng(epoch), 3)
        images = Counter(same_image[k].image_path for k in drawn)
        assert len(drawn) == len(set(drawn)) == 9
        assert set(images.values()) == {3}
        seen |= set(drawn)
    assert seen == set(range(40))


def test_texts_without_an_image_are_drawn_one_by_one():
    source = Source("t", tuple(items("t", 20, image=False)), questions=6)
    assert len(set(source.draw(np.random.default_rng(0), 1))) == 6


def test_regions_are_dropped_moved_and_misplaced():
    drawn = draws(item(0))
    shown = [r for r in drawn if r is not None]
    assert 0.05 < 1 - len(shown) / len(drawn) < 0.25
    assert 0.75 < sum(map(len, shown)) / (3 * len(shown)) < 0.95
    scores = np.concatenate([r.scores for r in shown])
    assert (scores < 1).mean() > 0.9
    assert min(scores) < 0.4


def test_equal_regions_change_equally_under_equal_seeds():
    first, second = draws(item(0), 20), draws(replace(item(0), question="Another?"), 20)
    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a.boxes == b.boxes).all()


def test_regions_that_are_named_by_number_stay():
    for drawn in draws(item(2, region_ids=(1,)), 40):
        assert len(drawn) == 3
        assert np.abs(drawn.boxes - regions(2).boxes).max() < 6


def test_answers_from_boxes_keep_their_boxes():
    drawn = draws(item(1, kind="side"))
    omitted = [r for r in drawn if r is None]
    assert 5 < len(omitted) < 40
    shown = [r for r in drawn if r is not None]
    assert all(len(r) == 3 for r in shown)
    assert 0 < np.mean([np.abs(r.boxes - regions(1).boxes).max() for r in shown]) < 0.5
    assert EXACT.drop == EXACT.misplace == 0
    assert not noise_of(item(1, kind="side")).views
    assert noise_of(item(1)).views


def test_views_move_the_boxes():
    view = View(shift=(0.1, 0.0))
    corners = [r.boxes[0, 0] for r in draws(item(0, region_ids=(0,)), 100, view) if r is not None]
    assert np.mean(corners) == pytest.approx(12.0, abs=0.3)


def test_text_alone_has_no_regions():
    assert draws(item(0, image=False), 3) == [None] * 3


def test_misplaced_regions_keep_size_stay_inside_and_score_low():
    moved = misplace_regions(regions(), np.random.default_rng(0), 1.0)
    assert np.allclose(moved.boxes[:, 2:] - moved.boxes[:, :2], [[10, 15]] * 3, atol=1e-4)
    assert (moved.boxes >= 0).all()
    assert (moved.boxes <= [120, 100, 120, 100]).all()
    assert (moved.scores < 0.4).all()
    assert (misplace_regions(regions(), np.random.default_rng(0), 0.0).boxes == regions().boxes).all()


def test_the_only_region_of_a_phrase_may_become_a_guess_behind_the_others():
    two = Regions(
        [[0, 0, 9, 9], [1, 1, 8, 8], [2, 2, 7, 7]], [1, 1, 1], [0, 1, 1], ("liver", "cell"), (10, 10)
    )
    doubted = doubt_regions(two, np.random.default_rng(0), 1.0)
    assert doubted.phrases == ("cell", "cell", "liver")
    assert doubted.doubted.tolist() == [False, False, True]
    assert not doubt_regions(two, np.random.default_rng(0), 0.0).doubted.any()


def test_a_wrong_guess_lies_inside_and_leaves_the_phrase_missing():
    for seed in range(50):
        told = guess_absent(Regions.empty((50, 90), ("liver", "cell")), np.random.default_rng(seed), 1.0)
        assert told.missing == ("liver", "cell") and len(told) == 2 and len(told.found) == 0
        assert (told.boxes >= 0).all() and (told.boxes <= [90, 50, 90, 50]).all()
    assert not len(guess_absent(Regions.empty((5, 5), ("liver",)), np.random.default_rng(0), 0.0))


def test_a_guess_never_changes_what_is_there():
    """What is asked for presence or count keeps its regions; what is asked for its place keeps its place."""
    one = Regions([[10, 10, 40, 40]], [1], [0], ("liver", "spleen"), (100, 120))
    for kind in ("presence", "count"):
        for told in draws(replace(item(0, kind=kind), regions=one)):
            assert told is None or told.found.phrases == ("liver",)
            assert told is None or set(told.guesses) <= {"spleen"}
    told = [t for t in draws(replace(item(0, kind="where"), regions=one)) if t is not None]
    assert {len(t.found) for t in told} == {0, 1}
    assert all(np.abs(t.boxes - [10, 10, 40, 40]).max() < 1 for t in told)


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(ValueError, match="leave it out"):
        Source("a", ())
    with pytest.raises(ValueError, match="leave it out"):
        Source("a", tuple(items("a", 1)), questions=0)


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
