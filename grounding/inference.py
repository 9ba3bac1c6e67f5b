"""The network prepared for inference: the same function of the same weights, with far less work.

- The fusion's wide projections of the image are folded into the text, which is a few tokens: the image is
  multiplied by (heads * tokens) columns in place of 1,024, three times a layer.
- Deformable attention samples as :mod:`grounding.sampling` says; other attention runs in fused kernels.
- Matrix weights are kept in the compute dtype; wide layers go through in chunks that stay in the cache.
- Only the proposals that are chosen get boxes. What decides a position is computed in float32, and so is a
  small backbone: most of what bfloat16 changed came from there.

A prepared network can neither be trained nor saved. Knows no picture files and no phrases as strings.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BackboneOutput
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoDeformableLayer,
    MMGroundingDinoFusionLayer,
    MMGroundingDinoMLPPredictionHead,
    MMGroundingDinoMultiheadAttention,
    MMGroundingDinoTextEnhancerLayer,
)

from .backbone import EfficientNetLiteBackbone
from .denoising import DenoisingQueries
from .modeling import MedGLIPForGrounding, best_positions
from .outputs import GroundingOutput, ImageFeatures, LayerPredictions, TextFeatures
from .sampling import use_point_sampling

CHUNK = 1024  # rows of a wide layer at a time on CPU
TEXT_MULTIPLE = 16  # text is padded to it: softmax over other lengths is several times slower


class PreparedGrounding(MedGLIPForGrounding):
    """:class:`MedGLIPForGrounding` as :func:`prepare_for_inference` leaves it.

    Attributes:
        compute_dtype: What matrices are multiplied in.
    """

    compute_dtype: torch.dtype

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """As the parent's; tokens and positions in the compute dtype."""
        with self._computing():
            features = super().encode_image(pixel_values, pixel_mask)
        tokens, position = features.tokens, features.position
        return replace(
            features, tokens=tokens.to(self.compute_dtype), position=position.to(self.compute_dtype)
        )

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> TextFeatures:
        """As the parent's; tokens in float32."""
        with self._computing():
            features = super().encode_text(input_ids, attention_mask)
        return replace(features, tokens=features.tokens.float())

    def ground(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        modality_ids: Tensor | None = None,
        denoising: DenoisingQueries | None = None,
        many: int = 0,
    ) -> GroundingOutput:
        """As the parent's, but ``proposal_boxes`` are those of the chosen proposals only, (B, Q, 4).

        Raises:
            ValueError: If it is asked for what only training needs.
        """
        if denoising is not None or many:
            raise ValueError("expected no training queries: this network was prepared for inference")
        with self._computing():
            vision, words = self._fuse(image, text, modality_ids)
            queries, anchors = self._candidates(vision, image)
            scores = _scores(self.model.encoder_output_class_embed, queries, words, text.mask)
            references = self._choose(scores, queries, anchors)
            contents, _ = self._queries(words, references, None, 0)
            layers = self._decode((vision, words), (contents, references), None, image, text)
            found = LayerPredictions(layers.logits, layers.boxes)
            presence = self._presence(vision, words, image, text, (found, scores))
        return GroundingOutput(
            logits=layers.logits[-1],
            pred_boxes=layers.boxes[-1],
            layer_logits=layers.logits,
            layer_boxes=layers.boxes,
            proposal_logits=scores,
            proposal_boxes=references,
            presence_logits=presence,
            modality_logits=image.modality_logits,
        )

    def _candidates(self, vision: Tensor, image: ImageFeatures) -> tuple[Tensor, Tensor]:
        """A query (B, N, d) a position, and its anchor as logits (B, N, 4), inf where there is none."""
        anchors = _anchors(image)
        usable = (image.mask & anchors.isfinite().all(-1))[..., None]
        queries = self.model.enc_output(vision.masked_fill(~usable, 0.0))
        return self.model.enc_output_norm(queries), anchors.masked_fill(~usable, float("inf"))

    def _choose(self, scores: Tensor, queries: Tensor, anchors: Tensor) -> Tensor:
        """Boxes cxcywh in [0, 1] of the best proposals, best first: (B, Q, 4)."""
        best = best_positions(scores, self.config.num_queries)
        chosen = queries.gather(1, best.expand(-1, -1, queries.shape[-1]))
        boxes = self.model.encoder_output_bbox_embed(chosen) + anchors.gather(1, best.expand(-1, -1, 4))
        return boxes.sigmoid()

    def _computing(self) -> torch.autocast:
        enabled = self.compute_dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


