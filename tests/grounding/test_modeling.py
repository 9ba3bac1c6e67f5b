"""The network: equality with the library's, stages, modality conditioning, gradients of the proposals."""

import dataclasses

import pytest
import torch
from transformers import BertConfig, MMGroundingDinoConfig, MMGroundingDinoForObjectDetection, SwinConfig

from grounding.checkpoint import load_published
from grounding.criterion import CriterionConfig, GroundingCriterion, GroundingTarget
from grounding.modeling import MedGLIPConfig, load_text_encoder
from grounding.prompts import build_prompt, collate_prompts


def library_config(share):
    """A tiny MM-Grounding-DINO with a Swin backbone, as the published checkpoints have it."""
    return MMGroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=128,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        ),
        d_model=32,
        num_queries=10,
        num_feature_levels=4,
        encoder_layers=2,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_bbox_embed_share=share,
        decoder_cls_embed_share=share,
    )


@pytest.fixture(scope="module", params=[True, False], ids=["shared-heads", "own-heads"])
def hub_folder(request, tmp_path_factory, randomise):
    """A random library checkpoint in the hub's layout, with the network that was saved."""
    torch.manual_seed(0)
    model = MMGroundingDinoForObjectDetection(library_config(request.param))
    randomise(model, 1)
    folder = tmp_path_factory.mktemp("hub")
    model.save_pretrained(folder)
    return folder, model.eval()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """Input ids and mask of two prompts of different length, and their positive maps."""
    asked = (["left lung", "heart", "spleen"], ["polyp"])
    return collate_prompts([build_prompt(tokenizer, phrases) for phrases in asked])


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("padded", [False, True])
def test_published_checkpoint_gives_the_librarys_outputs_bit_for_bit(hub_folder, prompts, pixels, padded):
    folder, library = hub_folder
    ids, mask, _ = prompts
    pixel_mask = torch.ones(2, 128, 128, dtype=torch.long)
    if padded:
        pixel_mask[0, 96:], pixel_mask[1, :, 64:] = 0, 0
    with torch.no_grad():
        expected = library(pixel_values=pixels, input_ids=ids, attention_mask=mask, pixel_mask=pixel_mask)
        got = load_published(folder, library_kernels=True)(pixels, ids, mask, pixel_mask)
    assert got.logits.shape == (2, 10, ids.shape[1])
    assert torch.equal(got.logits, expected.logits[..., : ids.shape[1]])
    assert torch.equal(got.pred_boxes, expected.pred_boxes)
    assert got.pred_boxes[0, :, 2].std() > 0  # the boxes are not all alike, so equality means something


def test_published_proposals_equal_the_librarys(hub_folder, prompts, pixels):
    folder, library = hub_folder
    ids, mask, _ = prompts
    with torch.no_grad():
        expected = library(pixel_values=pixels, input_ids=ids, attention_mask=mask)
        got = load_published(folder, library_kernels=True)(pixels, ids, mask)
    assert torch.equal(got.proposal_logits, expected.enc_outputs_class[..., : ids.shape[1]])
    assert torch.equal(got.proposal_boxes, expected.enc_outputs_coord_logits.sigmoid())


def test_our_kernels_change_rounding_only(hub_folder, prompts, pixels):
    folder, library = hub_folder
    ids, mask, _ = prompts
    with torch.no_grad():
        expected = library(pixel_values=pixels, input_ids=ids, attention_mask=mask)
        got = load_published(folder)(pixels, ids, mask)
    theirs = expected.enc_outputs_class[..., : ids.shape[1]]
    finite = torch.isfinite(theirs)
    torch.testing.assert_close(got.proposal_logits[finite], theirs[finite], atol=1e-4, rtol=1e-4)
    boxes = expected.enc_outputs_coord_logits.sigmoid()
    torch.testing.assert_close(got.proposal_boxes, boxes, atol=1e-4, rtol=1e-4)


