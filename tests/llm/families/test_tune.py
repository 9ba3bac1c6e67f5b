"""The trainer for every family: a stream of examples, a log, and a run that continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from grounding.types import Regions
from llm.config import ModelConfig, TuneConfig
from llm.data.instructions import Instruction, write_instructions
from llm.data.mixture import Source, read_sources
from llm.data.vqa_rad import read_vqa_rad
from llm.generate import VisionLanguageModel
from llm.tune import main, mixed_examples, tune

RECIPE = TuneConfig(steps=4, batch=2, accumulate=1, rank=2, alpha=4, dropout=0.1, warmup=1, save_steps=2)


def test_a_continued_run_equals_an_uninterrupted_one(
    tiny_family: Callable[[str], Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    questions = read_vqa_rad(vqa_root / "vqa" / "vqa_rad", "disjoint-train")
    sources, _ = read_sources(vqa_root, "disjoint-train", regions={q.qid: two_regions for q in questions})
    stream = mixed_examples(sources, seed=0)
    first = [stream(k) for k in range(len(questions))]
    assert sorted(e.prompt.text for e in first) == sorted(q.question for q in questions)
    assert [e.prompt.text for e in first] != [stream(len(questions) + k).prompt.text for k in range(12)]
    config = ModelConfig(model=str(tiny_family("smolvlm")), dtype="float32", device="cpu", style="loc")

    def run(name: str, stop_after: int | None = None, recipe: TuneConfig = RECIPE) -> dict[str, torch.Tensor]:
        model = VisionLanguageModel.from_config(config)
        tune(model, stream, recipe, tmp_path / name, style="loc", stop_after=stop_after)
        return load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")

    whole = run("whole")
    run("parts", stop_after=2)
    parts = run("parts")
    assert whole.keys() == parts.keys()
    assert any("trainable_tokens" in name for name in whole), "new spatial tokens learn too"
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-6)
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 4]
    assert (tmp_path / "parts" / "loss.png").is_file()
    with pytest.raises(ValueError, match="another rank"):
        run("parts", recipe=replace(RECIPE, rank=3))


def test_further_sources_are_mixed_in_anew_in_every_epoch(
    vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    image = read_vqa_rad(vqa_root / "vqa" / "vqa_rad", "disjoint-train")[0].image_path
    items = [
        Instruction(f"b/{n}", image, f"How many, {n}?", "2", "count", "b", f"g{n}", regions=two_regions)
        for n in range(30)
    ]
    write_instructions(tmp_path / "boxes.jsonl", items)
    sources, _ = read_sources(vqa_root, "disjoint-train", instructions={"boxes": 3}, folder=tmp_path)
    stream = mixed_examples(sources, seed=0)
    epochs = [[stream(15 * epoch + k) for k in range(15)] for epoch in range(3)]  # 12 of VQA-RAD, 3 more
    asked = [{e.prompt.text for e in epoch if e.prompt.text.startswith("How many, ")} for epoch in epochs]
    assert [len(texts) for texts in asked] == [3, 3, 3]
    assert asked[0] != asked[1]
    shown = [e.prompt.regions for e in epochs[0] if e.prompt.text in asked[0]]
    assert all(r is None or len(r) == len(two_regions) for r in shown)
    with pytest.raises(ValueError, match="text alone"):
        mixed_examples([Source("words", (replace(items[0], image_path=None, regions=None),))], seed=0)


@pytest.mark.slow
def test_the_command_trains_what_a_file_names(
    tiny_family: Callable[[str], Path], vqa_root: Path, tmp_path: Path
) -> None:
    base = tiny_family("qwen2_5_vl")
    (tmp_path / "m.yaml").write_text(f"model: {base}\nquantization: 4bit\ndevice: cpu\n")
    (tmp_path / "t.yaml").write_text("steps: 2\nbatch: 1\naccumulate: 2\nrank: 2\nprojector: true\n")
    arguments = ["--model", tmp_path / "m.yaml", "--config", tmp_path / "t.yaml", "--data-dir", vqa_root]
    main([str(a) for a in [*arguments, "--out", tmp_path / "run"]])
    adapter = str(tmp_path / "run" / "adapter")
    trained = VisionLanguageModel.from_config(ModelConfig(model=str(base), adapter=adapter, device="cpu"))
    assert trained.name == str(base)
