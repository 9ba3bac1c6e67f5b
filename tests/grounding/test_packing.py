"""Packing: every phrase in one pass, few passes, and no trace of the order asked."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grounding.packing import pack
from grounding.prompts import MAX_TOKENS, build_prompt

PHRASES = st.lists(st.text("abcd ", min_size=1, max_size=60).filter(str.strip), max_size=60)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_phrases_that_fit_share_one_pass_in_the_order_of_their_tokens(tokenizer):
    packing = pack(tokenizer, ["heart", "left lung", "Heart"])
    assert packing.prompts == (build_prompt(tokenizer, ["left lung", "heart"]),)
    assert packing.columns == (1, 0, 1)
    assert packing.tokens == ((2000, 2002), (2003,))


def test_longest_phrases_go_first_and_short_ones_fill_the_gaps(tokenizer):
    long, middle, short = "left " * 150, "right " * 120, "heart"
    packing = pack(tokenizer, [short, middle, long])
    assert [len(prompt.token_spans) for prompt in packing.prompts] == [2, 1]
    assert packing.columns == (1, 2, 0)  # 'heart' beside the long one: token 2003 comes after 2000


def test_no_phrases_need_no_pass(tokenizer):
    packing = pack(tokenizer, [])
    assert packing.prompts == () and packing.tokens == ()


def test_a_limit_of_phrases_a_pass(tokenizer):
    packing = pack(tokenizer, ["heart", "liver", "spleen"], max_phrases=2)
    assert [len(prompt.token_spans) for prompt in packing.prompts] == [2, 1]
    with pytest.raises(ValueError, match="expected max_phrases >= 1"):
        pack(tokenizer, ["heart"], max_phrases=0)


def test_a_prefix_opens_every_pass_and_asks_for_nothing(tokenizer):
    packing = pack(tokenizer, ["liver", "heart"], max_phrases=1, prefix="brain")
    expected = [build_prompt(tokenizer, ["brain", phrase]) for phrase in ("heart", "liver")]
    assert [prompt.input_ids for prompt in packing.prompts] == [prompt.input_ids for prompt in expected]
    assert [prompt.token_spans for prompt in packing.prompts] == [((3, 4),), ((3, 4),)]
    assert packing.tokens == ((2003,), (2004,)) and packing.columns == (1, 0)


def test_findings_are_handed_out_to_every_phrase_that_asked(tokenizer):
    packing = pack(tokenizer, ["heart", "left lung", "heart"])  # columns 1, 0, 1
    finding, phrase = packing.answer(np.array([1, 0, 1]))
    assert finding.tolist() == [0, 0, 1, 2, 2]
    assert phrase.tolist() == [0, 2, 1, 0, 2]
    assert [part.tolist() for part in packing.answer(np.array([], dtype=np.int64))] == [[], []]


@QUICK
@given(phrases=PHRASES, data=st.data())
def test_every_phrase_once_in_few_passes_whatever_the_order(tokenizer, phrases, data):
    packing = pack(tokenizer, phrases)
    distinct = {packing.tokens[column] for column in packing.columns}
    assert len(packing.tokens) == len(distinct) == len(set(packing.columns))
    for phrase, column in zip(phrases, packing.columns, strict=True):
        prompt = build_prompt(tokenizer, [phrase])
        assert packing.tokens[column] == prompt.input_ids[1:-2]
    assert all(len(prompt.input_ids) <= MAX_TOKENS for prompt in packing.prompts)
    total = sum(len(tokens) + 1 for tokens in distinct)
    assert len(packing.prompts) <= 11 / 9 * -(-total // (MAX_TOKENS - 2)) + 1
    order = data.draw(st.permutations(range(len(phrases))))
    other = pack(tokenizer, [phrases[i] for i in order])
    assert other.prompts == packing.prompts
    assert other.columns == tuple(packing.columns[i] for i in order)
