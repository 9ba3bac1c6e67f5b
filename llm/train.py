"""Train the nano vision-language model on VQA-RAD with injected regions, and on what else the recipe names.

    python -m llm.train --config llm/configs/vqa_rad_disjoint.yaml --data-dir DIR --regions regions.jsonl
    --instructions FOLDER --out FOLDER

Learns LoRA weights, the projector and the spatial tokens; the vision tower is frozen and runs once an image.
A killed run continues from its last state when the same command is given again. Writes ``checkpoint/``,
``log.jsonl``, ``loss.png`` and the resumable ``state.safetensors`` into FOLDER.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from grounding.types import Regions

from .config import TrainConfig, load_config
from .data.batches import ImageBank, InstructionBatches, Row
from .data.mixture import VQA_RAD, Source, read_sources
from .data.packing import PackedBatch
from .data.regions import read_regions
from .lora import use_fast_lora
from .nano.checkpoint import add_adapter, build_nano, save_nano
from .nano.configuration import NanoVLMConfig
from .optimizer import Group, MasterAdamW, learning_rate_factor

_LOG_STEPS = 10


class Trainer:
    """One training run in a folder."""

    def __init__(
        self,
        config: TrainConfig,
        train: Sequence[Source],
        val: Sequence[Source],
        out: Path,
    ) -> None:
        """Build the model, compute the vision features, and continue from the folder's state if any."""
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.out, self.step = config, out, 0
        shape = NanoVLMConfig(
            image_size=config.image_size,
            projector_hidden_size=config.projector_hidden_size,
            base_language_model=config.base_language_model,
            base_vision_tower=config.base_vision_tower,
        )
        self.model, processor = build_nano(shape)
        self.adapted = add_adapter(self.model, rank=config.lora_rank, alpha=config.lora_alpha)
        self.model.projector.requires_grad_(True)
        self.model.language_model.set_attn_implementation(
            "eager"
        )  # its CPU backward is 3 times as fast as SDPA's
        use_fast_lora(self.model)
        self.optimizer = _optimizer(self.adapted, config)
        bank = ImageBank(
            self.model,
            processor,
            [item for source in (*train, *val) for item in source.items],
            views=config.image_views,
            seed=config.seed,
        )
        self.train_batches = InstructionBatches(train, bank, processor, config)
        self.val_batches = InstructionBatches(val, bank, processor, config) if val else None
        self.total = sum(len(self.train_batches.epoch(e)) for e in range(config.epochs))
        out.mkdir(parents=True, exist_ok=True)
        if (out / "state.safetensors").is_file():
            self._resume()

    def run(self, stop_after: int | None = None) -> None:
        """Train to the end, or to `stop_after` steps in all; then write the checkpoint and the plot."""
        losses: list[float] = []
        started, tokens = time.perf_counter(), 0
        for epoch, batch, last_of_epoch in self._remaining():
            if stop_after is not None and self.step >= stop_after:
                break
            packed, features = self.train_batches.build(batch)
            loss = self._loss(packed, features)
            loss.backward()  # type: ignore[no-untyped-call]
            rate = learning_rate_factor(
                self.step, total=self.total, warmup=self.config.warmup_steps, final=self.config.final_rate
            )
            norm = self.optimizer.step(rate)
            self.step += 1
            losses.append(loss.item())
            tokens += packed.input_ids.numel()
            if self.step % _LOG_STEPS == 0 or self.step == self.total:
                seconds = (time.perf_counter() - started) / len(losses)
                self._log(
                    epoch=epoch,
                    loss=sum(losses) / len(losses),
                    rate=rate,
                    gradient_norm=norm,
                    tokens=tokens // len(losses),
                    seconds_per_step=seconds,
                    minutes_left=seconds * (self.total - self.step) / 60,
                )
                losses, tokens, started = [], 0, time.perf_counter()
            due = last_of_epoch and (epoch + 1) % self.config.eval_epochs == 0
            if self.val_batches and (due or self.step == self.total):
                self._log(epoch=epoch, **self.evaluate())
                started = time.perf_counter()
            if self.step % self.config.save_steps == 0 or self.step in (self.total, stop_after):
                self._save()
        save_nano(self.adapted, self.out / "checkpoint")
        (self.out / "checkpoint" / "recipe.json").write_text(
            json.dumps(dataclasses.asdict(self.config), indent=2) + "\n"
        )
        plot_losses(self.out)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Loss and exact match on the watched questions, by teacher forcing; for each source on its own.

        An answer whose every token, its end included, is the likeliest one is what greedy generation gives.
        """
        assert self.val_batches is not None
        losses: dict[str, list[float]] = {}
        hits: dict[str, list[bool]] = {}
        for batch in self.val_batches.in_order():
            packed, features = self.val_batches.build(batch, vary=False)
            logits = self._answer_logits(packed, features)
            wrong = torch.zeros(int(packed.owner.max()) + 1).index_add_(
                0, packed.owner, (logits.argmax(-1) != packed.target).float()
            )
            loss = float(_weighted_loss(logits, packed))
            questions = [index for row in batch for index in row.questions]
            for index, misses in zip(questions, wrong.tolist(), strict=True):
                name, item = self.val_batches.source_of[index], self.val_batches.items[index]
                losses.setdefault(name, []).append(loss)
                hits.setdefault(name, []).append(misses == 0)
                if name == VQA_RAD:
                    hits.setdefault(f"{name}_{item.answer_type.lower()}", []).append(misses == 0)
        result = {f"val_loss_{name}": sum(values) / len(values) for name, values in losses.items()}
        return result | {f"val_exact_{name}": sum(h) / len(h) for name, h in hits.items()}

    def _loss(self, packed: PackedBatch, features: Tensor | None) -> Tensor:
        """The training loss of a batch."""
        return _weighted_loss(self._answer_logits(packed, features), packed)

    def _answer_logits(self, packed: PackedBatch, features: Tensor | None) -> Tensor:
        """Logits (answer tokens, vocabulary) in float32, computed at the answers' places only.

        The embedding table is frozen but for the spatial tokens, its last rows: looking those up apart spares
        peft's copy of the whole table, forward and backward.
        """
        lm, first = self.model.language_model, self.model.config.image_token_id + 1
        tokens = lm.model.embed_tokens.token_adapter
        table, spatial = tokens.base_layer.weight, tokens.trainable_tokens_delta["default"]
        embeddings = F.embedding(packed.input_ids, table)
        is_spatial = packed.input_ids >= first
        embeddings[is_spatial] = F.embedding(packed.input_ids[is_spatial] - first, spatial)
        if features is not None:
            images = self.model.projector(features.to(embeddings.dtype))
            is_image = packed.input_ids == self.model.config.image_token_id
            embeddings = embeddings.masked_scatter(is_image[..., None], images)
        hidden = lm.model(
            inputs_embeds=embeddings,
            attention_mask=packed.attention_mask(embeddings.dtype),
            position_ids=packed.position_ids,
            use_cache=False,
        ).last_hidden_state
        chosen = hidden.flatten(0, 1)[packed.source]
        return torch.cat((chosen @ table[:first].t(), chosen @ spatial.t()), dim=-1).float()

    def _remaining(self) -> Iterator[tuple[int, list[Row], bool]]:
        """(epoch, batch, whether it is the epoch's last) from the present step on."""
        done = 0
        for epoch in range(self.config.epochs):
            batches = self.train_batches.epoch(epoch)
            for number, batch in enumerate(batches):
                if done >= self.step:
                    yield epoch, batch, number == len(batches) - 1
                done += 1

    def _log(self, **values: float) -> None:
        """Append a line to the log and print it."""
        line = {"step": self.step, "of": self.total} | {k: round(v, 5) for k, v in values.items()}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        """Write the resumable state; a kill at any moment leaves the old or the new one whole."""
        meta = {"step": str(self.step), "config": json.dumps(dataclasses.asdict(self.config))}
        temporary = self.out / "state.safetensors.new"
        save_file({k: v.contiguous() for k, v in self.optimizer.state().items()}, temporary, metadata=meta)
        os.replace(temporary, self.out / "state.safetensors")

    def _resume(self) -> None:
        """Continue from the folder's state and forget what was logged after it.

        Raises:
            ValueError: The state was written by another recipe.
        """
        path = self.out / "state.safetensors"
        with safe_open(path, "pt") as file:
            meta: dict[str, str] = file.metadata()
        old, new = json.loads(meta["config"]), dataclasses.asdict(self.config)
        if differ := sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)):
            raise ValueError(
                f"{path} was written with another {', '.join(differ)}; give the same recipe or an empty --out"
            )
        self.optimizer.load_state(load_file(path))
        self.step = int(meta["step"])
        lines = _read_log(self.out)
        kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= self.step]
        (self.out / "log.jsonl").write_text("".join(kept), encoding="utf-8")
        print(f"continuing from step {self.step} of {self.total}", flush=True)


