"""The Med-GLIP network: MM-Grounding-DINO's architecture, staged, with modality conditioning.

``forward`` reads like the figure: encode the image, encode the text, fuse, propose, decode. The layers are
the library's, under the library's parameter names, so that published MM-Grounding-DINO and LLMDet checkpoints
load unchanged. Knows nothing about pixels on disk, phrases as strings, or losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import MMGroundingDinoConfig, MMGroundingDinoForObjectDetection
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map,
)

from .backbone import EfficientNetLite, EfficientNetLiteBackbone, EfficientNetLiteConfig
from .deformable import use_sparse_attention

# Only these may be absent from a published checkpoint: what Med-GLIP adds, zero-initialised.
ADDED_PARAMETERS = ("modality_embedding.weight",)


class MedGLIPConfig(MMGroundingDinoConfig):
    """MM-Grounding-DINO's configuration plus what Med-GLIP adds.

    Attributes:
        image_size: Side in pixels of the square to which an image is resized, aspect ratio not kept.
        modalities: Groups of DICOM modality codes; codes of one group share a learned conditioning.
        box_threshold: Default score below which the predictor drops a region.
        labels: Phrases it was trained on; empty = not stated.
        label_modalities: Label -> DICOM codes of the images it was trained on; a label without an entry is
            looked for wherever the ontology sees it.
    """

    model_type = "medglip"

    image_size: int = 320
    modalities: list | tuple = (("CR", "DX"), ("CT",), ("MR",), ("US",), ("ES",), ("DMS",), ("OP",), ("SM",))
    box_threshold: float = 0.3
    labels: list | tuple = ()
    label_modalities: dict | None = None

    def modality_id(self, modality: str | None) -> int:
        """Row of the modality embedding for a DICOM code; 0 where the modality is unknown or not listed."""
        for index, codes in enumerate(self.modalities, start=1):
            if modality in codes:
                return index
        return 0


@dataclass(frozen=True)
class ImageFeatures:
    """What the backbone makes of a batch of images, all levels flattened and concatenated (N tokens).

    Attributes:
        tokens: (B, N, d) projected features.
        mask: (B, N) bool, True = valid.
        position: (B, N, d) position plus level embedding.
        shapes: (height, width) of each level.
        valid_ratios: (B, levels, 2) valid fraction (x, y) of each level.
    """

    tokens: Tensor
    mask: Tensor
    position: Tensor
    shapes: list[tuple[int, int]]
    valid_ratios: Tensor

    def repeat(self, count: int) -> ImageFeatures:
        """The features of one image (B = 1) for ``count`` prompts, without copying memory."""
        if self.tokens.shape[0] != 1:
            raise ValueError(f"expected the features of one image, got a batch of {self.tokens.shape[0]}")

        def expand(tensor: Tensor) -> Tensor:
            return tensor.expand(count, *tensor.shape[1:])

        return ImageFeatures(
            expand(self.tokens),
            expand(self.mask),
            expand(self.position),
            self.shapes,
            expand(self.valid_ratios),
        )


@dataclass(frozen=True)
class TextFeatures:
    """What the text encoder makes of a batch of prompts of T tokens.

    Attributes:
        tokens: (B, T, d) projected features.
        mask: (B, T) bool, True = a real token.
        attention: (B, T, T) bool, True = same phrase, may attend.
        position_ids: (B, T) position within the phrase.
    """

    tokens: Tensor
    mask: Tensor
    attention: Tensor
    position_ids: Tensor


@dataclass(frozen=True)
class GroundingOutput:
    """Predictions of one forward pass; boxes are cxcywh in [0, 1] of the (padded) input, logits are raw.

    Attributes:
        logits: (B, Q, T) one logit for each query and prompt token; -inf on padding tokens.
        pred_boxes: (B, Q, 4).
        layer_logits: (L, B, Q, T) of every decoder layer, the last equal to ``logits``.
        layer_boxes: (L, B, Q, 4).
        proposal_logits: (B, N, T) of the encoder's proposals, with gradient.
        proposal_boxes: (B, N, 4), with gradient; NaN-free, invalid proposals are boxes at (1, 1, 1, 1).
    """

    logits: Tensor
    pred_boxes: Tensor
    layer_logits: Tensor
    layer_boxes: Tensor
    proposal_logits: Tensor
    proposal_boxes: Tensor


class MedGLIPForGrounding(MMGroundingDinoForObjectDetection):
    """Modality-aware phrase grounding (arXiv 2508.10528) on the MM-Grounding-DINO architecture."""

    config_class = MedGLIPConfig

    def __init__(self, config: MedGLIPConfig) -> None:
        """Random weights, and a modality embedding of zeros."""
        super().__init__(config)
        self.modality_embedding = nn.Embedding(len(config.modalities) + 1, config.d_model)
        if not config.disable_custom_kernels:
            use_sparse_attention(self)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is getattr(self, "modality_embedding", None):
            nn.init.zeros_(module.weight)  # unchanged outputs until trained
        elif not isinstance(module, EfficientNetLiteBackbone):
            super()._init_weights(module)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_mask: Tensor | None = None,
        modality_ids: Tensor | None = None,
    ) -> GroundingOutput:
        """Ground the phrases of each prompt in its image.

        Args:
            pixel_values: (B, 3, H, W) ImageNet-normalised.
            input_ids: (B, T) prompt tokens, phrases ended by the "." token (see ``prompts.py``).
            attention_mask: (B, T) 1 = a real token.
            pixel_mask: (B, H, W) 1 = a real pixel, or None where nothing is padded.
            modality_ids: (B,) rows of the modality embedding, 0 = unknown; None = all unknown.
        """
        image = self.encode_image(pixel_values, pixel_mask)
        text = self.encode_text(input_ids, attention_mask)
        return self.ground(image, text, modality_ids)

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """Backbone and input projections; depends on the image only, so it can be kept and asked often."""
        model = self.model
        if pixel_mask is None:
            pixel_mask = torch.ones(
                pixel_values.shape[0], *pixel_values.shape[-2:], device=pixel_values.device
            )
        features = model.backbone.conv_encoder.model(pixel_values, return_dict=True).feature_maps
        maps = [project(f) for project, f in zip(model.input_proj_vision, features, strict=False)]
        for project in model.input_proj_vision[len(features) :]:
            maps.append(project(features[-1] if len(maps) == len(features) else maps[-1]))
        tokens, masks, positions, ratios = [], [], [], []
        for level, feature in enumerate(maps):
            mask = nn.functional.interpolate(pixel_mask[None].float(), size=feature.shape[-2:]).to(
                torch.bool
            )[0]
            position = model.backbone.position_embedding(feature, mask).to(feature.dtype)
            tokens.append(feature.flatten(2).transpose(1, 2))
            masks.append(mask.flatten(1))
            positions.append(position.flatten(2).transpose(1, 2) + model.level_embed[level])
            ratios.append(model.get_valid_ratio(mask, dtype=feature.dtype))
        return ImageFeatures(
            torch.cat(tokens, 1),
            torch.cat(masks, 1),
            torch.cat(positions, 1),
            [tuple(feature.shape[-2:]) for feature in maps],
            torch.stack(ratios, 1),
        )

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> TextFeatures:
        """Text encoder and projection; tokens of one phrase never see another phrase.

        Raises:
            ValueError: If a prompt is longer than ``config.max_text_len`` tokens.
        """
        if input_ids.shape[1] > self.config.max_text_len:
            raise ValueError(
                f"a prompt has {input_ids.shape[1]} tokens, the limit is {self.config.max_text_len}; "
                "ask for fewer phrases at a time"
            )
        attention, position_ids = generate_masks_with_special_tokens_and_transfer_map(
            input_ids, special_tokens=self.model.special_tokens
        )
        hidden = self.model.text_backbone(
            input_ids, attention[:, None], torch.zeros_like(input_ids), position_ids
        ).last_hidden_state
        return TextFeatures(
            self.model.text_projection(hidden), attention_mask.bool(), attention, position_ids
        )

    def ground(
        self, image: ImageFeatures, text: TextFeatures, modality_ids: Tensor | None = None
    ) -> GroundingOutput:
        """Fuse image and text, propose boxes, refine them; see :meth:`forward` for shapes."""
        vision_tokens, text_tokens = self._fuse(image, text, modality_ids)
        proposal_logits, proposal_coordinates = self._propose(vision_tokens, text_tokens, image, text)
        references = self._select(proposal_logits, proposal_coordinates)
        layer_logits, layer_boxes = self._decode(vision_tokens, text_tokens, references, image, text)
        return GroundingOutput(
            logits=layer_logits[-1],
            pred_boxes=layer_boxes[-1],
            layer_logits=layer_logits,
            layer_boxes=layer_boxes,
            proposal_logits=proposal_logits,
            proposal_boxes=proposal_coordinates.sigmoid(),
        )

    def _fuse(
        self, image: ImageFeatures, text: TextFeatures, modality_ids: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-modal encoder: (B, N, d) vision and (B, T, d) text tokens that have seen each other."""
        if modality_ids is None:
            modality_ids = image.tokens.new_zeros(image.tokens.shape[0], dtype=torch.long)
        condition = self.modality_embedding(modality_ids)[:, None]
        shapes = torch.as_tensor(image.shapes, dtype=torch.long, device=image.tokens.device)
        outputs = self.model.encoder(
            vision_features=image.tokens + condition,
            vision_attention_mask=~image.mask,
            vision_position_embedding=image.position,
            spatial_shapes=shapes,
            spatial_shapes_list=image.shapes,
            level_start_index=_level_starts(shapes),
            valid_ratios=image.valid_ratios,
            text_features=text.tokens + condition,
            text_attention_mask=~text.mask,
            text_position_embedding=None,
            text_self_attention_masks=~text.attention,
            text_position_ids=text.position_ids,
            return_dict=True,
        )
        return outputs.last_hidden_state_vision, outputs.last_hidden_state_text

    def _propose(
        self, vision_tokens: Tensor, text_tokens: Tensor, image: ImageFeatures, text: TextFeatures
    ) -> tuple[Tensor, Tensor]:
        """A class logit per token and a box (as logits) from every encoder position: (B, N, T), (B, N, 4)."""
        model = self.model
        queries, anchors = model.generate_encoder_output_proposals(vision_tokens, ~image.mask, image.shapes)
        logits = model.encoder_output_class_embed(queries, text_tokens, text.mask)[..., : text.mask.shape[1]]
        return logits, model.encoder_output_bbox_embed(queries) + anchors

    def _select(self, logits: Tensor, coordinates: Tensor) -> Tensor:
        """Boxes cxcywh in [0, 1] of the best ``num_queries`` proposals, without gradient: (B, Q, 4)."""
        count = self.config.num_queries
        if logits.shape[1] < count:
            raise ValueError(
                f"the image has {logits.shape[1]} positions, fewer than num_queries={count}; "
                "enlarge image_size or lower num_queries"
            )
        best = logits.detach().max(-1).values.topk(count, dim=1).indices
        return coordinates.detach().gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()

    def _decode(
        self,
        vision_tokens: Tensor,
        text_tokens: Tensor,
        references: Tensor,
        image: ImageFeatures,
        text: TextFeatures,
    ) -> tuple[Tensor, Tensor]:
        """Refine the reference boxes layer by layer: (L, B, Q, T) logits and (L, B, Q, 4) boxes."""
        shapes = torch.as_tensor(image.shapes, dtype=torch.long, device=vision_tokens.device)
        queries = self.model.query_position_embeddings.weight
        outputs = self.model.decoder(
            inputs_embeds=queries[None].repeat(references.shape[0], 1, 1),
            vision_encoder_hidden_states=vision_tokens,
            vision_encoder_attention_mask=image.mask,
            text_encoder_hidden_states=text_tokens,
            text_encoder_attention_mask=~text.mask,
            reference_points=references,
            spatial_shapes=shapes,
            spatial_shapes_list=image.shapes,
            level_start_index=_level_starts(shapes),
            valid_ratios=image.valid_ratios,
            return_dict=True,
        )
        layer_logits, layer_boxes = [], []
        for layer in range(outputs.intermediate_hidden_states.shape[1]):
            hidden = outputs.intermediate_hidden_states[:, layer]
            reference = references if layer == 0 else outputs.intermediate_reference_points[:, layer - 1]
            logits = self.class_embed[layer](hidden, text_tokens, text.mask)
            layer_logits.append(logits[..., : text.mask.shape[1]])
            layer_boxes.append(
                (self.bbox_embed[layer](hidden) + torch.special.logit(reference, eps=1e-5)).sigmoid()
            )
        return torch.stack(layer_logits), torch.stack(layer_boxes)


