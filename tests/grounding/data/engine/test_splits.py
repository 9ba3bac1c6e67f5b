"""Sides of patients, names of splits, thinning."""

from __future__ import annotations

from collections import Counter

import pytest

from grounding.data.engine.splits import (
    is_thinned,
    official_split,
    patient_split,
    stable_fraction,
    stable_hash,
)


def test_a_patient_is_always_on_the_same_side():
    assert {patient_split("ab12", 7, 0.3, 0.3) for _ in range(9)} == {patient_split("ab12", 7, 0.3, 0.3)}


def test_shares_are_about_what_was_asked():
    sides = Counter(patient_split(str(number), 0, 0.1, 0.2) for number in range(4000))
    assert 300 < sides["val"] < 500
    assert 700 < sides["test"] < 900


def test_another_seed_draws_other_sides_and_no_share_is_no_patient():
    sides = [[patient_split(str(number), seed, 0.3, 0.3) for number in range(50)] for seed in (0, 1)]
    assert sides[0] != sides[1]
    assert {patient_split(str(number), 0, 0.0, 0.0) for number in range(50)} == {"train"}


def test_hashes_do_not_depend_on_the_process():
    assert stable_hash("patient", "set", "case1") == "d9eb6d9e886d6ec9"
    assert stable_hash("a", "b") != stable_hash("ab")
    assert 0 <= stable_fraction("x", 1) < 1


@pytest.mark.parametrize(("name", "ours"), [("Training", "train"), ("valid", "val"), (" test ", "test")])
def test_official_names(name, ours):
    assert official_split(name) == ours


def test_an_unknown_split_is_told():
    with pytest.raises(ValueError, match="got 'fold3'"):
        official_split("fold3")


def test_thinning_keeps_every_third_slice():
    assert [index for index in range(8) if not is_thinned("series", index, 3)] == [0, 3, 6]
    assert not is_thinned(None, 1, 3)
    assert not is_thinned("series", None, 3)
    assert not is_thinned("series", 5, 1)
