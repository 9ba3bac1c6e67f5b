"""Phrases to tokens and back: spans, delimiters, limits, and phrases that do not see one another."""

import pytest
import torch

from grounding.prompts import (
    build_prompt,
    collate_prompts,
    load_tokenizer,
    phrase_probabilities,
    positive_map,
)

LEFT, RIGHT, LUNG, HEART = 2000, 2001, 2002, 2003  # see WORDS in conftest.py


def test_prompt_and_spans_by_hand(tokenizer):
    prompt = build_prompt(tokenizer, ["left lung", "heart", "right lung"])
    assert prompt.input_ids == (101, LEFT, LUNG, 1012, HEART, 1012, RIGHT, LUNG, 1012, 102)
    assert prompt.token_spans == ((1, 3), (4, 5), (6, 8))


def test_no_phrases_is_an_empty_prompt(tokenizer):
    prompt = build_prompt(tokenizer, [])
    assert prompt.input_ids == (101, 102)
    assert prompt.token_spans == ()


@pytest.mark.parametrize(
    "phrase",
    ["left. lung", "left lung.", "left? lung?", "left [SEP] lung", "[CLS] left lung", "left[PAD]lung"],
)
def test_delimiters_inside_a_phrase_do_not_end_it(tokenizer, phrase):
    assert build_prompt(tokenizer, [phrase, "heart"]) == build_prompt(tokenizer, ["left lung", "heart"])


@pytest.mark.parametrize("phrase", ["", "  ", "...", "?", "-", "[SEP]"])
def test_phrase_without_letters_is_refused(tokenizer, phrase):
    with pytest.raises(ValueError, match="expected a phrase with letters, got"):
        build_prompt(tokenizer, ["heart", phrase])


def test_longest_prompt_has_256_tokens(tokenizer):
    # [CLS], 127 x ("heart", "."), [SEP] = 256 tokens; one word more is one too many.
    assert len(build_prompt(tokenizer, ["heart"] * 127).input_ids) == 256
    with pytest.raises(ValueError, match="127 phrases make 257 tokens, the limit is 256; ask for fewer"):
        build_prompt(tokenizer, ["heart"] * 126 + ["left heart"])


def test_positive_map_marks_each_phrases_tokens(tokenizer):
    expected = [[0, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]]
    assert positive_map(build_prompt(tokenizer, ["left lung", "heart"]), 9).int().tolist() == expected


def test_collate_pads_to_the_longest_and_keeps_each_prompts_own_map(tokenizer):
    prompts = [build_prompt(tokenizer, ["heart"]), build_prompt(tokenizer, ["left lung", "heart"])]
    ids, mask, maps = collate_prompts(prompts)
    assert ids.tolist() == [[101, HEART, 1012, 102, 0, 0, 0], [101, LEFT, LUNG, 1012, HEART, 1012, 102]]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert [tuple(m.shape) for m in maps] == [(1, 7), (2, 7)]


def test_phrase_probabilities_by_hand():
    # sigmoid(0) = 0.5, sigmoid(log 3) = 0.75, sigmoid(-inf) = 0.
    log3 = torch.log(torch.tensor(3.0)).item()
    logits = torch.tensor([[0.0, 0.0, log3, -log3, float("-inf")], [9.0, log3, log3, 0.0, float("-inf")]])
    maps = torch.tensor([[False, True, True, False, False], [False, False, False, True, False]])
    expected = torch.tensor([[0.625, 0.25], [0.75, 0.5]])
    torch.testing.assert_close(phrase_probabilities(logits, maps), expected)


def test_tokens_see_only_their_phrase(tokenizer, tiny_model):
    alone = build_prompt(tokenizer, ["left lung"])
    among = build_prompt(tokenizer, ["heart", "left lung", "white blood cell"])
    with torch.no_grad():
        features = [
            tiny_model.encode_text(*collate_prompts([prompt])[:2]).tokens[0, slice(*span)]
            for prompt, span in ((alone, alone.token_spans[0]), (among, among.token_spans[1]))
        ]
    torch.testing.assert_close(features[0], features[1], rtol=1e-5, atol=1e-5)
    assert (features[0][0] - features[0][1]).abs().max() > 0.01  # the two words do differ


def test_padding_does_not_change_the_text_features(tokenizer, tiny_model):
    short, long = (
        build_prompt(tokenizer, ["left lung"]),
        build_prompt(tokenizer, ["heart", "liver", "spleen"]),
    )
    with torch.no_grad():
        alone = tiny_model.encode_text(*collate_prompts([short])[:2])
        padded = tiny_model.encode_text(*collate_prompts([short, long])[:2])
    torch.testing.assert_close(padded.tokens[0, :5], alone.tokens[0], rtol=1e-5, atol=1e-5)
    assert padded.mask[0].tolist() == [True] * 5 + [False] * 3


def test_base_tokenizer_uses_the_ids_the_network_is_built_on(base_weights):
    prompt = build_prompt(load_tokenizer(base_weights / "minilm-l6"), ["left lung. [SEP]", "heart"])
    assert [i for i in prompt.input_ids if i in (0, 101, 102, 1012, 1029)] == [101, 1012, 1012, 102]
