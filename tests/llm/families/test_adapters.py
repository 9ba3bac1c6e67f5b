"""Own spatial tokens on another family, quantised bases, and what an adapter says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grounding.types import MedicalImage, Regions
from llm.config import ModelConfig
from llm.families import FAMILIES, OTHER, family_of, style_named
from llm.generate import VisionLanguageModel
from llm.inputs import ChatExample
from llm.loading import load_adapter
from llm.lora import add_lora, add_spatial_tokens, save_adapter
from llm.spatial import STYLES, LocTokens, Qwen25Boxes
from llm.types import SpatialPrompt


@pytest.fixture
def example(two_regions: Regions) -> ChatExample:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    return ChatExample(SpatialPrompt("Where is the mass?", MedicalImage(pixels), two_regions), "left")


def steps(
    model: VisionLanguageModel, adapted: torch.nn.Module, example: ChatExample, count: int
) -> list[float]:
    batch = model.on_device(model.inputs.examples([example]))
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=1e-2)
    adapted.train()
    losses = []
    for _ in range(count):
        loss = adapted(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def logits(model: VisionLanguageModel, example: ChatExample) -> torch.Tensor:
    with torch.inference_mode():
        return model.model(**model.on_device(model.inputs.examples([example]))).logits


def test_own_spatial_tokens_are_learned_saved_and_merged(
    tiny_family: Callable[[str], Path], example: ChatExample, tmp_path: Path
) -> None:
    base = ModelConfig(model=str(tiny_family("llava")), dtype="float32", device="cpu", style="loc")
    model = VisionLanguageModel.from_config(base)
    tokens = model.processor.tokenizer
    ids = tokens.convert_tokens_to_ids(list(LocTokens().tokens))
    assert "<loc_010><loc_010><loc_040><loc_090>" in model.inputs.text(example.prompt)
    assert ids[0] == len(tokens) - 100
    before = model.model.get_input_embeddings().weight[ids].clone()
    assert (before[0] - before[1]).norm() < (before[0] - before[50]).norm(), "neighbouring bins are alike"
    assert add_spatial_tokens(model.model, tokens, LocTokens().tokens) == []

    torch.manual_seed(0)
    adapted = add_lora(model.model, model.family, rank=2, alpha=4, projector=True, tokens=ids)
    assert any("multi_modal_projector.linear_1.lora_A" in name for name, _ in adapted.named_parameters())
    losses = steps(model, adapted, example, 5)
    assert losses[-1] < losses[0]
    trained = VisionLanguageModel(
        adapted, model.processor, name="t", family=model.family, style=STYLES["loc"]
    )
    save_adapter(adapted, tmp_path, style="loc")
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 100_000
    for merge in (False, True):
        config = replace(base, adapter=str(tmp_path), merge_adapter=merge, style=None)
        again = VisionLanguageModel.from_config(config)
        assert again.inputs.style == STYLES["loc"], "the adapter says what it was trained on"
        torch.testing.assert_close(logits(again, example), logits(trained, example), rtol=0, atol=1e-4)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_quantised_model_answers_and_learns(
    quantization: str, tiny_family: Callable[[str], Path], example: ChatExample, tmp_path: Path
) -> None:
    whole = ModelConfig(model=str(tiny_family("qwen2_5_vl")), dtype="float32", device="cpu")
    config = replace(whole, quantization=quantization)
    model = VisionLanguageModel.from_config(config)
    kinds = {name: type(module).__name__ for name, module in model.model.named_modules()}
    packed = [name for name, kind in kinds.items() if kind in ("Linear8bitLt", "Linear4bit")]
    assert packed and all("language_model.layers" in name for name in packed)
    assert kinds["lm_head"] == "Linear" and kinds["model.visual.merger.mlp.0"] == "Linear"
    assert len(model.generate([example.prompt], max_new_tokens=3)) == 1

    torch.manual_seed(0)
    adapted = add_lora(model.model, model.family, rank=4, alpha=16)
    losses = steps(model, adapted, example, 5)
    assert losses[-1] < losses[0]
    trained = VisionLanguageModel(adapted, model.processor, name="t", family=model.family)
    save_adapter(adapted, tmp_path)
    again = VisionLanguageModel.from_config(replace(config, adapter=str(tmp_path)))
    assert hasattr(again.model, "peft_config"), "an adapter is never merged into rounded weights"
    torch.testing.assert_close(logits(again, example), logits(trained, example), rtol=0, atol=1e-3)


def test_boxes_follow_the_resize_of_the_checkpoint(tiny_family: Callable[[str], Path]) -> None:
    config = ModelConfig(model=str(tiny_family("qwen2_5_vl")), device="cpu")
    model = VisionLanguageModel.from_config(config)
    assert model.inputs.style.box_format == Qwen25Boxes(min_pixels=56 * 56, max_pixels=84 * 84, factor=28)
    assert model.model.dtype == torch.bfloat16


def test_an_absent_adapter_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        load_adapter(torch.nn.Linear(1, 1), str(tmp_path), merge=True)


def test_families_are_found_by_their_configuration() -> None:
    from transformers import LlavaConfig, MistralConfig, Qwen3VLConfig, SiglipConfig

    assert family_of(LlavaConfig(text_config=MistralConfig())) is FAMILIES["llava_med"]
    assert family_of(LlavaConfig()) is FAMILIES["llava"]
    assert family_of(Qwen3VLConfig()) is FAMILIES["qwen3_vl"]
    assert family_of(SiglipConfig()) is OTHER
    with pytest.raises(ValueError, match="marks"):
        style_named("drawn")


def test_every_familys_style_exists() -> None:
    assert all(family.style in STYLES for family in FAMILIES.values())
