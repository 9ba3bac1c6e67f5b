"""Every family through one path: prompt with regions, batches, LoRA training, saving, reloading, merging."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from grounding.types import MedicalImage, Regions
from llm.config import ModelConfig
from llm.generate import VisionLanguageModel, load_model
from llm.inputs import IGNORED, ChatExample
from llm.lora import add_lora, save_adapter
from llm.types import SpatialPrompt

QUICK = ("qwen2_5_vl", "smolvlm")
SLOW = ("qwen3_vl", "idefics3", "llava", "llava_med", "paligemma", "gemma3")
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def picture(seed: int) -> MedicalImage:
    return MedicalImage(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def prompts(two_regions: Regions) -> list[SpatialPrompt]:
    return [
        SpatialPrompt("Is there a mass in the right lung?", picture(0), two_regions),
        SpatialPrompt("Why?", picture(1), Regions.empty((40, 60), ("liver",))),
        SpatialPrompt("Where?", picture(2), None),
    ]


def logits(model: VisionLanguageModel, examples: list[ChatExample]) -> torch.Tensor:
    with torch.inference_mode():
        return model.model(**model.on_device(model.inputs.examples(examples))).logits


@pytest.mark.parametrize("name", EVERY)
def test_a_family_goes_all_the_way(
    name: str,
    tiny_family: Callable[[str], Path],
    prompts: list[SpatialPrompt],
    tmp_path: Path,
) -> None:
    base = ModelConfig(model=str(tiny_family(name)), dtype="float32", device="cpu")
    model = VisionLanguageModel.from_config(base)
    together = model.generate(prompts, max_new_tokens=4)
    alone = [model.generate([prompt], max_new_tokens=4)[0] for prompt in prompts]
    assert [g.text for g in together] == [g.text for g in alone]
    assert [g.confidence for g in together] == pytest.approx([g.confidence for g in alone], rel=1e-3)

    examples = [ChatExample(p, r) for p, r in zip(prompts, ("yes", "left kidney", "no"), strict=True)]
    torch.manual_seed(0)
    adapted = add_lora(model.model, model.family, rank=8, alpha=32)
    assert all("lora" in name for name, p in adapted.named_parameters() if p.requires_grad)
    assert not [key for key, _ in adapted.named_modules() if "lora" in key and "vis" in key]
    batch = model.on_device(model.inputs.examples(examples))
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=1e-2)
    adapted.train()
    losses = []
    for _ in range(20):
        loss = adapted(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]

    trained = VisionLanguageModel(adapted, model.processor, name=name, family=model.family)
    save_adapter(adapted, tmp_path / "adapter")
    size = sum(path.stat().st_size for path in (tmp_path / "adapter").glob("*.safetensors"))
    assert size < 100_000
    for merge in (False, True):
        config = ModelConfig(
            model=base.model,
            dtype="float32",
            device="cpu",
            adapter=str(tmp_path / "adapter"),
            merge_adapter=merge,
        )
        again = load_model(config)
        torch.testing.assert_close(logits(again, examples), logits(trained, examples), rtol=0, atol=1e-4)
        assert [g.text for g in again.generate(prompts, max_new_tokens=4)] == [
            g.text for g in trained.generate(prompts, max_new_tokens=4)
        ]


@pytest.mark.parametrize("name", EVERY)
def test_a_shared_beginning_changes_no_answer_of_a_family(
    name: str, tiny_family: Callable[[str], Path], two_regions: Regions
) -> None:
    questions = ("Why?", "Is there a mass in the right lung?", "Where is it?", "Is it left?")
    prompts = [SpatialPrompt(q, picture(k % 2), two_regions) for k, q in enumerate(questions)]
    base = ModelConfig(model=str(tiny_family(name)), dtype="float32", device="cpu")
    plain = VisionLanguageModel.from_config(base)
    plain.prefixes.active = False
    sharing = VisionLanguageModel.from_config(base)
    assert sharing.prefixes.active == (name != "paligemma")
    expected = plain.generate(prompts, max_new_tokens=4)
    for _ in range(2):  # the second time both pictures are known
        found = sharing.generate(prompts, max_new_tokens=4)
        assert [g.text for g in found] == [g.text for g in expected]
        assert [g.confidence for g in found] == pytest.approx([g.confidence for g in expected], rel=1e-3)
    assert (sharing.inputs.picture_key(prompts[0]) in sharing.prefixes) == (
        name not in ("paligemma", "gemma3")
    )


@pytest.mark.parametrize("name", EVERY)
def test_only_the_reply_and_its_end_are_learned(
    name: str, tiny_family: Callable[[str], Path], prompts: list[SpatialPrompt]
) -> None:
    config = ModelConfig(model=str(tiny_family(name)), dtype="float32", device="cpu")
    model = VisionLanguageModel.from_config(config)
    inputs = model.inputs.examples([ChatExample(prompts[0], "left kidney"), ChatExample(prompts[1], "no")])
    tokens = model.processor.tokenizer
    for row, labels, reply in zip(inputs["input_ids"], inputs["labels"], ("left kidney", "no"), strict=True):
        learned = labels != IGNORED
        assert torch.equal(row[learned], labels[learned])
        assert tokens.decode(row[learned], skip_special_tokens=True).strip() == reply
        assert row[learned][-1] == tokens.eos_token_id
    (alone,) = model.inputs.prompts(prompts[:1])["input_ids"]
    assert torch.equal(inputs["input_ids"][0, : len(alone)], alone), "training sees what generation sees"
