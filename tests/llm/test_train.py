"""Training a tiny model: the loss falls, reloading gives the same model, a resumed run equals a whole one."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from grounding.types import Regions
from llm.config import TrainConfig
from llm.data.instructions import Instruction, write_instructions
from llm.data.vqa import canonical_answers
from llm.data.vqa_rad import read_vqa_rad
from llm.nano.checkpoint import load_nano
from llm.train import Trainer, recipe_sources


def trainer(
    tiny_base: tuple[Path, Path], root: Path, regions: Regions, out: Path, **changes: object
) -> Trainer:
    recipe = {
        "val_split": "disjoint-val",
        "epochs": 10,
        "image_size": 128,
        "questions_per_batch": 6,
        "questions_per_row": 3,
        "lora_rank": 4,
        "learning_rate": 2e-2,
        "warmup_steps": 2,
        "image_views": 1,
        "projector_hidden_size": 16,
        "base_language_model": str(tiny_base[0]),
        "base_vision_tower": str(tiny_base[1]),
        "eval_epochs": 5,
        "threads": 1,
    } | changes
    config = TrainConfig(**recipe)  # type: ignore[arg-type]
    folder = root / "vqa" / "vqa_rad"
    examples = [e for split in ("disjoint-train", "disjoint-val") for e in read_vqa_rad(folder, split)]
    by_qid = {e.qid: regions for e in examples}
    return Trainer(config, *recipe_sources(config, root, by_qid, root / "instructions"), out)


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_loss_falls_and_the_saved_model_is_the_trained_one(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    run = trainer(tiny_base, vqa_root, two_regions, tmp_path / "run", epochs=15)
    assert run.total == 30
    run.run()
    log = log_of(run.out)
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    kinds = ("", "_open", "_closed")
    assert {"val_loss_vqa_rad", *(f"val_exact_vqa_rad{kind}" for kind in kinds)} <= set(log[-1])
    assert (run.out / "loss.png").stat().st_size > 1000

    checkpoint = run.out / "checkpoint"
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    assert sorted(sizes) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.json",
        "projector.safetensors",
        "recipe.json",
    ]
    assert not any(
        "embed_tokens.weight" in key for key in load_file(checkpoint / "adapter_model.safetensors")
    )

    assert run.val_batches is not None
    packed, features = run.val_batches.build(run.val_batches.in_order()[0], vary=False)
    inputs = {
        "input_ids": packed.input_ids,
        "position_ids": packed.position_ids,
        "attention_mask": packed.attention_mask(torch.bfloat16),
        "vision_features": features,
    }
    with torch.inference_mode():
        trained = run._answer_logits(packed, features)
        kept, _ = load_nano(checkpoint, merge=False)
        merged, _ = load_nano(checkpoint)
        for model in (kept, merged):  # other attention kernels and, merged, weights rounded to bfloat16
            loaded = model(**inputs).logits.flatten(0, 1)[packed.source].float()
            torch.testing.assert_close(loaded, trained, atol=0.3, rtol=0.05)
    learned = {name: p for name, p in run.adapted.named_parameters() if p.requires_grad}
    loaded_parameters = dict(kept.named_parameters())
    assert len(learned) > 20
    assert all(torch.equal(p, loaded_parameters[name]) for name, p in learned.items())


def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    whole = trainer(tiny_base, vqa_root, two_regions, tmp_path / "whole", epochs=3, val_split="disjoint-val")
    whole.run()
    first = trainer(tiny_base, vqa_root, two_regions, tmp_path / "parts", epochs=3)
    first.run(stop_after=4)
    with (first.out / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n')  # logged after the state, then killed
    second = trainer(tiny_base, vqa_root, two_regions, tmp_path / "parts", epochs=3)
    assert second.step == 4
    assert not log_of(second.out)
    second.run()
    one, two = (load_file(run.out / "state.safetensors") for run in (whole, second))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_another_recipe_does_not_continue_a_run(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    trainer(tiny_base, vqa_root, two_regions, tmp_path / "run").run(stop_after=1)
    with pytest.raises(ValueError, match="another seed"):
        trainer(tiny_base, vqa_root, two_regions, tmp_path / "run", seed=1)


def test_every_question_is_seen_once_an_epoch(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    batches = trainer(tiny_base, vqa_root, two_regions, tmp_path / "run").train_batches
    for epoch in range(2):
        rows = [row for batch in batches.epoch(epoch) for row in batch]
        assert sorted(q for row in rows for q in row.questions) == list(range(12))
        assert all(len({batches.items[q].image_path for q in row.questions}) == 1 for row in rows)
    assert batches.epoch(0) == batches.epoch(0) != batches.epoch(1)


def test_missing_regions_are_named(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    train = read_vqa_rad(vqa_root / "vqa" / "vqa_rad", "disjoint-train")
    with pytest.raises(ValueError, match="have no regions"):
        recipe_sources(TrainConfig(), vqa_root, {train[0].qid: two_regions}, None)


def test_further_sources_are_mixed_in_and_watched(
    tiny_base: tuple[Path, Path], vqa_root: Path, two_regions: Regions, tmp_path: Path
) -> None:
    image = read_vqa_rad(vqa_root / "vqa" / "vqa_rad", "disjoint-train")[0].image_path
    for name, path in (("boxes", image), ("words", None)):
        items = [
            Instruction(f"{name}/{n}", path, f"How many, {n}?", "2", "count", name, f"{name}/{n}")
            for n in range(40)
        ]
        write_instructions(vqa_root / "instructions" / f"{name}.jsonl", items)
    run = trainer(
        tiny_base,
        vqa_root,
        two_regions,
        tmp_path / "run",
        epochs=1,
        instructions={"boxes": 3, "words": 8},
        watched=0.2,
    )
    batches = run.train_batches
    drawn = Counter(
        batches.source_of[q] for batch in batches.epoch(0) for row in batch for q in row.questions
    )
    assert drawn == {"vqa_rad": 12, "boxes": 3, "words": 8}
    assert batches.epoch(0) != batches.epoch(1)
    exact = [
        row
        for epoch in range(8)
        for batch in batches.epoch(epoch)
        for row in batch
        if batches.source_of[row.questions[0]] == "boxes"
    ]
    plain, moved = batches.bank.features[image.resolve()]
    assert not torch.equal(plain, moved)
    for row in exact:  # what is asked of places is never shown moved
        _, features = batches.build([row])
        assert features is not None and torch.equal(features[0], plain)
    run.run()
    assert {"val_exact_vqa_rad", "val_exact_boxes", "val_exact_words"} <= set(log_of(run.out)[-1])


def test_further_sources_need_their_folder(vqa_root: Path) -> None:
    with pytest.raises(ValueError, match="--instructions"):
        recipe_sources(TrainConfig(instructions={"boxes": 3}), vqa_root, None, None)


def test_answers_get_one_casing() -> None:
    answers = ["Yes", "yes", "Right lung", "CT", "ct", "CT", "A mass.", "T2 weighted", "PA"]
    assert canonical_answers(answers) == [
        "yes",
        "yes",
        "right lung",
        "CT",
        "CT",
        "CT",
        "a mass",
        "T2 weighted",
        "PA",
    ]
