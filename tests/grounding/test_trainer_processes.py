"""Two processes give the loss and the gradients of one; sharding is described by a file that parses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import numpy as np
import torch
from transformers import BertConfig
from grounding.backbone import EfficientNetLiteConfig
from grounding.criterion import CriterionConfig
from grounding.data.mixture import Example, collate
from grounding.denoising import DenoisingConfig, noised_boxes
from grounding.modeling import MedGLIPConfig, MedGLIPForGrounding
from grounding.prompts import Prompt
from grounding.train import step_positions
from grounding.train_config import TrainConfig
from grounding.trainer import Trainer

torch.manual_seed(0)
torch.set_num_threads(1)
small = dict(d_model=32, num_queries=12, num_feature_levels=3, dropout=0.0, fusion_droppath=0.0)
for part in ("encoder", "decoder"):
    small |= {f"{part}_layers": 2, f"{part}_ffn_dim": 32, f"{part}_attention_heads": 2, f"{part}_n_points": 2}
text = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
model = MedGLIPForGrounding(
    MedGLIPConfig(backbone_config=EfficientNetLiteConfig(), text_config=text, image_size=128, **small)
)
noise = DenoisingConfig(queries=8)
config = TrainConfig(
    sets={}, batch_size=4, steps=1, bf16=False, frozen_stages=6, denoising=noise, many_queries=5,
    criterion=CriterionConfig(presence_weight=1.0, modality_weight=1.0),
)


def example(number):
    # 3, 0, 1 and 2 boxes: the processes have different numbers of them, and different prompts
    rng = np.random.default_rng(number)
    count, phrases = (number + 3) % 4, 1 + number % 2
    ids, spans = [101], []
    for phrase in range(phrases):
        spans.append((len(ids), len(ids) + 1))
        ids += [2000 + phrase + number, 1012]
    boxes = rng.uniform(0.2, 0.6, (count, 4)).astype(np.float32)
    index = rng.integers(0, phrases, count)
    return Example(
        torch.from_numpy(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)),
        Prompt((*ids, 102), tuple(spans)),
        torch.from_numpy(boxes),
        torch.from_numpy(index),
        torch.zeros(phrases, dtype=torch.bool),
        number,
        number + 1,
        noised_boxes(boxes, index, phrases, noise, rng),
    )


trainer = Trainer(config, model)
accelerator = trainer.accelerator
parts = step_positions(config, 0, accelerator.process_index, accelerator.num_processes)
losses = trainer.backward([collate([example(i) for i in part]) for part in parts])
gradients = {name: p.grad for name, p in trainer.trainable.items() if p.grad is not None}
if accelerator.is_main_process:
    result = {"losses": losses, "gradients": gradients, "processes": accelerator.num_processes}
    torch.save(result, sys.argv[1])
accelerator.end_training()
"""


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path):
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    results = []
    for count in (1, 2):
        out = tmp_path / f"{count}.pt"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        run = subprocess.run(
            [sys.executable, *launcher, str(script), str(out)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        results.append(torch.load(out, weights_only=True))
    one, two = results
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4, rel=1e-4)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-4, atol=1e-4)


def test_the_sharding_file_parses():
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "grounding" / "configs" / "fsdp.yaml"))
    assert config.distributed_type == "FSDP"
    wrapped = config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    from transformers.models.mm_grounding_dino import modeling_mm_grounding_dino as library

    assert all(hasattr(library, name) for name in wrapped)
