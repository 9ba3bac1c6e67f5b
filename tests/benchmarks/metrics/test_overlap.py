"""BLEU, ROUGE-L, CIDEr and the METEOR approximation against figures by hand, and their properties."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics import meteor as meteor_module
from benchmarks.metrics.meteor import meteor, meteor_exact
from benchmarks.metrics.overlap import bleu, cider, report_tokens, rouge_l

TEXTS = st.lists(st.sampled_from(["no", "effusion", "or", "heart", "is", "normal"]), min_size=1, max_size=12)


def test_words_of_a_report():
    text = "Heart size: 3.4 cm; the patient's well-expanded lungs are CLEAR."
    assert report_tokens(text) == ["heart", "size", "3.4", "cm", "the", "patient's", "well-expanded", "lungs",
                                   "are", "clear"]  # fmt: skip


def test_bleu_by_hand():
    """Against "no effusion is seen": words 4/5, pairs 2/4, triples 1/3, fours 0/2."""
    scores = bleu(["no pleural effusion is seen".split()], [["no effusion is seen".split()]])
    expected = (0.8, math.sqrt(0.8 / 2), (0.8 / 2 / 3) ** (1 / 3), 0)
    assert scores.corpus == pytest.approx(expected, abs=1e-3)  # 4-grams: (1e-15 / 2) ** (1/4) is 1e-4
    assert scores.each[0] == pytest.approx(expected, abs=1e-3)


def test_bleu_of_a_short_text_is_cut_by_the_closest_reference():
    """Two of two words right; the references have 5 and 3 words, so the penalty is exp(1 - 3/2)."""
    scores = bleu(
        [["no", "effusion"]], [["no effusion or pneumothorax seen".split(), "no effusion seen".split()]]
    )
    assert scores.corpus[0] == pytest.approx(math.exp(-0.5))


def test_bleu_pools_counts_over_the_corpus():
    """2 of 2 and 0 of 2 words right: 1/2, no mean of means."""
    scores = bleu([["a", "b"], ["c", "d"]], [[["a", "b"]], [["e", "f"]]])
    assert scores.corpus[0] == pytest.approx(0.5)


def test_rouge_l_by_hand():
    """The longest common subsequence of "a b c d" and "a x c d e" is "a c d": precision 3/4, recall 3/5."""
    p, r = 3 / 4, 3 / 5
    assert rouge_l(list("abcd"), [list("axcde")]) == pytest.approx(2.44 * p * r / (r + 1.44 * p))
    assert rouge_l(list("abcd"), [list("axcde")], beta=1) == pytest.approx(2 / 3)


def test_rouge_l_takes_precision_and_recall_from_different_references():
    """Precision 1 against "a b z", recall 1 against "a"."""
    assert rouge_l(list("ab"), [list("abz"), list("a")]) == pytest.approx(1)


def test_cider_by_hand():
    """Two texts, each with its own reference: every n-gram weighs ln 2, a text like its reference scores 10.

    The other has 1 of 2 words and no pair in common: cosine 1/2 of one size of four, 10 * 0.5 / 4.
    """
    same = list("abcd")
    scores = cider([same, ["x", "q"]], [[same], [["x", "y"]]])
    assert scores == pytest.approx([10, 1.25])


def test_cider_of_one_text_alone_is_zero():
    assert cider([list("abcd")], [[list("abcd")]]) == [0]


def test_cider_penalises_a_difference_in_pairs():
    """One word has no pair, five have four: exp(-16 / 72) on a cosine of 1/sqrt(5), one size of four."""
    scores = cider([["a"], ["z"]], [[list("abcde")], [["q"]]])
    assert scores[0] == pytest.approx(10 / 4 / math.sqrt(5) * math.exp(-16 / 72))


def test_meteor_exact_by_hand():
    """4 of 4 and of 5 words in two runs: F = PR / (.85 P + .15 R), cut by .6 (2/4)^.2."""
    f = 1 * 0.8 / (0.85 * 1 + 0.15 * 0.8)
    score = meteor_exact("no effusion is seen".split(), ["no pleural effusion is seen".split()])
    assert score == pytest.approx(f * (1 - 0.6 * 0.5**0.2))


def test_meteor_exact_finds_the_alignment_with_the_fewest_runs():
    """The second "a" of the reference continues to "b": one run of two, and a lone "a" before or after."""
    said, true = ["a", "b", "a"], ["a", "a", "b"]
    assert meteor_exact(said, [true]) == pytest.approx(1 - 0.6 * (2 / 3) ** 0.2)


def test_the_real_meteor_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(meteor_module.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="needs Java"):
        meteor([["a"]], [[["a"]]])


@pytest.mark.parametrize("score", [bleu, cider])
def test_a_text_without_reference_is_refused(score):
    with pytest.raises(ValueError, match="1 empty"):
        score([["a"]], [[]])
    with pytest.raises(ValueError, match="2 texts"):
        score([["a"], ["b"]], [[["a"]]])


def test_an_empty_text_scores_nothing():
    assert rouge_l([], [["a"]]) == 0
    assert meteor_exact([], [["a"]]) == 0
    assert cider([[], ["b"]], [[["a"]], [["b"]]])[0] == 0
    assert bleu([[]], [[["a"]]]).corpus == pytest.approx((0, 0, 0, 0), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS)
def test_rouge_l_agrees_with_the_table(said, true):
    table = [[0] * (len(true) + 1) for _ in range(len(said) + 1)]
    for i, a in enumerate(said):
        for j, b in enumerate(true):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    lcs = table[-1][-1]
    assert rouge_l(said, [true], beta=1) == pytest.approx(2 * lcs / (len(said) + len(true)))


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS)
def test_scores_lie_in_their_range_and_a_text_equals_itself(said, true):
    assert 0 <= meteor_exact(said, [true]) <= 1
    assert meteor_exact(said, [said]) == rouge_l(said, [said]) == 1
    assert all(0 <= score <= 10 + 1e-9 for score in cider([said, true], [[true], [said]]))
