"""What prompts share: found token by token, laid out with masked gaps, read before it is used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache

from llm.families import FAMILIES, OTHER, Family
from llm.prefixes import PrefixStore, can_share

IMAGE, PAD = 7, 99


def config(**text: Any) -> SimpleNamespace:
    settings = SimpleNamespace(**text)
    return SimpleNamespace(image_token_id=IMAGE, is_encoder_decoder=False, get_text_config=lambda: settings)


def store(capacity: int = 4, **text: Any) -> PrefixStore:
    model = nn.Module()
    model.config = config(**text)  # type: ignore[assignment]
    return PrefixStore(model, Family(), capacity)


def padded(*rows: list[int]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "pixel_values": torch.zeros(1, 3)}


def states(inputs: dict[str, torch.Tensor], extra: int = 1) -> DynamicCache:
    """One layer whose keys are the tokens themselves and whose values are their negatives."""
    ids = torch.cat((inputs["input_ids"], torch.zeros(len(inputs["input_ids"]), extra)), dim=1)
    keys = ids[:, None, :, None].float()
    return DynamicCache([(keys, -keys)])


def test_rows_continue_from_what_they_share() -> None:
    prefixes = store()
    first = padded([1, IMAGE, IMAGE, 4, 5], [2, IMAGE, 3])
    prefixes.keep(["a", "b"], first, states(first))
    inputs = padded([1, IMAGE, IMAGE, 4, 6, 8], [2, IMAGE, 3])
    resumed = prefixes.resume(["a", "b"], inputs, PAD)
    assert resumed is not None
    tables, cache = resumed
    assert sorted(tables) == ["attention_mask", "input_ids"]
    assert tables["input_ids"].tolist() == [[1, IMAGE, IMAGE, 4, 6, 8], [PAD, PAD, 2, IMAGE, PAD, 3]]
    assert tables["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1]]
    assert cache.layers[0].keys[:, 0, :, 0].tolist() == [[1, IMAGE, IMAGE, 4], [0, 0, 2, IMAGE]]
    assert cache.layers[0].values[0, 0, :, 0].tolist() == [-1, -IMAGE, -IMAGE, -4]


def test_another_beginning_or_another_picture_starts_anew() -> None:
    prefixes = store()
    first = padded([1, IMAGE, 4])
    prefixes.keep(["a"], first, states(first))
    assert prefixes.resume(["b"], first, PAD) is None
    assert prefixes.resume(["a"], padded([2, IMAGE, 4]), PAD) is None, (
        "the picture would have to be read again"
    )


def test_a_picture_is_read_before_its_other_questions() -> None:
    prefixes = store()
    batches = prefixes.batches(["a", "b", "a", "b", "c"], [5, 9, 4, 2, 1], 4)
    assert next(batches) == [3, 2], "of each new picture the shortest, by length"
    assert [*batches] == [[0, 1], [4]]
    known = padded([1, IMAGE, 4])
    prefixes.keep(["a"], known, states(known))
    assert [*prefixes.batches(["a", "a"], [1, 2], 4)] == [[0, 1]]
    prefixes.active = False
    assert [*prefixes.batches(["a", "b", "a"], [3, 1, 2], 2)] == [[1, 2], [0]]
    assert [*prefixes.batches([], [], 2)] == []


def test_pictures_that_will_not_stay_are_read_by_length() -> None:
    prefixes = store(capacity=1)
    keys, lengths = ["a", "b", "c", "a", "d"], [9, 3, 8, 1, 2]
    assert [*prefixes.batches(keys, lengths, 2)] == [[1, 2], [3], [0], [4]], "d stays, so it is the last"


def test_the_latest_pictures_stay() -> None:
    prefixes = store(capacity=2)
    for key in ("a", "b", "a", "c"):
        inputs = padded([1, IMAGE, 4])
        prefixes.keep([key], inputs, states(inputs))
    prefixes.trim()
    assert [key in prefixes for key in "abc"] == [True, False, True]
    prefixes.clear()
    assert "a" not in prefixes


@pytest.mark.parametrize(
    ("settings", "family", "shared"),
    [
        (config(), FAMILIES["llava"], True),
        (config(layer_types=["full_attention", "sliding_attention"]), FAMILIES["gemma3"], True),
        (config(layer_types=["full_attention", "linear_attention"]), FAMILIES["qwen3_vl"], False),
        (config(), FAMILIES["paligemma"], False),
        (config(), OTHER, False),
    ],
)
def test_who_can_share(settings: SimpleNamespace, family: Family, shared: bool) -> None:
    assert can_share(settings, family) == shared


def test_a_sliding_window_must_not_slide() -> None:
    assert store(sliding_window=10).fits(10) and not store(sliding_window=10).fits(11)
    assert store(sliding_window=None).fits(10**6)
