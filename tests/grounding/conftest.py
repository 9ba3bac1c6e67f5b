"""A BERT tokenizer with a made vocabulary, and a tiny random network: no base weights, no downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

WORDS = "left right lung heart liver spleen kidney polyp brain tumour cell nucleus red white blood".split()
MODEL_SIZE = 128  # pixels; the smallest at which the library's network trains


@pytest.fixture(scope="session")
def tokenizer():
    """BERT's special ids at their places, the words above whole, everything else letter by letter."""
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    pieces = [*WORDS, *letters, *(f"##{letter}" for letter in letters), "-", ","]
    vocabulary |= {piece: 2000 + index for index, piece in enumerate(pieces)}
    return BertTokenizerFast(vocab=vocabulary)


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """Move every parameter off its initial value, so that heads initialised to zero take part."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="session")
def randomise() -> Callable[[torch.nn.Module, int], None]:
    return _randomise


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Any]:
    """A function making a small configuration; keyword arguments replace fields."""

    def make(**changes: Any) -> Any:
        from transformers import BertConfig

        from grounding.backbone import EfficientNetLiteConfig
        from grounding.modeling import MedGLIPConfig

        fields: dict[str, Any] = {
            "backbone_config": EfficientNetLiteConfig(),
            "text_config": BertConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
            ),
            "image_size": MODEL_SIZE,
            "d_model": 32,  # the library's GroupNorm has 32 groups
            "num_queries": 12,
            "num_feature_levels": 3,
            "dropout": 0.0,
            "fusion_droppath": 0.0,
        }
        for part in ("encoder", "decoder"):
            fields |= {f"{part}_layers": 2, f"{part}_ffn_dim": 32, f"{part}_attention_heads": 2}
            fields |= {f"{part}_n_points": 2}
        return MedGLIPConfig(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_tiny_model(tiny_config) -> Callable[..., Any]:
    """A function making a random network in evaluation mode; keyword arguments change the configuration."""

    def make(seed: int = 0, **changes: Any) -> Any:
        from grounding.modeling import MedGLIPForGrounding

        torch.manual_seed(seed)
        model = MedGLIPForGrounding(tiny_config(**changes)).eval()
        for name, parameter in model.named_parameters():
            if name.startswith(("class_embed", "bbox_embed", "model.encoder_output", "model.decoder")):
                with torch.no_grad():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture(scope="session")
def tiny_model(make_tiny_model) -> Any:
    """One shared random network; tests must not change it."""
    return make_tiny_model()
