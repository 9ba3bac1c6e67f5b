"""Generation: batches, confidence, streams, loading, the Auto classes, another family on the same path."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grounding.types import MedicalImage, Regions
from llm.config import ModelConfig
from llm.generate import VisionLanguageModel, load_model
from llm.nano import register
from llm.nano.checkpoint import add_adapter, build_nano, load_nano, save_nano
from llm.nano.configuration import NanoVLMConfig
from llm.nano.precision import BFloat16Linear
from llm.types import SpatialPrompt


def image(seed: int) -> MedicalImage:
    return MedicalImage(np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def checkpoint(tiny_base: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = NanoVLMConfig(
        image_size=128, base_language_model=str(tiny_base[0]), base_vision_tower=str(tiny_base[1])
    )
    adapted = add_adapter(build_nano(config)[0], rank=4, alpha=8)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "trainable_tokens" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_nano(adapted, folder)
    return folder


@pytest.fixture
def model(checkpoint: Path) -> VisionLanguageModel:
    return VisionLanguageModel.from_pretrained(checkpoint, dtype="float32", device="cpu")


@pytest.fixture
def prompts(two_regions: Regions) -> list[SpatialPrompt]:
    return [
        SpatialPrompt("Is there a mass in the right lung?", image(0), two_regions),
        SpatialPrompt("Why?", image(1), None),
        SpatialPrompt("Where is it?", image(0), Regions.empty((40, 60), ("liver",))),
    ]


def test_a_batch_gives_what_single_prompts_give(
    model: VisionLanguageModel, prompts: list[SpatialPrompt]
) -> None:
    together = model.generate(prompts, max_new_tokens=6)
    alone = [model.generate([p], max_new_tokens=6)[0] for p in prompts]
    assert [g.text for g in together] == [g.text for g in alone]
    assert [g.confidence for g in together] == pytest.approx([g.confidence for g in alone], rel=1e-3)
    assert model.generate([]) == []


def test_confidence_is_the_geometric_mean_of_the_token_probabilities(
    model: VisionLanguageModel, prompts: list[SpatialPrompt]
) -> None:
    (generation,) = model.generate(prompts[:1], max_new_tokens=1)
    inputs = model._inputs(prompts[:1])
    with torch.inference_mode():
        logits = model.model(**inputs).logits[0, -1]
    assert generation.confidence == pytest.approx(float(logits.softmax(-1).max()), rel=1e-4)


@pytest.fixture
def further(two_regions: Regions) -> list[SpatialPrompt]:
    """Two pictures in turn, region blocks that differ, questions of different lengths."""
    questions = ("Why?", "Is there a mass in the right lung or in the left kidney?", "Where is it?")
    some = two_regions[np.array([False, True])]
    blocks = (two_regions, some, None, two_regions, Regions.empty((40, 60), ("liver",)), two_regions)
    return [SpatialPrompt(questions[k % 3], image(k % 2), regions) for k, regions in enumerate(blocks)]


def test_a_shared_beginning_changes_no_answer(
    model: VisionLanguageModel, checkpoint: Path, further: list[SpatialPrompt]
) -> None:
    plain = load_model(ModelConfig(model=str(checkpoint), dtype="float32", device="cpu", pictures=0))
    assert isinstance(plain, VisionLanguageModel)
    plain.prefixes.active = False
    expected = plain.generate(further, max_new_tokens=6)
    for _ in range(2):  # the second time every picture is known
        found = model.generate(further, max_new_tokens=6)
        assert [g.text for g in found] == [g.text for g in expected]
        for figure in ("confidence", "margin"):
            assert [getattr(g, figure) for g in found] == pytest.approx(
                [getattr(g, figure) for g in expected], rel=1e-3
            )
    assert "".join(model.stream(further[1], max_new_tokens=6)).strip() == expected[1].text


@pytest.mark.parametrize(("dtype", "mixed"), [("auto", True), ("mixed", True), ("bfloat16", False)])
def test_nano_is_mixed_on_a_cpu_unless_told_otherwise(checkpoint: Path, dtype: str, mixed: bool) -> None:
    model = VisionLanguageModel.from_config(ModelConfig(str(checkpoint), dtype=dtype, device="cpu")).model
    assert any(isinstance(module, BFloat16Linear) for module in model.modules()) is mixed
    head = model.get_output_embeddings()
    assert (type(head), head.weight.dtype) == (nn.Linear, torch.float32 if mixed else torch.bfloat16)
    assert head.weight is model.get_input_embeddings().weight


def test_a_further_question_reads_only_what_is_new(
    model: VisionLanguageModel, two_regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    embed = model.model.embed
    monkeypatch.setattr(model.model, "embed", lambda ids, f: read.append(ids.shape[1]) or embed(ids, f))
    for question in ("Is it left?", "Is it right?"):
        model.generate([SpatialPrompt(question, image(0), two_regions)], max_new_tokens=1)
    asked = len(model.processor.tokenizer("right?<|im_end|>\n<|im_start|>assistant\n")["input_ids"])
    assert read[0] > 40 and read[1] <= asked + 1
    model.prefixes.clear()
    model.generate([SpatialPrompt("Is it left?", image(0), two_regions)], max_new_tokens=1)
    assert read[2] == read[0]


def test_only_the_latest_pictures_are_kept(checkpoint: Path, further: list[SpatialPrompt]) -> None:
    config = ModelConfig(model=str(checkpoint), dtype="float32", device="cpu", pictures=1, batch=4)
    model = VisionLanguageModel.from_config(config)
    model.generate(further, max_new_tokens=1)
    assert [model.inputs.picture_key(p) in model.prefixes for p in further[:2]] == [False, True]
    forgetful = VisionLanguageModel.from_config(replace(config, pictures=0))
    assert forgetful.generate(further, max_new_tokens=3) == forgetful.generate(further, max_new_tokens=3)
    assert "".join(forgetful.stream(further[0], max_new_tokens=3))
    assert model.inputs.picture_key(further[0]) not in forgetful.prefixes


def test_a_stop_text_ends_a_reply(model: VisionLanguageModel, prompts: list[SpatialPrompt]) -> None:
    whole = model.generate(prompts, max_new_tokens=6)
    stop = [whole[0].text[2:4]]
    stopped = model.generate(prompts, max_new_tokens=6, stop=stop)
    assert [g.text for g in stopped] == [g.text.split(stop[0])[0].strip() for g in whole]
    assert "".join(model.stream(prompts[0], max_new_tokens=6, stop=stop)).strip() == stopped[0].text


def test_the_stream_joins_to_the_generation(model: VisionLanguageModel, prompts: list[SpatialPrompt]) -> None:
    stream, pieces = model.stream(prompts[0], max_new_tokens=6), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as stop:
            streamed = stop.value
            break
    (whole,) = model.generate(prompts[:1], max_new_tokens=6)
    assert "".join(pieces).strip() == streamed.text == whole.text
    assert streamed.confidence == pytest.approx(whole.confidence, abs=1e-6)


def test_a_reader_who_leaves_ends_the_generation(
    model: VisionLanguageModel, prompts: list[SpatialPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", None)
    read, embed = [], model.model.embed
    monkeypatch.setattr(model.model, "embed", lambda ids, f: read.append(1) or embed(ids, f))
    running = threading.active_count()
    stream = model.stream(prompts[0], max_new_tokens=400)
    next(stream)
    stream.close()
    assert threading.active_count() == running and len(read) < 400
    assert model.generate(prompts[:1], max_new_tokens=2)[0].text


def test_an_error_in_the_stream_reaches_the_caller(
    model: VisionLanguageModel, prompts: list[SpatialPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.stream(prompts[0]))


def test_the_vision_tower_runs_once_an_image(
    model: VisionLanguageModel, prompts: list[SpatialPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = model.model.vision_features
    monkeypatch.setattr(model.model, "vision_features", lambda pixels: calls.append(1) or original(pixels))
    model.generate(prompts, max_new_tokens=1)
    assert len(calls) == 2


def test_the_image_and_the_boxes_matter(model: VisionLanguageModel, two_regions: Regions) -> None:
    def logits(seed: int, regions: Regions | None) -> torch.Tensor:
        with torch.inference_mode():
            return model.model(**model._inputs([SpatialPrompt("Why?", image(seed), regions)])).logits[0, -1]

    assert not torch.equal(logits(0, two_regions), logits(1, two_regions))
    moved = Regions(
        two_regions.boxes[::-1], two_regions.scores, two_regions.phrase_index, two_regions.asked, (40, 60)
    )
    assert not torch.allclose(logits(0, two_regions), logits(0, moved), atol=1e-4)


def test_absent_checkpoint_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.generate.SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"llm\.train"):
        VisionLanguageModel.from_pretrained("nano")


def test_projector_of_another_shape_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = (
        (tmp_path / "config.json")
        .read_text()
        .replace('"projector_hidden_size": 768', '"projector_hidden_size": 8')
    )
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="projector"):
        load_nano(tmp_path)


def test_a_text_without_its_image_tokens_is_refused(model: VisionLanguageModel) -> None:
    with pytest.raises(ValueError, match="image tokens"):
        model.model(input_ids=torch.tensor([[5, 6]]), pixel_values=torch.zeros(1, 3, 128, 128))


def test_nano_goes_through_the_auto_classes(
    checkpoint: Path, prompts: list[SpatialPrompt], model: VisionLanguageModel, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    register()
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is type(model.model)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(model.processor)
    same = VisionLanguageModel.from_pretrained(tmp_path, dtype="float32", device="cpu")
    assert same.generate(prompts, max_new_tokens=5) == model.generate(prompts, max_new_tokens=5)


def test_another_family_answers_with_text_boxes(
    tmp_path: Path, tiny_base: tuple[Path, Path], two_regions: Regions
) -> None:
    from transformers import (
        AutoTokenizer,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(tiny_base[0])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=28, patch_size=14, projection_dim=16),
        text_config=LlamaConfig(**sizes, vocab_size=len(tokenizer), eos_token_id=2),
        image_token_index=len(tokenizer) - 1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(tmp_path)
    model = VisionLanguageModel.from_pretrained(tmp_path, dtype="float32", device="cpu")
    prompts = [
        SpatialPrompt("Why?", image(0), two_regions),
        SpatialPrompt("Is it the left lung?", image(1), None),
    ]
    together = model.generate(prompts, max_new_tokens=4)
    assert [g.text for g in together] == [model.generate([p], max_new_tokens=4)[0].text for p in prompts]
