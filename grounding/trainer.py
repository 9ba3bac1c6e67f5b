"""One training run on one or several processes: a step, the average of the weights, saving and resuming.

A step may be spread over micro-batches and over processes (accelerate); the losses are divided by the boxes
and images of the whole step, so that loss and gradients are those of one large batch. Knows nothing about
files of examples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn

from .checkpoint import save_checkpoint
from .criterion import GroundingCriterion
from .data.mixture import Batch
from .lora import add_lora, merged_state
from .modeling import MedGLIPForGrounding
from .schedule import freeze, parameter_groups, rate_factor
from .targets import StepSize
from .train_config import TrainConfig


class StepLosses(nn.Module):
    """Network and criterion as one module, whose only outputs are losses: what the processes wrap."""

    def __init__(
        self, model: MedGLIPForGrounding, criterion: GroundingCriterion, config: TrainConfig
    ) -> None:
        """``config`` says what runs in bfloat16, and how many one-to-many queries there are."""
        super().__init__()
        self.model, self.criterion = model, criterion
        self.bf16, self.many = config.bf16, config.many_queries

    def forward(self, batch: Batch, size: StepSize) -> dict[str, Tensor]:
        """Losses of a batch that lies on the network's device, with gradient."""
        device = batch.pixels.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            image = self.model.encode_image(batch.pixel_values)
            text = self.model.encode_text(batch.input_ids, batch.attention_mask)
            output = self.model.ground(image, text, batch.modality_ids, batch.denoising, self.many)
        losses: dict[str, Tensor] = self.criterion(
            output, batch.targets, batch.attention_mask.bool(), batch.denoising, size
        )
        return losses


class Trainer:
    """A training run whose whole state can be saved and restored."""

    def __init__(
        self,
        config: TrainConfig,
        model: MedGLIPForGrounding,
        criterion: GroundingCriterion | None = None,
        *,
        own_text_encoder: bool = False,
    ) -> None:
        """A run at step 0; :meth:`restore` continues one.

        Args:
            config: The run.
            model: The network to train, changed in place.
            criterion: In place of the one that ``config.criterion`` describes.
            own_text_encoder: The text encoder is not the base weights', so checkpoints must hold it.
        """
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch may hold no box
        # Told apart here, since without `cpu` several processes without a GPU would each train alone.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[unused])
        self.config, self.device = config, self.accelerator.device
        self.own_text_encoder = own_text_encoder
        model.config.modality_conditioning = config.modality_conditioning
        model.config.modality_prefix = config.modality_prefix
        model.config.presence = config.criterion.presence_weight > 0
        model.recompute = config.recompute
        freeze(model, config)
        if config.tune == "lora":
            add_lora(model, config.lora_rank)
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        self.model.model.text_backbone.eval()  # frozen: no dropout
        network = StepLosses(self.model, criterion or GroundingCriterion(config.criterion), config)
        self.network = self.accelerator.prepare(network)
        self.trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = self.accelerator.prepare(
            torch.optim.AdamW(parameter_groups(self.model, config), betas=(0.9, 0.999), fused=True)
        )
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = {name: p.detach().clone() for name, p in self.trainable.items()}
        self.step = 0

    def train_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step on this process's micro-batches.

        Returns:
            The losses over all processes, the gradient norm and the learning rate.
        """
        factor = rate_factor(self.step, self.config)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        # Dropout depends on the step alone, so a resumed run drops what an uninterrupted one would have.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step + 7919 * self.accelerator.process_index)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.backward(batches)
        norm = self.accelerator.clip_grad_norm_(list(self.trainable.values()), self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return losses | {
            "gradient_norm": float(norm),
            "learning_rate": self.config.learning_rate * factor,
        }

    def backward(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Losses of a step by name, over all processes; their gradients are added to the weights'."""
        size = self._step_size(batches)
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                losses = self.network(batch.to(self.device), size)
                self.accelerator.backward(losses["loss"])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        # Only the names that every process has: where a process saw no box, it has no denoising losses.
        common = self._common(set(sums))
        names = [name for name in sums if name in common]
        values = self.accelerator.reduce(torch.stack([sums[name] for name in names]), reduction="mean")
        return dict(zip(names, values.tolist(), strict=True))

    def _common(self, names: set[str]) -> set[str]:
        """Those of ``names`` that every process has."""
        if self.accelerator.num_processes == 1:
            return names
        everyone: list[Any] = [None] * self.accelerator.num_processes
        torch.distributed.all_gather_object(everyone, names)
        return set.intersection(*everyone)

    def _step_size(self, batches: Sequence[Batch]) -> StepSize:
        sizes = [StepSize.of(batch.targets) for batch in batches]
        own = [sum(size.boxes for size in sizes), sum(size.images for size in sizes)]
        if self.accelerator.num_processes == 1:
            return StepSize(*own)
        return StepSize(*self.accelerator.reduce(torch.tensor(own, device=self.device), "mean").tolist())

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average starts short, so that early checkpoints are not held back by the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.trainable.values()), 1 - decay)

    def averaged_state(self) -> dict[str, Tensor]:
        """The plain network's state dict, with averaged weights in place of the trained ones."""
        if self.accelerator.distributed_type == DistributedType.FSDP:
            return self._gathered_average()
        state = self.model.state_dict()
        trained = {p.data_ptr(): self.average[name] for name, p in self.trainable.items()}
        return merged_state(
            self.model, {name: trained.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}
        )

    @torch.no_grad()
    def _gathered_average(self) -> dict[str, Tensor]:
        """The averaged state of sharded weights: they are lent to the network while it is gathered."""
        kept = {name: p.detach().clone() for name, p in self.trainable.items()}
        for name, parameter in self.trainable.items():
            parameter.copy_(self.average[name])
        state = self.accelerator.get_state_dict(self.network)
        for name, parameter in self.trainable.items():
            parameter.copy_(kept[name])
        return merged_state(self.model, {name.removeprefix("model."): t for name, t in state.items()})

    def state_file(self, folder: Path) -> Path:
        """Where this process keeps its state: one file in all, or one a process where weights are sharded."""
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        return folder / (f"state-{self.accelerator.process_index}.pt" if sharded else "state.pt")

    def save(self, folder: Path) -> None:
        """Write ``state.pt`` (atomically) and ``checkpoint/``; every process calls it."""
        averaged, path = self.averaged_state(), self.state_file(folder)
        if self.accelerator.is_main_process or path.name != "state.pt":
            state = {
                "step": self.step,
                "weights": {name: p.detach() for name, p in self.trainable.items()},
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
            }
            torch.save(state, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.model.config, averaged, folder / "checkpoint", text_encoder=self.own_text_encoder
            )
        self.accelerator.wait_for_everyone()

    def restore(self, folder: Path) -> None:
        """Continue from the state in ``folder``, where there is one."""
        path = self.state_file(folder)
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state["weights"][name])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