@pytest.fixture
def outputs_for(tiny_model, prompts, pixels):
    def run(modality_ids):
        ids, mask, _ = prompts
        with torch.no_grad():
            return tiny_model(pixels, ids, mask, modality_ids=modality_ids)

    return run


def test_untrained_modality_embedding_changes_nothing(tiny_model, outputs_for):
    plain = outputs_for(None)
    assert torch.equal(tiny_model.modality_embedding.weight, torch.zeros(9, 32))  # unknown, and eight groups
    conditioned = outputs_for(torch.tensor([1, 8]))
    assert torch.equal(conditioned.logits, plain.logits)
    assert torch.equal(conditioned.pred_boxes, plain.pred_boxes)


def test_trained_modality_embedding_conditions_its_own_image_only(tiny_model, outputs_for):
    plain = outputs_for(None)
    weight = tiny_model.modality_embedding.weight
    try:
        with torch.no_grad():
            weight[3] = torch.linspace(-1, 1, weight.shape[1])
        conditioned = outputs_for(torch.tensor([3, 2]))
    finally:
        torch.nn.init.zeros_(weight)
    assert (conditioned.pred_boxes[0] - plain.pred_boxes[0]).abs().max() > 1e-3
    torch.testing.assert_close(conditioned.pred_boxes[1], plain.pred_boxes[1])


def test_modality_rows():
    config = MedGLIPConfig()
    assert [config.modality_id(code) for code in (None, "XX", "CR", "DX", "CT", "SM")] == [0, 0, 1, 1, 2, 8]


def test_fault_b_proposal_heads_learn(make_tiny_model, prompts, pixels):
    model = make_tiny_model().train()
    ids, mask, maps = prompts
    output = model(pixels, ids, mask)
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.3]])
    targets = [GroundingTarget(boxes, torch.tensor([row]), m) for row, m in zip((1, 0), maps, strict=True)]
    losses = GroundingCriterion()(output, targets, mask.bool())
    sum(value for name, value in losses.items() if name.endswith("_proposals")).backward()
    for head in (model.model.enc_output, model.model.enc_output_norm, model.model.encoder_output_bbox_embed):
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_every_parameter_takes_part_in_the_loss(make_tiny_model, prompts, pixels):
    model = make_tiny_model(presence=True).train()
    ids, mask, maps = prompts
    output = model(pixels, ids, mask, modality_ids=torch.tensor([1, 2]))
    targets = [GroundingTarget(torch.full((1, 4), 0.4), torch.tensor([0]), m, None, 1) for m in maps]
    criterion = GroundingCriterion(CriterionConfig(presence_weight=1.0, modality_weight=1.0))
    criterion(output, targets, mask.bool())["loss"].backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == ["denoising_projection.weight", "denoising_projection.bias"]  # without such queries


def test_recomputed_activations_give_the_same_gradients(make_tiny_model, prompts, pixels):
    ids, mask, maps = prompts
    targets = [GroundingTarget(torch.full((1, 4), 0.4), torch.tensor([0]), m) for m in maps]
    gradients = []
    for recompute in (False, True):
        model = make_tiny_model().train()
        model.recompute = recompute
        GroundingCriterion()(model(pixels, ids, mask), targets, mask.bool())["loss"].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_conditioning_can_be_turned_off(make_tiny_model, prompts, pixels):
    ids, mask, _ = prompts
    model = make_tiny_model(modality_conditioning=False)
    with torch.no_grad():
        plain = model(pixels, ids, mask)
        model.modality_embedding.weight.fill_(1.0)
        told = model(pixels, ids, mask, modality_ids=torch.tensor([3, 2]))
    assert torch.equal(plain.logits, told.logits)


