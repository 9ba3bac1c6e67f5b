"""Assembling the nano model from base weights and a checkpoint folder, and writing that folder.

A checkpoint holds only what was trained: ``config.json``, ``projector.safetensors`` and a peft adapter with
the LoRA weights and the spatial tokens' embeddings. The language model comes from the base-weight cache; the
vision tower too, or it is the backbone of a grounder of ours, which then holds for its weights alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from grounding.backbone import EfficientNetLite
from grounding.packaged import checkpoint_folder
from grounding.weights_hash import tensors_sha256

from ..spatial import LocTokens
from . import register
from .configuration import NanoVLMConfig
from .modeling import NanoVLMForConditionalGeneration, spatial_embeddings
from .processing import NanoVLMImageProcessor, NanoVLMProcessor, prepare_tokenizer

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "nano"
PROJECTOR_FILE = "projector.safetensors"
GROUNDER = "grounder:"
"""Before the name or folder of a grounder whose backbone is the vision tower."""
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def is_nano_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a nano checkpoint (projector and adapter)."""
    return (folder / PROJECTOR_FILE).is_file()


def build_nano(
    config: NanoVLMConfig | None = None, *, dtype: torch.dtype = torch.bfloat16, **fields: object
) -> tuple[NanoVLMForConditionalGeneration, NanoVLMProcessor]:
    """Assemble the untrained nano model: base weights, a fresh projector, starting spatial embeddings.

    Args:
        config: Shape and base weights; None takes the defaults, changed by `fields`.
        dtype: Of all but the vision tower.
        fields: Fields of `NanoVLMConfig`, only without `config`.
    """
    register()
    config = config or NanoVLMConfig(**fields)  # type: ignore[arg-type]
    base = _base_folder(config.base_language_model)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config.image_token_id = prepare_tokenizer(tokenizer)
    language_model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    _add_tokens(language_model, config.image_token_id)
    config.text_config = language_model.config
    config.text_config._name_or_path = config.base_language_model  # a name, not this machine's cache folder
    config.tie_word_embeddings = language_model.config.tie_word_embeddings
    model = _with_language_model(config, language_model, dtype)
    model.vision_tower = _vision_tower(config).requires_grad_(False)
    model.generation_config = language_model.generation_config
    size = {"height": config.image_size, "width": config.image_size}
    processor = NanoVLMProcessor(
        NanoVLMImageProcessor(size=size), tokenizer, num_image_tokens=config.num_image_tokens
    )
    return model.eval(), processor


def load_nano(
    folder: Path = SHIPPED, *, dtype: torch.dtype = torch.bfloat16, merge: bool = True
) -> tuple[PreTrainedModel, NanoVLMProcessor]:
    """Load a checkpoint onto its base weights.

    Args:
        folder: Written by `save_nano`.
        dtype: Of all but the vision tower.
        merge: Fold the adapter into the weights (faster); otherwise the peft model is returned.

    Raises:
        FileNotFoundError: The folder holds no checkpoint.
        ValueError: The tensors do not fit.
    """
    if not is_nano_checkpoint(folder):
        raise FileNotFoundError(
            f"no trained nano model in {folder} (expected {PROJECTOR_FILE} and a peft adapter);"
            " train one with `python -m llm.train --config llm/configs/vqa_rad_disjoint.yaml"
            " --data-dir DIR --out FOLDER`, or name a folder that holds one"
        )
    model, processor = build_nano(NanoVLMConfig.from_pretrained(folder), dtype=dtype)
    _load_projector(model, folder / PROJECTOR_FILE)
    adapted = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    if not merge:
        return adapted.eval(), processor
    merged = adapted.merge_and_unload()
    merged.tie_weights()
    return merged.eval(), processor


def add_adapter(model: NanoVLMForConditionalGeneration, *, rank: int, alpha: int) -> PeftModel:
    """Wrap the model for training: LoRA on the language model's linear layers, trainable spatial tokens."""
    first = model.config.image_token_id + 1
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=LORA_TARGETS,
        trainable_token_indices={"embed_tokens": list(range(first, first + LocTokens().bins))},
    )
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def save_nano(adapted: PeftModel, folder: Path) -> None:
    """Write what was trained; no matrix of the base model; a model card there is left alone."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    model = adapted.get_base_model()
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    state = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.projector.state_dict().items()
    }
    save_file(state, folder / PROJECTOR_FILE)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    if text is None:
        card.unlink(missing_ok=True)  # peft's own empty form
    else:
        card.write_text(text, encoding="utf-8")


def _vision_tower(config: NanoVLMConfig) -> EfficientNetLite:
    """The frozen vision tower; that of a grounder is checked against the one that the model was trained on.

    Raises:
        ValueError: The grounder has another backbone now.
    """
    grounder = config.base_vision_tower.removeprefix(GROUNDER)
    if grounder == config.base_vision_tower:
        return EfficientNetLite.from_base_weights(_base_folder(grounder))
    folder = checkpoint_folder(grounder)
    tower = EfficientNetLite.from_checkpoint(folder)
    present = tensors_sha256(tower.state_dict())
    if config.vision_tower_sha256 not in (None, present):
        raise ValueError(
            f"the model was trained on a backbone of grounder {grounder!r} of sha256"
            f" {config.vision_tower_sha256}, but that in {folder} has {present}; train it again, or put that"
            " backbone back"
        )
    config.vision_tower_sha256 = present
    return tower


def _base_folder(name: str) -> Path:
    """The folder of base weights: a folder as it is, a name through the cache."""
    if Path(name).is_dir():
        return Path(name)
    from grounding.base_weights import fetch

    return fetch(name)


def _add_tokens(language_model: PreTrainedModel, image_token_id: int) -> None:
    """Extend the vocabulary by the image and spatial tokens, with repeatable starting embeddings."""
    bins = LocTokens().bins
    language_model.resize_token_embeddings(image_token_id + 1 + bins, mean_resizing=False)
    with torch.no_grad():
        table = language_model.get_input_embeddings().weight
        known = table[:image_token_id]
        table[image_token_id] = known.float().mean(0).to(table.dtype)
        table[image_token_id + 1 :] = spatial_embeddings(known, bins).to(table.dtype)


def _with_language_model(
    config: NanoVLMConfig, language_model: PreTrainedModel, dtype: torch.dtype
) -> NanoVLMForConditionalGeneration:
    """Build the model around a loaded language model without initialising a second one."""
    vocabulary, layers = config.text_config.vocab_size, config.text_config.num_hidden_layers
    config.text_config.num_hidden_layers = 0
    model = NanoVLMForConditionalGeneration(config)
    config.text_config.num_hidden_layers, config.text_config.vocab_size = layers, vocabulary
    model.language_model = language_model
    model.to(dtype)
    return model


def _load_projector(model: NanoVLMForConditionalGeneration, path: Path) -> None:
    """Load the projector, naming the keys where it does not fit."""
    try:
        model.projector.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit this model's projector; train again or fix config.json: {error}"
        ) from error
