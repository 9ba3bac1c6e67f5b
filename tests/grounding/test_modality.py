"""The modality's word at the head of a prompt owns no positive token."""

from grounding.modality import build_modality_prompt, modality_prefix
from grounding.modeling import MedGLIPConfig
from grounding.prompts import build_prompt, positive_map

ON = MedGLIPConfig(modality_prefix=True)


def test_words():
    assert [modality_prefix(ON, row) for row in (0, 1, 2, 3)] == [None, "x-ray", "ct", "mri"]
    assert modality_prefix(MedGLIPConfig(modality_prefix=True, modalities=[["MG"]]), 1) == "mg"
    assert modality_prefix(MedGLIPConfig(), 2) is None


def test_prefix_is_a_phrase_without_a_span(tokenizer):
    plain = build_prompt(tokenizer, ["liver", "left lung"])
    told = build_modality_prompt(tokenizer, ["liver", "left lung"], ON, 2)
    word = build_prompt(tokenizer, ["ct"]).input_ids[1:-1]  # "ct ."
    assert told.input_ids == (101, *word, *plain.input_ids[1:])
    assert told.token_spans == tuple((a + len(word), b + len(word)) for a, b in plain.token_spans)
    assert not positive_map(told, len(told.input_ids))[:, : 1 + len(word)].any()


def test_off_or_unknown_is_the_plain_prompt(tokenizer):
    plain = build_prompt(tokenizer, ["liver"])
    assert build_modality_prompt(tokenizer, ["liver"], MedGLIPConfig(), 2) == plain
    assert build_modality_prompt(tokenizer, ["liver"], ON, 0) == plain