def test_output_shapes_and_last_layer(tiny_model, prompts, pixels):
    ids, mask, _ = prompts
    with torch.no_grad():
        output = tiny_model(pixels, ids, mask)
    positions = 16 * 16 + 8 * 8 + 4 * 4  # strides 8, 16 and 32 of 128 pixels
    assert output.layer_logits.shape == (2, 2, 12, ids.shape[1])
    assert output.layer_boxes.shape == (2, 2, 12, 4)
    assert output.proposal_logits.shape == (2, positions, ids.shape[1])
    assert output.proposal_boxes.shape == (2, positions, 4)
    assert torch.equal(output.logits, output.layer_logits[-1])
    assert torch.equal(output.pred_boxes, output.layer_boxes[-1])
    assert torch.isneginf(output.logits[1][:, ~mask[1].bool()]).all()  # the shorter prompt's padding
    assert output.logits[mask.bool()[:, None].expand_as(output.logits)].isfinite().all()
    assert output.proposal_boxes.isfinite().all()


def test_fewer_positions_than_queries_are_refused(make_tiny_model, prompts):
    ids, mask, _ = prompts
    with pytest.raises(ValueError, match="84 positions, fewer than num_queries=100; enlarge image_size"):
        make_tiny_model(num_queries=100)(torch.zeros(2, 3, 64, 64), ids, mask)


def test_an_image_is_grounded_alike_alone_and_in_a_batch(tiny_model, prompts, pixels):
    ids, mask, _ = prompts
    length = int(mask[1].sum())
    with torch.no_grad():
        batch = tiny_model(pixels, ids, mask)
        alone = tiny_model(pixels[1:], ids[1:, :length], mask[1:, :length])
    torch.testing.assert_close(batch.logits[1:, :, :length], alone.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.pred_boxes[1:], alone.pred_boxes, rtol=1e-4, atol=1e-4)


def test_features_of_one_image_are_repeated_without_copies(tiny_model, pixels):
    with torch.no_grad():
        features = tiny_model.encode_image(pixels[:1])
    repeated = features.repeat(3)
    for field in ("tokens", "mask", "position", "valid_ratios"):
        before, after = getattr(features, field), getattr(repeated, field)
        assert after.shape == (3, *before.shape[1:])
        assert after.data_ptr() == before.data_ptr()
        assert torch.equal(after[2], before[0])
    assert repeated.shapes == features.shapes == [(16, 16), (8, 8), (4, 4)]


def test_features_of_several_images_are_not_repeated(tiny_model, pixels):
    with torch.no_grad():
        features = tiny_model.encode_image(pixels)
    with pytest.raises(ValueError, match="expected the features of one image, got a batch of 2"):
        features.repeat(3)


def test_repeated_features_ground_each_prompt_as_if_alone(tiny_model, prompts, pixels):
    ids, mask, _ = prompts
    with torch.no_grad():
        features = tiny_model.encode_image(pixels[:1])
        together = tiny_model.ground(features.repeat(2), tiny_model.encode_text(ids, mask))
        first = tiny_model.ground(features, tiny_model.encode_text(ids[:1], mask[:1]))
    torch.testing.assert_close(together.pred_boxes[:1], first.pred_boxes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.logits[:1], first.logits, rtol=1e-4, atol=1e-4)


def test_too_long_prompt_is_refused(tiny_model):
    ids = torch.full((1, 257), 2000)
    with pytest.raises(ValueError, match="a prompt has 257 tokens, the limit is 256; ask for fewer phrases"):
        tiny_model.encode_text(ids, torch.ones_like(ids))


def test_image_features_are_frozen(tiny_model, pixels):
    with torch.no_grad():
        features = tiny_model.encode_image(pixels[:1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        features.tokens = None


def test_text_encoder_with_missing_tensors_is_refused(make_tiny_model, tmp_path):
    from safetensors.torch import save_file

    model = make_tiny_model()
    tensors = {name: tensor.clone() + 1 for name, tensor in model.model.text_backbone.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    load_text_encoder(model, tmp_path)
    state = model.model.text_backbone.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
    assert not any(parameter.requires_grad for parameter in model.model.text_backbone.parameters())
    del tensors["embeddings.word_embeddings.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"embeddings\.word_embeddings\.weight"):
        load_text_encoder(model, tmp_path)
