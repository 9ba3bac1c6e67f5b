"""A published checkpoint, end to end: boxes equal those of the library's own processor and model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    BertConfig,
    GroundingDinoImageProcessorPil,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SwinConfig,
)
from transformers.image_transforms import get_size_with_aspect_ratio

from grounding.predictor import Grounder
from grounding.preprocess import AspectInput
from grounding.prompts import build_prompt
from grounding.types import MedicalImage

SIZE = {"shortest_edge": 128, "longest_edge": 170}


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory, tokenizer, randomise):
    """A tiny random model of the library, saved as the model hub has it."""
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=128,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config = MMGroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        num_queries=10,
        encoder_layers=2,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
    )
    model = MMGroundingDinoForObjectDetection(config).eval()
    randomise(model, 1)
    folder = tmp_path_factory.mktemp("hub")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GroundingDinoImageProcessorPil(size=SIZE).save_pretrained(folder)
    return folder


def picture(height, width, seed):
    values = np.random.default_rng(seed).integers(0, 90, (height, width, 3), dtype=np.uint8)
    return MedicalImage.from_array(values)


@torch.inference_mode()
def library_answers(folder, images, prompt):
    """Scores (Q, T) and boxes (Q, 4) xyxy pixels of each image."""
    model = MMGroundingDinoForObjectDetection.from_pretrained(folder).eval()
    processor = GroundingDinoImageProcessorPil.from_pretrained(folder)
    inputs = processor([Image.fromarray(image.pixels) for image in images], return_tensors="pt")
    ids = torch.tensor([prompt.input_ids] * len(images))
    outputs = model(**inputs, input_ids=ids, attention_mask=torch.ones_like(ids))
    sizes = [image.size for image in images]
    found = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
    return [(logits.sigmoid(), each["boxes"]) for logits, each in zip(outputs.logits, found, strict=True)]


def assert_equal_answers(regions, scores, boxes):
    order = scores.argsort(descending=True)
    order = order[scores[order] >= 0.01]
    np.testing.assert_allclose(regions.scores, scores[order], atol=1e-4)
    height, width = regions.image_size
    inside = boxes[order].numpy().clip(0, [width, height, width, height])
    np.testing.assert_allclose(regions.boxes, inside, atol=1e-3 * max(height, width))


def test_boxes_and_scores_equal_the_library_s(hub_folder, tokenizer):
    grounder = Grounder.from_pretrained(hub_folder, device="cpu", dtype="float32")
    image = picture(90, 150, seed=3)
    regions = grounder.ground(image, ["heart", "liver"], box_threshold=0.0)
    ((scores, boxes),) = library_answers(hub_folder, [image], build_prompt(tokenizer, ["heart", "liver"]))
    for phrase, token in ((0, 1), (1, 3)):
        assert_equal_answers(regions[regions.phrase_index == phrase], scores[:, token], boxes)


def test_pictures_of_different_shape_share_a_padded_batch_as_the_library_s_do(hub_folder, tokenizer):
    grounder = Grounder.from_pretrained(hub_folder, device="cpu", dtype="float32")
    images = [picture(90, 150, seed=3), picture(140, 100, seed=4)]
    together = grounder.ground_batch(images, [["heart"]] * 2, box_threshold=0.0)
    expected = library_answers(hub_folder, images, build_prompt(tokenizer, ["heart"]))
    for regions, (scores, boxes) in zip(together, expected, strict=True):
        assert_equal_answers(regions, scores[:, 1], boxes)


def test_the_input_is_the_family_s_own(hub_folder):
    make_input = AspectInput.read(hub_folder)
    assert make_input == AspectInput(128, 170)
    image = picture(61, 200, seed=1)
    inputs = GroundingDinoImageProcessorPil.from_pretrained(hub_folder)(
        Image.fromarray(image.pixels), return_tensors="pt"
    )
    torch.testing.assert_close(make_input(image.pixels)[None], inputs["pixel_values"], atol=1e-5, rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_sizes_are_rounded_as_the_family_s_are(height, width):
    assert AspectInput().target(height, width) == get_size_with_aspect_ratio((height, width), 800, 1333)