class FoldedFusion(MMGroundingDinoFusionLayer):
    """A drop-in for the library's layer, with its parameters, in float32 but for the image.

    With image tokens v, text tokens t and a head's weights, the scores (v Q + q)(t K + k)' are
    v (Q (t K + k)') plus a number a token: the bracket is small, and the image is never projected. Likewise
    for the values.
    """

    compute_dtype: torch.dtype

    def forward(
        self,
        vision_features: Tensor,
        text_features: Tensor,
        attention_mask_vision: Tensor | None = None,
        attention_mask_text: Tensor | None = None,
    ) -> tuple[tuple[Tensor, None], tuple[Tensor, None]]:
        """Image (B, N, d) and text (B, T, d), each with what it takes of the other; masks True on padding."""
        with torch.autocast(vision_features.device.type, enabled=False):
            vision = self.layer_norm_vision(vision_features.to(self.compute_dtype))
            text = self.layer_norm_text(text_features.float())
            keys, offsets = self._keys(text)
            taken = text + self.text_param * self._to_text(vision, keys, attention_mask_vision)
            return (self._to_vision(vision, text, keys, offsets, attention_mask_text), None), (taken, None)

    def _keys(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """What image tokens are multiplied by for their scores, (B, H, T, d), and what is added (B, H, T)."""
        attention = self.attn
        keys = self._heads(attention.text_proj(text)) * attention.scale
        weight = attention.vision_proj.weight.unflatten(0, (attention.num_heads, -1))
        bias = attention.vision_proj.bias.unflatten(0, (attention.num_heads, -1))
        return keys @ weight, (keys @ bias[..., None])[..., 0]

    def _to_vision(
        self, vision: Tensor, text: Tensor, keys: Tensor, offsets: Tensor, padding: Tensor | None
    ) -> Tensor:
        """The image with what it takes from the text, (B, N, d)."""
        attention, heads = self.attn, self.attn.num_heads
        weight = attention.out_vision_proj.weight.unflatten(1, (heads, -1)).transpose(0, 1)
        values = self._heads(attention.values_text_proj(text)) @ weight.transpose(1, 2)
        values = self.vision_param * (
            values + attention.out_vision_proj.bias / heads
        )  # shares sum to 1 a head
        if padding is not None:
            offsets = offsets.masked_fill(padding[:, None], float("-inf"))
        missing = -text.shape[1] % TEXT_MULTIPLE
        keys, values = (
            F.pad(each, (0, 0, 0, missing)).flatten(1, 2).to(vision.dtype) for each in (keys, values)
        )
        offsets = F.pad(offsets, (0, missing), value=float("-inf")).flatten(1)[:, None].to(vision.dtype)
        taken = torch.empty_like(vision)
        for rows in _chunks(vision.shape[1], vision.device):
            part = vision[:, rows]
            scores = torch.baddbmm(offsets, part, keys.transpose(1, 2)).unflatten(-1, (heads, -1))
            taken[:, rows] = torch.baddbmm(part, scores.softmax(-1).flatten(2), values)
        return taken

    def _to_text(self, vision: Tensor, keys: Tensor, padding: Tensor | None) -> Tensor:
        """What the text takes from the image, (B, T, d); the offsets cancel in a softmax over the image."""
        attention, heads = self.attn, self.attn.num_heads
        mask = None if padding is None or not bool(padding.any()) else ~padding[:, None, None]
        image = vision[:, None]
        asked = keys.flatten(1, 2)[:, None].to(vision.dtype)
        seen = F.scaled_dot_product_attention(asked, image, image, attn_mask=mask, scale=1.0)
        seen = seen[:, 0].unflatten(1, (heads, -1)).float()
        weight = attention.values_vision_proj.weight.unflatten(0, (heads, -1))
        bias = attention.values_vision_proj.bias.unflatten(0, (heads, 1, -1))
        values = seen @ weight.transpose(1, 2) + bias
        taken: Tensor = attention.out_text_proj(values.transpose(1, 2).flatten(2))
        return taken

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (self.attn.num_heads, -1)).transpose(1, 2)


class ChunkedDeformableLayer(MMGroundingDinoDeformableLayer):
    """A drop-in for the library's layer, with its parameters."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, **arguments: Any) -> tuple[Tensor, None]:
        """The image tokens (B, N, d) after one deformable self-attention and one feed-forward network."""
        taken, _ = self.self_attn(
            hidden_states=hidden_states,
            attention_mask=attention_mask,
            encoder_hidden_states=hidden_states,
            **arguments,
        )
        hidden = self.self_attn_layer_norm(taken.add_(hidden_states))
        result = torch.empty_like(hidden)
        for rows in _chunks(hidden.shape[1], hidden.device):
            part = hidden[:, rows]
            result[:, rows] = self.final_layer_norm(self.fc2(_relu(self.fc1(part))).add_(part))
        return result, None


class FusedAttention(MMGroundingDinoMultiheadAttention):
    """A drop-in for the library's module, with its parameters; it returns no attention weights."""

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, None]:
        """(B, Q, d) from queries (B, Q, d) and keys and values (B, K, d); the mask is added to the scores."""
        shape = (self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            project(each).unflatten(-1, shape).transpose(1, 2)
            for project, each in ((self.query, queries), (self.key, keys), (self.value, values))
        )
        if attention_mask is not None:
            attention_mask = attention_mask.to(query.dtype)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        return self.out_proj(seen.transpose(1, 2).flatten(2)), None


