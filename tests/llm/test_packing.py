"""Packed rows: hand-checked token places, and the same numbers as separate sequences."""

from pathlib import Path

import pytest
import torch

from llm.data.packing import Example, pack, shared_prefix
from llm.nano.checkpoint import build_nano
from llm.nano.configuration import NanoVLMConfig


def test_shared_prefix_leaves_each_prompt_a_token() -> None:
    a, b = Example((1, 2, 3, 4), (9,)), Example((1, 2, 5), (8,))
    assert shared_prefix([a, b]) == 2
    assert shared_prefix([a, a]) == 3
    assert shared_prefix([a, Example((7, 2), (9,))]) == 0


def test_layout_and_labels_by_hand() -> None:
    row = [Example((1, 2, 3, 4), (50, 0)), Example((1, 2, 5), (60, 61, 0))]
    batch = pack([row, [Example((1, 7), (70, 0))]], pad_id=99)
    # prefix 1 2 | 3 4 50 | 5 60 61: the last answer token of each is predicted, never read
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 50, 5, 60, 61], [1, 7, 70, 99, 99, 99, 99, 99]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3, 4], [0, 1, 2, 0, 0, 0, 0, 0]]
    assert batch.segment_ids.tolist() == [[0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 1, -1, -1, -1, -1, -1]]
    assert batch.source.tolist() == [3, 4, 5, 6, 7, 9, 10]
    assert batch.target.tolist() == [50, 0, 60, 61, 0, 70, 0]
    assert batch.owner.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_segment_sees_the_prefix_and_itself_only() -> None:
    batch = pack([[Example((1, 2, 3), (50, 0)), Example((1, 2, 4), (60, 0))]], pad_id=99)
    visible = batch.attention_mask(torch.float32)[0, 0] == 0
    assert visible.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


def test_weights_lie_between_tokens_and_answers() -> None:
    batch = pack([[Example((1, 2), (5,)), Example((1, 3), (6, 7, 8, 0))]], pad_id=0)
    assert batch.weights().tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6])


@torch.inference_mode()
def test_packed_row_computes_what_separate_sequences_do(tiny_base: tuple[Path, Path]) -> None:
    config = NanoVLMConfig(
        image_size=128, base_language_model=str(tiny_base[0]), base_vision_tower=str(tiny_base[1])
    )
    model, _ = build_nano(config, dtype=torch.float32)
    examples = [
        Example((1, 30, 31, 32, 40), (41, 2)),
        Example((1, 30, 31, 50), (51, 52, 2)),
        Example((1, 30, 31, 50, 60), (61, 2)),
    ]
    batch = pack([examples], pad_id=2)
    packed = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask(torch.float32),
        position_ids=batch.position_ids,
    ).logits.flatten(0, 1)[batch.source]
    separate = []
    for example in examples:
        logits = model(input_ids=torch.tensor([[*example.prompt, *example.answer]])).logits[0]
        separate.append(logits[len(example.prompt) - 1 : -1])
    torch.testing.assert_close(packed, torch.cat(separate), atol=1e-5, rtol=1e-4)
