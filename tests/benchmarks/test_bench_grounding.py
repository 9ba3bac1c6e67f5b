"""The speed benchmark on a tiny random network: asked, counted, compared, told. No time is judged."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertTokenizerFast

from benchmarks.bench_grounding import (
    WORKLOADS,
    count_flops,
    make_images,
    make_workload,
    measure,
    stock_of,
    table,
    take_turns,
)
from grounding.backbone import ConvNorm, EfficientNetLiteConfig
from grounding.checkpoint import Checkpoint
from grounding.model_config import MedGLIPConfig
from grounding.modeling import MedGLIPForGrounding
from grounding.predictor import Grounder
from grounding.preprocess import SquareInput


@pytest.fixture
def checkpoint():
    letters = "abcdefghijklmnopqrstuvwxyz-"
    vocabulary = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    words = {
        word: 2000 + k
        for k, word in enumerate([*letters, *(f"##{c}" for c in letters), "left", "right", "lung"])
    }
    torch.manual_seed(0)
    text = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    sizes = {
        f"{part}_{name}": 2 if name != "ffn_dim" else 512
        for part in ("encoder", "decoder")
        for name in ("layers", "ffn_dim", "attention_heads", "n_points")
    }
    config = MedGLIPConfig(
        backbone_config=EfficientNetLiteConfig(),
        text_config=text,
        d_model=32,
        num_queries=12,
        num_feature_levels=3,
        presence=False,
        **sizes,
    )
    model = MedGLIPForGrounding(config).eval()
    return Checkpoint(model, SquareInput(128), BertTokenizerFast(vocab=vocabulary | words), None)


def test_workloads_ask_what_they_say():
    asked = {name: make_workload(name) for name in WORKLOADS}
    assert [(w.images, len(w.asked), w.packed) for w in asked.values()] == [
        (1, 1, True),
        (1, 10, True),
        (1, 10, False),
        (8, 8, True),
        (1, 2, True),
    ]
    assert len({phrase for _, phrases in asked["phrases"].asked for phrase in phrases}) == 100
    assert {index for index, _ in asked["images"].asked} == set(range(8))


def test_turns_alternate_and_the_first_is_not_counted():
    order, ticks = [], iter(range(100))
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = take_turns(runs, 2, lambda: float(next(ticks)))
    assert "".join(order) == "ababab"
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_flops_of_a_product_are_counted():
    left, right = torch.zeros(2, 3), torch.zeros(3, 5)
    assert count_flops(lambda: left @ right) == 2 * 2 * 3 * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_flops_of_the_cpu_s_own_kernels_are_counted(dtype):
    pixels, query = torch.zeros(1, 3, 8, 8, dtype=dtype), torch.zeros(1, 2, 5, 4, dtype=dtype)
    assert count_flops(lambda: ConvNorm(3, 16, 3)(pixels)) == 2 * 64 * (3 * 16 * 9)
    assert count_flops(lambda: scaled_dot_product_attention(query, query, query)) == 2 * 2 * 2 * (5 * 5 * 4)


def test_stock_has_the_weights_and_pictures_are_square(checkpoint):
    stock = stock_of(checkpoint.model)
    assert torch.equal(stock.class_embed[0].bias, checkpoint.model.class_embed[0].bias)
    assert [image.size for image in make_images(2, 33)] == [(33, 33)] * 2


def test_a_case_is_measured_and_told(checkpoint, capsys, monkeypatch):
    torch.nn.init.normal_(checkpoint.model.modality_embedding.weight)  # what stock has not is no drift
    encoded = []
    monkeypatch.setattr(
        Grounder, "_encode_text", lambda *a, plain=Grounder._encode_text: encoded.append(0) or plain(*a)
    )
    result = measure(checkpoint, ["one"], device=torch.device("cpu"), repeats=1)
    assert len(encoded) == 3  # the warm-up, the turn and the count each read the prompt
    (row,) = result["workloads"]
    assert row["ratio_fp32"] == row["seconds"]["stock_fp32"] / row["seconds"]["ours"]
    assert 0 < result["gflop"]["ours"] < result["gflop"]["stock"]  # folding does the same with less
    assert result["drift"]["box_max"] < 2.0
    assert result["drift"]["score_max"] < 0.02
    assert "| one |" in table("toy", result)
    assert "turn 1/1  ours" in capsys.readouterr().out
