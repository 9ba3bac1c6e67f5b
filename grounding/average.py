"""The weights between a checkpoint and what it was trained on to: keeps of either what it does best.

    python -m grounding.average --start FOLDER --end FOLDER --share 0.6 --out FOLDER

Training on a few sets, or on many phantoms, takes a little from the others; on the line between start and
end much of the gain is there before much is lost (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models"). The configuration is the end's. A calibration is fitted anew (``grounding.evaluate.calibrate``).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"


def average(start: Path, end: Path, share: float, out: Path) -> None:
    """Write ``start + share * (end - start)`` of every floating tensor, in the end's dtype, to a folder.

    Args:
        start: Folder of the checkpoint that training started from.
        end: Folder of the checkpoint that it ended with.
        share: In [0, 1]; 0 is the start, 1 the end.
        out: Folder to write.

    Raises:
        ValueError: The share lies outside, or the checkpoints hold different tensors.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share in [0, 1], got {share}")
    first, last = load_file(start / WEIGHTS), load_file(end / WEIGHTS)
    differing = sorted(
        name for name in first.keys() | last.keys() if _shape(first, name) != _shape(last, name)
    )
    if differing:
        raise ValueError(
            f"expected equal tensors, {start} and {end} differ in {differing[:3]}; "
            "average a checkpoint with the one that its training started from"
        )
    mixed = {
        name: first[name].float().lerp(tensor.float(), share).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    with safe_open(end / WEIGHTS, "pt") as file:
        save_file(mixed, out / WEIGHTS, metadata=file.metadata())
    shutil.copyfile(end / "config.json", out / "config.json")


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--start", type=Path, required=True, help="checkpoint folder that training started from"
    )
    parser.add_argument("--end", type=Path, required=True, help="checkpoint folder that it ended with")
    parser.add_argument("--share", type=float, required=True, help="of the way from start to end, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    average(options.start, options.end, options.share, options.out)
    print(f"checkpoint written to {options.out}")


if __name__ == "__main__":
    main()