def recipe_sources(
    config: TrainConfig, data_dir: Path, regions: Mapping[str, Regions] | None, folder: Path | None
) -> tuple[list[Source], list[Source]]:
    """What a recipe trains on, and what it watches: its validation split first. See `read_sources`."""
    train, val = read_sources(
        data_dir,
        config.train_split,
        regions=regions,
        instructions=config.instructions,
        folder=folder,
        watched=config.watched,
    )
    if config.val_split:
        val = [*read_sources(data_dir, config.val_split, regions=regions)[0], *val]
    return train, val


def _optimizer(adapted: PeftModel, config: TrainConfig) -> MasterAdamW:
    """The optimizer over everything that learns."""
    learning = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    projector = {name: p for name, p in learning.items() if ".projector." in name}
    rest = {name: p for name, p in learning.items() if name not in projector}
    groups = [
        Group(rest, config.learning_rate, weight_decay=0.0),
        Group(projector, config.projector_learning_rate, weight_decay=config.weight_decay),
    ]
    return MasterAdamW(groups, clip_norm=config.clip_norm)


def _weighted_loss(logits: Tensor, packed: PackedBatch) -> Tensor:
    """Cross-entropy over the answer tokens, each answer weighted by the square root of its length."""
    return (F.cross_entropy(logits, packed.target, reduction="none") * packed.weights()).sum()


