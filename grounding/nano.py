"""The nano size: how it is configured, and how an untrained one is made from published encoders."""

from __future__ import annotations

from .backbone import EfficientNetLite, EfficientNetLiteConfig
from .model_config import MedGLIPConfig
from .modeling import MedGLIPForGrounding, load_text_encoder


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
