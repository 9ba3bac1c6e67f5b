"""The nano model's vision tower: base weights, or the backbone of a grounder, which must stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from grounding.backbone import IN_CHECKPOINT, EfficientNetLite
from llm.nano.checkpoint import build_nano
from llm.nano.configuration import NanoVLMConfig


def write_grounder(folder: Path, seed: int, head: float = 0.0) -> EfficientNetLite:
    """A folder that holds a grounder's backbone as our checkpoints do, in float16, and a head."""
    torch.manual_seed(seed)
    network = EfficientNetLite()
    folder.mkdir(exist_ok=True)
    state = {IN_CHECKPOINT + name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file({**state, "model.head.weight": torch.full((2,), head)}, folder / "model.safetensors")
    return network


def test_the_tower_is_the_grounders_backbone_and_remembers_its_weights(
    tiny_base: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "grounder"
    network = write_grounder(folder, 1)
    fields = {"base_language_model": str(tiny_base[0]), "base_vision_tower": f"grounder:{folder}"}
    model, _ = build_nano(NanoVLMConfig(image_size=128, **fields))
    tower = model.vision_tower.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tower[name], tensor.half().to(tower[name].dtype)), name
    assert not any(parameter.requires_grad for parameter in model.vision_tower.parameters())

    model.config.save_pretrained(tmp_path / "saved")
    saved = NanoVLMConfig.from_pretrained(tmp_path / "saved")
    assert saved.vision_tower_sha256 == model.config.vision_tower_sha256 is not None
    write_grounder(folder, 1, head=1.0)  # trained on, but for the backbone
    build_nano(saved)
    write_grounder(folder, 2)
    with pytest.raises(ValueError, match=r"was trained on a backbone of grounder .*train it again"):
        build_nano(saved)


def test_base_weights_as_a_tower_have_no_hash(tiny_base: tuple[Path, Path]) -> None:
    model, _ = build_nano(
        image_size=128, base_language_model=str(tiny_base[0]), base_vision_tower=str(tiny_base[1])
    )
    assert model.config.vision_tower_sha256 is None


def test_what_is_no_grounder_or_has_another_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        EfficientNetLite.from_checkpoint(tmp_path)
    save_file({IN_CHECKPOINT + "stem.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="another backbone"):
        EfficientNetLite.from_checkpoint(tmp_path)
