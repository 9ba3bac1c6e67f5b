"""The Med-GLIP network: MM-Grounding-DINO's architecture, staged, with modality conditioning.

``forward`` reads like the figure: encode the image, encode the text, fuse, propose, decode. The layers are
the library's, under the library's parameter names, so that published MM-Grounding-DINO and LLMDet checkpoints
load unchanged. Knows nothing about pixels on disk, phrases as strings, or losses.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import MMGroundingDinoForObjectDetection
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    encode_sinusoidal_position_embedding,
    generate_masks_with_special_tokens_and_transfer_map,
)

from .backbone import EfficientNetLiteBackbone
from .deformable import use_sparse_attention
from .denoising import DenoisingQueries, query_mask
from .fusion import use_fused_attention
from .heads import ModalityHead, PresenceHead, ZeroLinear, modality_rows
from .model_config import MedGLIPConfig
from .outputs import GroundingOutput, ImageFeatures, LayerPredictions, TextFeatures

__all__ = [
    "ADDED_PARAMETERS",
    "GroundingOutput",
    "ImageFeatures",
    "MedGLIPConfig",
    "MedGLIPForGrounding",
    "TextFeatures",
    "load_text_encoder",
]

# Only these may be absent from a published or an older checkpoint: what Med-GLIP adds. The last layer of each
# is zero until trained.
ADDED_PARAMETERS = (
    "modality_embedding.weight",
    *(
        f"{module}.{part}"
        for module in (
            "modality_head",
            "denoising_projection",
            *(f"presence_head.{layer}" for layer in ("query", "key", "hidden", "score")),
        )
        for part in ("weight", "bias")
    ),
)


class MedGLIPForGrounding(MMGroundingDinoForObjectDetection):
    """Modality-aware phrase grounding (arXiv 2508.10528) on the MM-Grounding-DINO architecture.

    Attributes:
        recompute: In training, keep no activations inside encoder and decoder layers but compute them again
            in the backward pass: slower, much less memory.
    """

    config_class = MedGLIPConfig

    def __init__(self, config: MedGLIPConfig) -> None:
        """Random weights; what Med-GLIP adds changes nothing until trained."""
        super().__init__(config)
        self.modality_embedding = nn.Embedding(len(config.modalities) + 1, config.d_model)
        channels = self.model.backbone.conv_encoder.intermediate_channel_sizes[-1]
        self.modality_head = ModalityHead(channels, len(config.modalities))
        self.presence_head = PresenceHead(config.d_model)
        self.denoising_projection = ZeroLinear(config.d_model, config.d_model)
        self.recompute = False
        if not config.disable_custom_kernels:
            use_sparse_attention(self)
            use_fused_attention(self)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is getattr(self, "modality_embedding", None):
            nn.init.zeros_(module.weight)  # unchanged outputs until trained
        elif isinstance(module, ZeroLinear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif not isinstance(module, EfficientNetLiteBackbone):
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's word embeddings; peft asks for them."""
        return self.model.text_backbone.get_input_embeddings()

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
        batch = pixel_values.shape[0]
        if pixel_mask is None:  # one mask, and one position embedding, serve the batch
            pixel_mask = torch.ones(1, *pixel_values.shape[-2:], device=pixel_values.device)
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
            ratios.append(model.get_valid_ratio(mask))
        return ImageFeatures(
            torch.cat(tokens, 1),
            torch.cat(masks, 1).expand(batch, -1),
            torch.cat(positions, 1).expand(batch, -1, -1),
            [tuple(feature.shape[-2:]) for feature in maps],
            torch.stack(ratios, 1).expand(batch, -1, -1),
            self.modality_head(features[-1]),
        )

    @torch.no_grad()
    def infer_modality(self, pixel_values: Tensor) -> Tensor:
        """Rows (B,) of the modality embedding for images of unknown kind.

        0 = unknown where no kind has over half of the probability, as for every image before training.
        """
        logits = self.encode_image(pixel_values).modality_logits
        assert logits is not None
        return modality_rows(logits)

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
        self,
        image: ImageFeatures,
        text: TextFeatures,
        modality_ids: Tensor | None = None,
        denoising: DenoisingQueries | None = None,
        many: int = 0,
    ) -> GroundingOutput:
        """Fuse image and text, propose boxes, refine them; see :meth:`forward` for shapes.

        Args:
            image: From :meth:`encode_image`.
            text: From :meth:`encode_text`.
            modality_ids: As in :meth:`forward`.
            denoising: Extra queries for training, from noised true boxes.
            many: Number of extra queries for training of which several may answer for one box; they start
                from the best proposals with the content of the real queries.
        """
        vision_tokens, text_tokens = self._fuse(image, text, modality_ids)
        proposal_logits, proposal_coordinates = self._propose(vision_tokens, text_tokens, image, text)
        references = self._select(proposal_logits, proposal_coordinates, many)
        contents, references = self._queries(text_tokens, references, denoising, many)
        mask = query_mask(self.config.num_queries, denoising, many, len(references))
        layers = self._decode((vision_tokens, text_tokens), (contents, references), mask, image, text)
        sizes = [self.config.num_queries, 0 if denoising is None else denoising.boxes.shape[1], many]
        real, noised, several = (
            LayerPredictions(logits, boxes)
            for logits, boxes in zip(layers.logits.split(sizes, 2), layers.boxes.split(sizes, 2), strict=True)
        )
        return GroundingOutput(
            logits=real.logits[-1],
            pred_boxes=real.boxes[-1],
            layer_logits=real.logits,
            layer_boxes=real.boxes,
            proposal_logits=proposal_logits,
            proposal_boxes=proposal_coordinates.sigmoid(),
            presence_logits=self._presence(vision_tokens, text_tokens, image, text, (real, proposal_logits)),
            modality_logits=image.modality_logits,
            denoising=None if denoising is None else noised,
            many=several if many else None,
        )

    def _run(self, layer: nn.Module, arguments: dict[str, Any]) -> Any:
        """Call a layer, its activations computed again in the backward pass where ``recompute`` says so."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, use_reentrant=False, **arguments)
        return layer(**arguments)

    def _fuse(
        self, image: ImageFeatures, text: TextFeatures, modality_ids: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-modal encoder: (B, N, d) vision and (B, T, d) text tokens that have seen each other."""
        vision_tokens, text_tokens = image.tokens, text.tokens
        if self.config.modality_conditioning:
            if modality_ids is None:
                modality_ids = vision_tokens.new_zeros(len(vision_tokens), dtype=torch.long)
            condition = self.modality_embedding(modality_ids)[:, None]
            vision_tokens, text_tokens = vision_tokens + condition, text_tokens + condition
        encoder, shapes = self.model.encoder, _shapes(image)
        same_for_all = {
            "vision_position_embedding": image.position,
            "spatial_shapes": shapes,
            "spatial_shapes_list": image.shapes,
            "level_start_index": _level_starts(shapes),
            "key_padding_mask": ~image.mask,
            "reference_points": encoder.get_reference_points(
                image.shapes, image.valid_ratios, device=image.tokens.device
            ),
            "text_attention_mask": ~text.mask,
            "text_self_attention_masks": ~text.attention,
            "text_position_ids": text.position_ids,
        }
        for layer in encoder.layers:
            tokens = {"vision_features": vision_tokens, "text_features": text_tokens}
            (vision_tokens, text_tokens), _ = self._run(layer, tokens | same_for_all)
        return vision_tokens, text_tokens

    def _propose(
        self, vision_tokens: Tensor, text_tokens: Tensor, image: ImageFeatures, text: TextFeatures
    ) -> tuple[Tensor, Tensor]:
        """A class logit per token and a box (as logits) from every encoder position: (B, N, T), (B, N, 4)."""
        model = self.model
        queries, anchors = model.generate_encoder_output_proposals(vision_tokens, ~image.mask, image.shapes)
        logits = _token_logits(model.encoder_output_class_embed, queries, text_tokens, text.mask)
        return logits, model.encoder_output_bbox_embed(queries) + anchors

    def _select(self, logits: Tensor, coordinates: Tensor, many: int) -> Tensor:
        """Boxes cxcywh in [0, 1] of the best proposals, best first, without gradient: (B, Q, 4).

        Q is ``num_queries``, or ``many`` where that is more.
        """
        best = best_positions(logits.detach(), max(self.config.num_queries, many))
        return coordinates.detach().gather(1, best.expand(-1, -1, 4)).sigmoid()

    def _queries(
        self, text_tokens: Tensor, proposals: Tensor, denoising: DenoisingQueries | None, many: int
    ) -> tuple[Tensor, Tensor]:
        """Contents (B, Q', d) and boxes (B, Q', 4) of all queries: real, denoising, one-to-many."""
        content, count = self.model.query_position_embeddings.weight, self.config.num_queries
        contents = [content.expand(len(proposals), -1, -1)]
        references = [proposals[:, :count]]
        if denoising is not None:
            means = denoising.content.to(text_tokens.dtype) @ text_tokens.detach()
            contents.append(self.denoising_projection(means).to(content.dtype))
            references.append(denoising.boxes.to(proposals.dtype))
        if many:
            again = torch.arange(many, device=content.device) % count
            contents.append(content[again].expand(len(proposals), -1, -1))
            references.append(proposals[:, :many])
        return torch.cat(contents, 1), torch.cat(references, 1)

    def _decode(
        self,
        tokens: tuple[Tensor, Tensor],
        queries: tuple[Tensor, Tensor],
        mask: Tensor | None,
        image: ImageFeatures,
        text: TextFeatures,
    ) -> LayerPredictions:
        """Refine the queries' boxes layer by layer; ``mask`` (B, Q, Q) says which query sees which."""
        (vision_tokens, text_tokens), (hidden, reference) = tokens, queries
        decoder, shapes = self.model.decoder, _shapes(image)
        scale = torch.cat([image.valid_ratios, image.valid_ratios], -1)[:, None]
        same_for_all = {
            "spatial_shapes": shapes,
            "spatial_shapes_list": image.shapes,
            "level_start_index": _level_starts(shapes),
            "vision_encoder_hidden_states": vision_tokens,
            "vision_encoder_attention_mask": image.mask,
            "text_encoder_hidden_states": text_tokens,
            "text_encoder_attention_mask": _additive(text.mask[:, None, None], text_tokens.dtype),
            "self_attn_mask": None if mask is None else _additive(mask[:, None], hidden.dtype),
        }
        states, references = [], []
        for index, layer in enumerate(decoder.layers):
            references.append(reference)
            scaled = reference[:, :, None] * scale
            position = decoder.reference_points_head(
                encode_sinusoidal_position_embedding(scaled[:, :, 0], num_pos_feats=self.config.d_model // 2)
            )
            own = {"hidden_states": hidden, "position_embeddings": position, "reference_points": scaled}
            hidden = self._run(layer, own | same_for_all)[0]
            states.append(decoder.layer_norm(hidden))
            with torch.no_grad():  # the next layer starts from here, unnormalised as the library has it
                anchor = torch.special.logit(reference, eps=1e-5)
                reference = (decoder.bbox_embed[index](hidden) + anchor).sigmoid()
        # In memory as the library has them: on some processors the last bit of a logarithm hangs on strides.
        strided = [references[0], *torch.stack(references, dim=1).unbind(1)[1:]]
        layer_logits, layer_boxes = [], []
        for index, (state, start) in enumerate(zip(states, strided, strict=True)):
            layer_logits.append(_token_logits(self.class_embed[index], state, text_tokens, text.mask))
            layer_boxes.append(
                (self.bbox_embed[index](state) + torch.special.logit(start, eps=1e-5)).sigmoid()
            )
        return LayerPredictions(torch.stack(layer_logits), torch.stack(layer_boxes))

    def _presence(
        self,
        vision_tokens: Tensor,
        text_tokens: Tensor,
        image: ImageFeatures,
        text: TextFeatures,
        found: tuple[LayerPredictions, Tensor],
    ) -> Tensor | None:
        """Presence logits (B, T), from the tokens and the best logit of any query and any proposal."""
        if not self.config.presence:
            return None
        decoded, proposed = found
        evidence = torch.stack([decoded.logits[-1].detach().amax(1), proposed.detach().amax(1)], -1)
        return self.presence_head(text_tokens, vision_tokens, text.mask, image.mask, evidence)


def best_positions(logits: Tensor, count: int) -> Tensor:
    """Indices (B, count, 1) of the positions with the best logit of any token, of (B, N, T), best first.

    Raises:
        ValueError: If there are fewer.
    """
    if logits.shape[1] < count:
        raise ValueError(
            f"the image has {logits.shape[1]} positions, fewer than num_queries={count}; "
            "enlarge image_size or lower num_queries"
        )
    return logits.amax(-1).topk(count, dim=1).indices[..., None]


def _token_logits(embed: Any, hidden: Tensor, text_tokens: Tensor, mask: Tensor) -> Tensor:
    """Logits (B, Q, T) of queries (B, Q, d) for tokens (B, T, d), -inf on padding, in float32.

    The library's contrastive embedding without its padding to 256 tokens.
    """
    scores = hidden @ text_tokens.transpose(-1, -2) / math.sqrt(hidden.shape[-1]) + embed.bias
    return scores.masked_fill(~mask[:, None], float("-inf")).float()


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores: 0 where ``allowed``, the lowest number elsewhere."""
    return (~allowed).to(dtype) * torch.finfo(dtype).min


def _shapes(image: ImageFeatures) -> Tensor:
    return torch.as_tensor(image.shapes, dtype=torch.long, device=image.tokens.device)


def _level_starts(shapes: Tensor) -> Tensor:
    """Index of the first token of each level, from (levels, 2) shapes."""
    return torch.cat((shapes.new_zeros((1,)), shapes.prod(1).cumsum(0)[:-1]))


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
