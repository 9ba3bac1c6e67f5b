"""The exported graph: nothing in it depends on the data it was traced with; the file, where it can be run."""

import warnings

import pytest
import torch

from grounding import onnx_export
from grounding.onnx_export import OUTPUTS, ExportedGraph, example_inputs, export, graph_inputs
from grounding.prompts import build_prompt, collate_prompts

TOKENS = 16


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer tells of every shape that it takes for constant
        yield


def asked(tokenizer, phrases, seed):
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(seed))
    return pixels, build_prompt(tokenizer, phrases)


@torch.inference_mode()
def expected(model, pixels, prompt, modality):
    ids, mask, _ = collate_prompts([prompt])
    return model(pixels, ids, mask, modality_ids=torch.tensor([modality]))


def assert_parity(logits, boxes, output):
    count = output.logits.shape[-1]
    torch.testing.assert_close(logits[..., :count], output.logits, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(boxes, output.pred_boxes, atol=1e-4, rtol=1e-3)
    assert torch.isneginf(logits[..., count:]).all()


@pytest.mark.parametrize(("phrases", "modality"), [(["heart"], 0), (["white blood cell", "left lung"], 2)])
def test_the_traced_graph_equals_the_network_on_other_data(tiny_model, tokenizer, phrases, modality):
    with torch.inference_mode():
        graph = torch.jit.trace(ExportedGraph(tiny_model), example_inputs(tiny_model, TOKENS))
        pixels, prompt = asked(tokenizer, phrases, seed=modality)
        logits, boxes = graph(*graph_inputs(pixels, prompt, modality, TOKENS).values())
    assert_parity(logits, boxes, expected(tiny_model, pixels, prompt, modality))


def test_the_model_exported_keeps_its_own_attention(tiny_model):
    before = [type(module) for module in tiny_model.modules()]
    ExportedGraph(tiny_model)
    assert [type(module) for module in tiny_model.modules()] == before


def test_a_prompt_longer_than_the_graph_is_refused(tokenizer):
    pixels, prompt = asked(tokenizer, ["left lung"] * 6, seed=0)
    with pytest.raises(ValueError, match="at most 16 tokens, got 20"):
        graph_inputs(pixels, prompt, 0, TOKENS)


def test_without_the_extra_it_says_what_to_install(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'med-glip-agent\[onnx\]'"):
        export(tiny_model, tmp_path / "tiny.onnx")


def test_the_file_runs_to_the_same_numbers(tiny_model, tokenizer, tmp_path):
    pytest.importorskip("onnx", reason="writing an ONNX file needs the extra onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running an ONNX file needs the extra onnx")
    export(tiny_model, tmp_path / "tiny.onnx", tokens=TOKENS)
    session = runtime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    pixels, prompt = asked(tokenizer, ["white blood cell", "left lung"], seed=1)
    inputs = graph_inputs(pixels, prompt, 2, TOKENS)
    found = session.run(list(OUTPUTS), {name: tensor.numpy() for name, tensor in inputs.items()})
    assert_parity(*map(torch.from_numpy, found), expected(tiny_model, pixels, prompt, 2))
