"""Guesses: the best box of what was not found, behind what was, and never counted as found."""

from __future__ import annotations

import numpy as np
import pytest

from grounding.guesses import with_guesses
from grounding.types import Regions

ASKED = ("liver", "spleen", "polyp", "heart")
BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6], [3, 3, 7, 7]], dtype=np.float32)


def every() -> Regions:
    """Liver .9, spleen .2 and .3, polyp .1; nothing at all of the heart."""
    return Regions(BOXES, [0.9, 0.2, 0.3, 0.1], [0, 1, 1, 2], ASKED, (10, 10))


def test_the_best_box_of_each_phrase_that_was_not_found_is_added_behind_those_found() -> None:
    found = every().above(0.5)
    told = with_guesses(found, every())
    assert told.phrases == ("liver", "spleen", "polyp")
    assert told.boxes.tolist() == BOXES[[0, 2, 3]].tolist()
    assert told.doubted.tolist() == [False, True, True]
    assert told.missing == found.missing == ("spleen", "polyp", "heart")
    assert told.found.phrases == ("liver",) and not told.found.doubted.any()
    assert {phrase: box.tolist() for phrase, box in told.guesses.items()} == {
        "spleen": [2, 2, 6, 6],
        "polyp": [3, 3, 7, 7],
    }


def test_what_was_found_gets_no_guess() -> None:
    assert with_guesses(every(), every()).phrases == every().phrases
    assert with_guesses(every().above(0.15), every()).guesses.keys() == {"polyp"}


def test_other_phrases_are_refused() -> None:
    with pytest.raises(ValueError, match="same phrases"):
        with_guesses(Regions.empty((10, 10), ("liver",)), every())


def test_doubt_is_kept_by_selection_and_in_json_and_must_fit() -> None:
    told = with_guesses(every().above(0.5), every())
    back = Regions.from_dict(told.to_dict())
    assert back.doubted.tolist() == [False, True, True]
    assert told[[2]].doubted.tolist() == [True]
    assert "doubted" not in every().to_dict()
    with pytest.raises(ValueError, match="doubted"):
        Regions(BOXES, [1, 1, 1, 1], [0, 0, 0, 0], ASKED, (10, 10), doubted=np.array([True]))


def test_guesses_stay_behind_what_was_found() -> None:
    told = with_guesses(every().above(0.5), every())
    assert told.sorted().phrases == ("liver", "spleen", "polyp")
    rivals = Regions(BOXES[:2], [0.1, 0.9], [0, 1], ASKED, (10, 10), doubted=np.array([False, True]))
    assert rivals.sorted().phrases == ("liver", "spleen")
    with pytest.raises(ValueError, match="come last"):
        told[[1, 0]]
