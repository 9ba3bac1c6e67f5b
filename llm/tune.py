"""LoRA and QLoRA on a model of any family, from prompts with images and regions.

    python -m llm.tune --model qwen.yaml --config tune.yaml --data-dir DIR --split disjoint-train
    --regions regions.jsonl --out FOLDER

Writes ``adapter/`` (name it as `adapter` of a model's configuration), ``log.jsonl``, ``loss.png`` and the
resumable ``state.pt`` into FOLDER; the same command continues a killed run. Runs on one device or, by
``accelerate launch`` with a configuration of its own, on several. Knows examples by their position only, so
any source of them will do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, set_seed
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from grounding.types import MedicalImage

from .config import ModelConfig, TuneConfig, read_config
from .data.augment import View
from .data.mixture import Source, draw_epoch, noisy_regions, read_sources
from .data.regions import read_regions
from .generate import VisionLanguageModel
from .inputs import ChatExample
from .lora import add_lora, save_adapter
from .nano.modeling import NanoVLMForConditionalGeneration
from .optimizer import learning_rate_factor
from .train import plot_losses
from .types import SpatialPrompt

QUESTIONS_AN_IMAGE = 5
"""The most questions about one image in an epoch, of a source that is not shown whole."""
_LOG_STEPS = 10


def tune(
    model: VisionLanguageModel,
    example_at: Callable[[int], ChatExample],
    config: TuneConfig,
    out: Path,
    *,
    style: str | None = None,
    stop_after: int | None = None,
) -> PeftModel:
    """Train an adapter and write it to ``out/adapter``.

    Args:
        model: The base, quantised or not; its network is wrapped in place.
        example_at: The example at a position 0, 1, ...; a function of the position alone, so that a resumed
            run sees what an uninterrupted one would.
        config: The recipe.
        out: Folder of the run.
        style: Key of the style of the model's prompts, kept beside the adapter; None for the family's own.
        stop_after: Stop after so many steps in all; the schedule stays.

    Raises:
        ValueError: The model is nano, or the folder's state was written by another recipe.
    """
    if isinstance(model.model, NanoVLMForConditionalGeneration):
        raise ValueError("nano is trained by `python -m llm.train`, which also learns its projector")
    accelerator = Accelerator()
    set_seed(config.seed)
    adapted = add_lora(
        model.model,
        model.family,
        rank=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        projector=config.projector,
        tokens=model.new_tokens,
    )
    if config.checkpointing:
        adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        adapted.enable_input_require_grads()
    optimizer = torch.optim.AdamW(
        [p for p in adapted.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    run = _Run(config, out, accelerator, adapted, optimizer)
    run.steps(model, example_at, config.steps if stop_after is None else min(stop_after, config.steps))
    if accelerator.is_main_process:
        save_adapter(accelerator.unwrap_model(run.model), out / "adapter", style=style)
        plot_losses(out)
    return adapted.eval()


class _Run:
    """The loop of one run: where it stands, its log and its resumable state."""

    def __init__(
        self,
        config: TuneConfig,
        out: Path,
        accelerator: Accelerator,
        adapted: PeftModel,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Continue from the folder's state if there is one."""
        self.config, self.out, self.accelerator, self.adapted = config, out, accelerator, adapted
        self.step = 0
        out.mkdir(parents=True, exist_ok=True)
        if (out / "state.pt").is_file():
            self._resume(optimizer)
        self.model, self.optimizer = accelerator.prepare(adapted, optimizer)

    def steps(self, model: VisionLanguageModel, example_at: Callable[[int], ChatExample], last: int) -> None:
        """Train up to and with step `last`."""
        config, losses = self.config, list[float]()
        self.model.train()
        while self.step < last:
            set_seed(config.seed + self.step)  # dropout, too, is that of an uninterrupted run
            rate = learning_rate_factor(
                self.step, total=config.steps, warmup=config.warmup, final=config.final_rate
            )
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * rate
            losses.append(self._pass(model, example_at))
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            if self.step % _LOG_STEPS == 0 or self.step == last:
                self._log(loss=sum(losses) / len(losses), rate=rate)
                losses = []
            if self.step % config.save_steps == 0 or self.step == last:
                self._save()

    def _pass(self, model: VisionLanguageModel, example_at: Callable[[int], ChatExample]) -> float:
        """Gradients of one step on this device's share of its examples; the mean loss."""
        config, total = self.config, 0.0
        share, shares = self.accelerator.process_index, self.accelerator.num_processes
        for number in range(config.accumulate):
            start = ((self.step * config.accumulate + number) * shares + share) * config.batch
            examples = [example_at(position) for position in range(start, start + config.batch)]
            loss = self.model(**model.on_device(model.inputs.examples(examples))).loss / config.accumulate
            self.accelerator.backward(loss)
            total += loss.item()
        return total

    def _log(self, **values: float) -> None:
        """Append a line to the log and print it."""
        if not self.accelerator.is_main_process:
            return
        line = json.dumps({"step": self.step, "of": self.config.steps} | values)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def _save(self) -> None:
        """Write the resumable state; a kill at any moment leaves the old or the new one whole.

        Where the optimizer is sharded over devices there is none.
        """
        whole = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
        if not self.accelerator.is_main_process or self.accelerator.distributed_type not in whole:
            return
        state = {
            "step": self.step,
            "config": dataclasses.asdict(self.config),
            "adapter": get_peft_model_state_dict(self.adapted, save_embedding_layers=False),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, self.out / "state.pt.new")
        os.replace(self.out / "state.pt.new", self.out / "state.pt")

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the folder's state and forget what was logged after it."""
        path = self.out / "state.pt"
        state = torch.load(path, map_location="cpu", weights_only=True)
        new = dataclasses.asdict(self.config)
        if differ := sorted(k for k in new if state["config"].get(k) != new[k]):
            raise ValueError(
                f"{path} was written with another {', '.join(differ)}; give the same recipe or another --out"
            )
        set_peft_model_state_dict(self.adapted, state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        log = self.out / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        kept = [line + "\n" for line in lines if json.loads(line)["step"] <= self.step]
        log.write_text("".join(kept), encoding="utf-8")
        print(f"continuing from step {self.step} of {self.config.steps}", flush=True)


def mixed_examples(sources: Sequence[Source], seed: int) -> Callable[[int], ChatExample]:
    """The questions of some sources as an endless stream, drawn and shuffled anew in every epoch.

    Regions are disturbed as a detector errs (`noisy_regions`); the pictures stay as they are.

    Args:
        sources: Whose questions have images.
        seed: Of order and noise.

    Raises:
        ValueError: A source is text alone.
    """
    items = [item for source in sources for item in source.items]
    if wrong := [source.name for source in sources if source.items[0].image_path is None]:
        raise ValueError(f"{wrong} are text alone, which only nano is trained on; leave them out")

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[int]:
        rng = np.random.default_rng([seed, 0, epoch])
        drawn = draw_epoch(sources, rng, QUESTIONS_AN_IMAGE)
        return [drawn[k] for k in rng.permutation(len(drawn))]

    length = len(order(0))

    def at(position: int) -> ChatExample:
        epoch, place = divmod(position, length)
        item = items[order(epoch)[place]]
        assert item.image_path is not None
        regions = noisy_regions(item, View(), np.random.default_rng([seed, 1, position]))
        return ChatExample(
            SpatialPrompt(item.question, MedicalImage.open(item.image_path), regions), item.answer
        )

    return at


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="YAML (fields: ModelConfig in llm/config.py), or a name"
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML recipe (fields: TuneConfig)")
    parser.add_argument("--data-dir", default=os.environ.get("MEDGLIP_DATA"), help="folder with vqa/vqa_rad")
    parser.add_argument(
        "--split", default="disjoint-train", choices=["disjoint-train", "official-train"], help="of VQA-RAD"
    )
    parser.add_argument("--regions", type=Path, help="regions of the questions; without, no region block")
    parser.add_argument("--instructions", type=Path, help="folder of the recipe's further sources")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; a killed one is continued"
    )
    args = parser.parse_args(argv)
    if args.data_dir is None:
        parser.error("name the data folder with --data-dir or MEDGLIP_DATA")
    is_file = str(args.model).endswith((".yaml", ".yml"))
    base = read_config(ModelConfig, args.model) if is_file else ModelConfig(model=args.model)
    if base.server is not None or base.adapter is not None:
        parser.error("train on a model in this process without an adapter: leave server and adapter out")
    config = read_config(TuneConfig, args.config)
    sources, _ = read_sources(
        Path(args.data_dir),
        args.split,
        regions=None if args.regions is None else read_regions(args.regions),
        instructions=config.instructions,
        folder=args.instructions,
    )
    PartialState()  # gives each process its device, onto which the model is loaded
    model = VisionLanguageModel.from_config(base)
    tune(model, mixed_examples(sources, config.seed), config, args.out, style=base.style)


if __name__ == "__main__":
    main()