def _read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    path = out / "log.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    )


def plot_losses(out: Path) -> None:
    """Draw ``loss.png`` from the log: training loss, validation loss and exact match where there are any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    log = _read_log(out)
    figure, axis = plt.subplots(figsize=(7, 4))
    for key, style in (("loss", "-"), (f"val_loss_{VQA_RAD}", "o-")):
        if points := [(line["step"], line[key]) for line in log if key in line]:
            axis.plot(*zip(*points, strict=True), style, label=key)
    if watched := sorted({key for line in log for key in line if key.startswith("val_exact_")}):
        twin = axis.twinx()
        for number, key in enumerate(watched, start=2):
            points = [(line["step"], line[key]) for line in log if key in line]
            label = key.removeprefix("val_exact_")
            twin.plot(*zip(*points, strict=True), "s--", color=f"C{number}", label=label)
        twin.set(ylabel="exact match on watched questions", ylim=(0, 1))
        twin.legend(loc="lower right")
    axis.set(xlabel="step", ylabel="loss")
    if log:
        axis.legend()
    figure.tight_layout()
    figure.savefig(out / "loss.png", dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="a YAML recipe (fields: llm/config.py)")
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MEDGLIP_DATA"), help="folder with vqa/vqa_rad"
    )
    parser.add_argument(
        "--regions", type=Path, nargs="*", default=[], help="regions of the train (and val) questions"
    )
    parser.add_argument("--instructions", type=Path, help="folder of the recipe's further sources")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; a killed run in it is continued"
    )
    parser.add_argument("--epochs", type=int, help="outranks the recipe")
    parser.add_argument("--seed", type=int, help="outranks the recipe")
    parser.add_argument("--threads", type=int, help="outranks the recipe")
    parser.add_argument("--stop-after", type=int, help="stop after so many steps in all; the schedule stays")
    args = parser.parse_args(argv)
    if args.data_dir is None:
        parser.error("name the data folder with --data-dir or MEDGLIP_DATA")
    config = load_config(args.config, epochs=args.epochs, seed=args.seed, threads=args.threads)
    regions: dict[str, Regions] = {}
    for path in args.regions:
        regions |= read_regions(path)
    train, val = recipe_sources(config, Path(args.data_dir), regions or None, args.instructions)
    Trainer(config, train, val, args.out).run(args.stop_after)


if __name__ == "__main__":
    main()