class ExactBackbone(EfficientNetLiteBackbone):
    """A drop-in for nano's backbone, in float32 whatever surrounds it."""

    def forward(self, pixel_values: Tensor, return_dict: bool = True) -> BackboneOutput:
        """As the parent's."""
        with torch.autocast(pixel_values.device.type, enabled=False):
            return super().forward(pixel_values.float(), return_dict)


class ExactHead(MMGroundingDinoMLPPredictionHead):
    """A drop-in for the library's head, in float32 whatever surrounds it: it decides positions."""

    def forward(self, x: Tensor) -> Tensor:
        """As the library's."""
        with torch.autocast(x.device.type, enabled=False):
            result: Tensor = super().forward(x.float())
        return result


class ExactTextLayer(MMGroundingDinoTextEnhancerLayer):
    """A drop-in for the library's layer, in float32: a few tokens cost nothing."""

    def forward(self, hidden_states: Tensor, **arguments: Any) -> tuple[Tensor, None]:
        """As the library's."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            hidden, _ = super().forward(hidden_states.float(), **arguments)
        return hidden, None


DROP_INS: dict[type[nn.Module], type[nn.Module]] = {
    EfficientNetLiteBackbone: ExactBackbone,
    MMGroundingDinoFusionLayer: FoldedFusion,
    MMGroundingDinoDeformableLayer: ChunkedDeformableLayer,
    MMGroundingDinoMultiheadAttention: FusedAttention,
    MMGroundingDinoMLPPredictionHead: ExactHead,
    MMGroundingDinoTextEnhancerLayer: ExactTextLayer,
}
EXACT = (ExactBackbone, FoldedFusion, ExactHead, ExactTextLayer)


def prepare_for_inference(model: MedGLIPForGrounding, dtype: torch.dtype) -> None:
    """Turn a plain ``model``, in place, into a :class:`PreparedGrounding`; outputs differ by rounding only.

    One prepared already, or of another class with a forward of its own, stays as it is.

    Args:
        model: In float32, on the device it is to run on.
        dtype: What matrices are multiplied in, float32 or bfloat16.
    """
    if type(model) is not MedGLIPForGrounding:
        return
    use_point_sampling(model)
    model.eval().requires_grad_(False)
    for module in model.modules():
        for plain, drop_in in DROP_INS.items():
            if isinstance(module, plain):  # the library's, or training's drop-in for it
                module.__class__ = drop_in
        if isinstance(module, FoldedFusion):
            module.compute_dtype = dtype
    exact = {id(part) for module in model.modules() if isinstance(module, EXACT) for part in module.modules()}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in exact:
            module.to(dtype)
    model.__class__ = PreparedGrounding
    model.compute_dtype = dtype  # type: ignore[assignment]


def _chunks(count: int, device: torch.device) -> list[slice]:
    """``count`` rows in pieces whose wide activations stay in a CPU's cache; elsewhere all at once."""
    step = CHUNK if device.type == "cpu" else count
    return [slice(start, start + step) for start in range(0, count, step)]


def _relu(wide: Tensor) -> Tensor:
    """ReLU in place. A bfloat16 is negative where its bits are, and CPUs compare integers twice as fast."""
    if wide.dtype == torch.bfloat16 and wide.device.type == "cpu":
        wide.view(torch.int16).clamp_(min=0)
        return wide
    return F.relu_(wide)


def _scores(embed: Any, queries: Tensor, words: Tensor, mask: Tensor) -> Tensor:
    """Logits (B, N, T) of queries (B, N, d) for tokens (B, T, d), -inf on padding."""
    scaled = words.transpose(1, 2) / math.sqrt(queries.shape[-1])
    scores = queries @ scaled.to(queries.dtype) + embed.bias
    return scores if bool(mask.all()) else scores.masked_fill(~mask[:, None], float("-inf"))


def _anchors(image: ImageFeatures) -> Tensor:
    """The box (as logits of cxcywh, float32) that each position stands for, (B, N, 4); inf near the edges.

    As the library has it: centred on the position, a side of 0.05 that doubles from level to level.
    """
    anchors = []
    for level, (mask, (height, width)) in enumerate(
        zip(image.mask.split([h * w for h, w in image.shapes], 1), image.shapes, strict=True)
    ):
        valid = mask.view(-1, height, width)
        rows, columns = valid[:, :, 0].sum(1), valid[:, 0].sum(1)
        y = (torch.arange(height, device=mask.device) + 0.5) / rows[:, None]
        x = (torch.arange(width, device=mask.device) + 0.5) / columns[:, None]
        centre = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
        side = torch.full_like(centre, 0.05 * 2.0**level)
        anchors.append(torch.cat([centre, side], -1).flatten(1, 2))
    boxes = torch.cat(anchors, 1)
    inside = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    return torch.logit(boxes).masked_fill(~inside, float("inf"))