def _level_starts(shapes: Tensor) -> Tensor:
    """Index of the first token of each level, from (levels, 2) shapes."""
    return torch.cat((shapes.new_zeros((1,)), shapes.prod(1).cumsum(0)[:-1]))


def nano_config(image_size: int = 320) -> MedGLIPConfig:
    """The nano size: EfficientNet-Lite0, MiniLM-L6, two fusion and three decoder layers of width 128."""
    from transformers import BertConfig

    text = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    return MedGLIPConfig(
        backbone_config=EfficientNetLiteConfig(),
        text_config=text,
        image_size=image_size,
        d_model=128,
        num_queries=100,
        num_feature_levels=3,
        encoder_layers=2,
        encoder_ffn_dim=512,
        encoder_attention_heads=4,
        encoder_n_points=2,
        decoder_layers=3,
        decoder_ffn_dim=512,
        decoder_attention_heads=4,
        decoder_n_points=4,
        dropout=0.0,
        fusion_droppath=0.0,
    )


def new_nano(image_size: int = 320) -> MedGLIPForGrounding:
    """An untrained nano: published image and text encoders, everything else freshly initialised."""
    from .base_weights import fetch

    model = MedGLIPForGrounding(nano_config(image_size))
    model.model.backbone.conv_encoder.model.network = EfficientNetLite.from_base_weights()
    load_text_encoder(model, fetch("minilm-l6"))
    return model


def load_text_encoder(model: MedGLIPForGrounding, folder: Path) -> None:
    """Copy the published MiniLM weights into ``model`` and freeze them.

    Raises:
        ValueError: If tensors are missing.
    """
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    result = model.model.text_backbone.load_state_dict(tensors, strict=False)
    if result.missing_keys:
        raise ValueError(
            f"{folder}: the text encoder lacks {result.missing_keys[:3]}; fetch it again with `medglip fetch`"
        )
    model.model.text_backbone.requires_grad_(False)
