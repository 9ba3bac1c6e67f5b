"""Which part of a run this process does, and waiting for the others under torchrun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # the slowest process may have the long replies


@dataclass(frozen=True)
class Shard:
    """One of `count` processes.

    Attributes:
        index: from 0.
        count: processes.
        joined: they run under torchrun, so that the first waits for the others and merges; else each was
            started by hand, and a last run without --shard merges.
    """

    index: int = 0
    count: int = 1
    joined: bool = True

    @property
    def part(self) -> str:
        """Name of its file of rows."""
        return f"{self.index}-of-{self.count}"

    @property
    def first(self) -> bool:
        """Whether it does what is done once."""
        return self.index == 0

    def of(self, batches: Sequence[T]) -> list[T]:
        """Its own batches: every `count`-th, whole."""
        return list(batches[self.index :: self.count])

    def wait(self) -> None:
        """Return when every process of torchrun has come here."""
        if self.joined and self.count > 1:
            import torch.distributed as dist

            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=_PATIENCE)
            dist.barrier()

    def leave(self) -> None:
        """End what `wait` began."""
        if self.joined and self.count > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()


def this_shard(flag: tuple[int, int]) -> Shard:
    """The shard of this process: torchrun's environment, else the flag (index, count).

    Raises:
        ValueError: both divide the run.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Shard(*flag, joined=flag[1] == 1)
    if flag[1] != 1:
        raise ValueError(f"torchrun divides the run into {world}; leave --shard {flag[0]}/{flag[1]} out")
    return Shard(int(os.environ["RANK"]), world)


def local_device(device: str) -> str:
    """The device of this process: under torchrun, with CUDA, each process of a machine has its own."""
    if device == "auto" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch

        if torch.cuda.is_available():
            return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device
