"""A tiny random nano model in the layout of the real base weights, and a VQA set in the official layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grounding.types import Regions

SENTENCES = [
    "Is there a mass in the right lung? yes no left kidney liver brain tumour",
    "No region found: spleen [R1] [R2] high medium low user assistant system",
    "What plane is this? axial CT MRI where is the lesion located?",
]
ANSWERS = {
    "Is it left?": "Yes",
    "Is it right?": "No",
    "Which organ?": "Liver",
    "Which plane is it?": "axial CT",
}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders (language model, vision tower) with random weights."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from grounding.backbone import EfficientNetLite

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=controls, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=controls[1],
        eos_token=controls[2],
        pad_token=controls[2],
        unk_token=controls[0],
    )
    fast.save_pretrained(root / "lm")
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(root / "lm")
    network, published = EfficientNetLite(), {}
    for module, convolution, norm in network._published_names():
        published[f"{convolution}.weight"] = module.weight.detach().clone()
        for ours, theirs in (
            ("weight", "weight"),
            ("bias", "bias"),
            ("mean", "running_mean"),
            ("var", "running_var"),
        ):
            published[f"{norm}.{theirs}"] = getattr(module, f"norm_{ours}").clone()
    (root / "vision").mkdir()
    save_file(published, root / "vision" / "model.safetensors")
    return root / "lm", root / "vision"


@pytest.fixture
def vqa_root(tmp_path: Path) -> Path:
    """A data folder with a VQA-RAD of 4 images and 16 questions, all in train and in the disjoint parts."""
    root = tmp_path / "data" / "vqa" / "vqa_rad"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = []
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (40, 60), dtype=np.uint8)).save(
            root / "images" / f"{number}.png"
        )
        for question, answer in ANSWERS.items():
            records.append(
                {
                    "qid": len(records),
                    "image_name": f"{number}.png",
                    "image_organ": "ABD",
                    "answer": answer,
                    "answer_type": "CLOSED" if question.startswith("Is") else "OPEN",
                    "question_type": "PRES",
                    "question": question,
                }
            )
    (root / "trainset.json").write_text(json.dumps(records))
    (root / "testset.json").write_text("[]")
    parts = {"train": list(range(12)), "val": list(range(12, 16)), "test": []}
    (root / "image_disjoint_split.json").write_text(json.dumps({"qids": parts}))
    return tmp_path / "data"


@pytest.fixture
def two_regions() -> Regions:
    """A right lung (score .9) and a left lung (.5), no spleen, in an image of height 40 and width 60."""
    boxes = np.array([[6, 4, 24, 36], [36, 4, 54, 36]], dtype=np.float32)
    return Regions(
        boxes, np.array([0.9, 0.5]), np.array([0, 1]), ("right lung", "left lung", "spleen"), (40, 60)
    )
