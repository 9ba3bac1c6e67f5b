"""Tiny random checkpoints of every family in the hub's layout: config, weights, tokenizer, processor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = "Is there a mass in the right lung? yes no left kidney user assistant model [R1] high low [12, 40]"
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT |= {"initializer_range": 0.2}  # large enough for a few steps of LoRA to move the logits
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>"}

QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS_CHAT = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}"
    "{% if m.content[0].type == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA_CHAT = (
    "{% for m in messages %}{{ m.role.upper() + ': ' }}"
    "{% for p in m.content %}{% if p.type == 'image' %}{{ '<image>\n' }}{% else %}{{ p.text + ' ' }}"
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% for p in m.content %}{% if p.type == 'image' %}<start_of_image>{% else %}{{ p.text | trim }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def tokenizer(specials: list[str], **roles: Any) -> Any:
    """A byte-level tokenizer with the family's own special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=specials, initial_alphabet=alphabet)
    core.train_from_iterator([WORDS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, **roles)


def write(folder: Path, model: Any, tokens: Any, image: dict[str, Any], processor: dict[str, Any]) -> None:
    """Save the parts as the hub has them; processors as files: some cannot be made without torchvision."""
    model.generation_config.eos_token_id = tokens.eos_token_id
    model.generation_config.pad_token_id = tokens.pad_token_id
    model.save_pretrained(folder)
    template = processor.pop("chat_template", None)
    tokens.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    (folder / "processor_config.json").write_text(json.dumps(processor))


def qwen(folder: Path, version: str) -> None:
    """Qwen2.5-VL or Qwen3-VL."""
    import transformers as t

    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    tokens = tokenizer(
        [*controls, "<|image_pad|>", "<|video_pad|>"], eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    ids = {
        f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in {
            "image": "image_pad",
            "video": "video_pad",
            "vision_start": "vision_start",
            "vision_end": "vision_end",
        }.items()
    }
    text = TEXT | {"num_key_value_heads": 1, "vocab_size": len(tokens), "head_dim": 32}
    text |= {"hidden_size": 64, "intermediate_size": 64}  # 4 bit on CPU takes rows of 64, in 32s
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
    if version == "qwen3_vl":
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14}
        vision |= {"out_hidden_size": 64, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
        config = t.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
        model = t.Qwen3VLForConditionalGeneration(config)
    else:
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14}
        vision |= {"out_hidden_size": 64, "fullatt_block_indexes": [1], "window_size": 56}
        config = t.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        model = t.Qwen2_5_VLForConditionalGeneration(config)
    image = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 14, "merge_size": 2}
    image |= {"size": {"shortest_edge": 56 * 56, "longest_edge": 84 * 84}, "temporal_patch_size": 2}
    name = "Qwen3VLProcessor" if version == "qwen3_vl" else "Qwen2_5_VLProcessor"
    write(folder, model, tokens, image, {"processor_class": name, "chat_template": QWEN_CHAT})


def idefics(folder: Path, version: str) -> None:
    """SmolVLM or Idefics3."""
    import transformers as t

    controls = ["<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"]
    rows = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokens = tokenizer(
        [*controls, "<global-img>", *rows],
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|endoftext|>",
    )
    text = TEXT | {"model_type": "llama", "vocab_size": len(tokens), "pad_token_id": 0}
    vision = VISION | {"image_size": 32, "patch_size": 8}
    kind = "SmolVLM" if version == "smolvlm" else "Idefics3"
    config = getattr(t, f"{kind}Config")(
        text_config=text,
        vision_config=vision,
        scale_factor=2,
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    model = getattr(t, f"{kind}ForConditionalGeneration")(config)
    image = {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"longest_edge": 64},
        "do_image_splitting": True,
    }
    image |= {"max_image_size": {"longest_edge": 32}}
    processor = {"processor_class": f"{kind}Processor", "image_seq_len": 4, "chat_template": IDEFICS_CHAT}
    write(folder, model, tokens, image, processor)


def llava(folder: Path, version: str) -> None:
    """LLaVA with its template, or LLaVA-Med: a Mistral without one."""
    import transformers as t

    tokens = tokenizer(
        ["<pad>", "<s>", "</s>", "<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    kind = "llama" if version == "llava" else "mistral"
    config = t.LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14},
        text_config=TEXT | {"model_type": kind, "vocab_size": len(tokens), "num_key_value_heads": 2},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
    )
    image = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 28}}
    image |= {"crop_size": {"height": 28, "width": 28}}
    processor = {"processor_class": "LlavaProcessor", "patch_size": 14, "num_additional_image_tokens": 1}
    processor |= {"vision_feature_select_strategy": "default"}
    if version == "llava":
        processor["chat_template"] = LLAVA_CHAT
    write(folder, t.LlavaForConditionalGeneration(config), tokens, image, processor)


def paligemma(folder: Path, version: str) -> None:
    """PaliGemma: 1,024 location tokens and no chat template."""
    import transformers as t

    extra = [f"<loc{k:04d}>" for k in range(1024)] + [f"<seg{k:03d}>" for k in range(128)]
    tokens = tokenizer(
        ["<pad>", "<eos>", "<bos>", "<image>", *extra],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    )
    config = t.PaliGemmaConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
        text_config=TEXT
        | {"model_type": "gemma", "vocab_size": len(tokens), "num_key_value_heads": 1, "head_dim": 16},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vocab_size=len(tokens),
        projection_dim=32,
        hidden_size=32,
    )
    image = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 28, "width": 28}}
    image |= {"image_seq_length": 4}
    write(
        folder,
        t.PaliGemmaForConditionalGeneration(config),
        tokens,
        image,
        {"processor_class": "PaliGemmaProcessor"},
    )


def gemma3(folder: Path, version: str) -> None:
    """Gemma-3, which is also MedGemma."""
    import transformers as t

    media = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokens = tokenizer(
        ["<pad>", "<eos>", "<bos>", *media.values(), "<start_of_turn>", "<end_of_turn>"],
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        pad_token="<pad>",
        extra_special_tokens=media,
    )
    text = TEXT | {"vocab_size": len(tokens), "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 64}
    config = t.Gemma3Config(
        vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7},
        text_config=text | {"query_pre_attn_scalar": 16},
        mm_tokens_per_image=4,
        image_token_id=tokens.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokens.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokens.convert_tokens_to_ids("<end_of_image>"),
    )
    image = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}}
    processor = {"processor_class": "Gemma3Processor", "image_seq_length": 4, "chat_template": GEMMA_CHAT}
    write(folder, t.Gemma3ForConditionalGeneration(config), tokens, image, processor)


BUILDERS: dict[str, Callable[[Path, str], None]] = {
    "qwen2_5_vl": qwen,
    "qwen3_vl": qwen,
    "smolvlm": idefics,
    "idefics3": idefics,
    "llava": llava,
    "llava_med": llava,
    "paligemma": paligemma,
    "gemma3": gemma3,
}


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny random checkpoint, made once a session."""
    import torch

    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            made[name] = tmp_path_factory.mktemp(name)
            BUILDERS[name](made[name], name)
        return made[name]

    return make
