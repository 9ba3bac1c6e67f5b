"""Masks for boxes, with a tiny random SAM: equal to the library's own processing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    SamConfig,
    SamImageProcessorPil,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from grounding import segment
from grounding.segment import Segmenter
from grounding.types import MedicalImage, Regions

SIDE = 64


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16,
        output_channels=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        mlp_dim=16,
        window_size=2,
        global_attn_indexes=[0],
        num_pos_feats=8,
    )
    prompts = SamPromptEncoderConfig(hidden_size=16, image_size=SIDE, patch_size=16, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    model = SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def processor():
    return SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})


def picture(height, width):
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return MedicalImage.from_array(values)


def boxes_in(image, boxes):
    count = len(boxes)
    index = np.zeros(count, dtype=np.int64)
    return Regions(np.array(boxes), np.full(count, 0.5), index, ("heart",), image.size)


@pytest.mark.parametrize("size", [(50, 80), (90, 61)])
def test_masks_equal_the_library_s(sam_folder, size):
    image = picture(*size)
    regions = boxes_in(image, [(5, 6, 40, 45), (20, 2, 33, 20)])
    result = Segmenter.from_pretrained(sam_folder, device="cpu").segment(image, regions)

    inputs = processor()(Image.fromarray(image.pixels), return_tensors="pt")
    height, width = inputs["reshaped_input_sizes"][0].tolist()
    scale = torch.tensor([width / size[1], height / size[0]] * 2)
    with torch.inference_mode():
        output = SamModel.from_pretrained(sam_folder).eval()(
            pixel_values=inputs["pixel_values"],
            input_boxes=(torch.tensor(regions.boxes) * scale)[None],
            multimask_output=False,
        )
    (expected,) = processor().post_process_masks(
        output.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    assert result.masks.shape == (2, *size) and result.masks.any() and not result.masks.all()
    assert (result.masks == expected[:, 0].numpy()).mean() > 0.999
    assert np.array_equal(result.boxes, regions.boxes) and result.asked == ("heart",)


def test_many_boxes_are_drawn_in_parts(sam_folder, monkeypatch):
    image = picture(50, 80)
    regions = boxes_in(image, [(i, i, i + 20, i + 15) for i in range(5)])
    segmenter = Segmenter.from_pretrained(sam_folder, device="cpu")
    whole = segmenter.segment(image, regions).masks
    monkeypatch.setattr(segment, "BOXES_A_PASS", 2)
    assert (segmenter.segment(image, regions).masks == whole).mean() > 0.999


def test_no_regions_get_no_masks(sam_folder):
    image = picture(50, 80)
    result = Segmenter.from_pretrained(sam_folder).segment(image, Regions.empty(image.size, ("heart",)))
    assert result.masks.shape == (0, 50, 80) and result.missing == ("heart",)


def test_faults(sam_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected config\.json"):
        Segmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="expected a checkpoint of type 'sam', got 'bert'"):
        Segmenter.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected regions of an image of \(50, 80\)"):
        Segmenter.from_pretrained(sam_folder).segment(picture(50, 80), Regions.empty((10, 10)))
