"""How fast phantoms are drawn, whether their modalities are told apart, and contact sheets of them.

    python benchmarks/bench_phantoms.py --speed --probe
    python benchmarks/bench_phantoms.py --sheets docs/images/phantoms

Speed is in processor time, so that other programs on the machine count less. The probe is a ridge classifier
on the pooled last feature map of EfficientNet-Lite0 (ImageNet weights), fitted on some seeds and tested on
others. It says that the modalities look unlike each other, not that they look like real images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from grounding.data.phantoms import MODALITIES, Phantom, make_phantom
from grounding.data.phantoms.labels import PHANTOM_LABELS

Features = Callable[[Sequence[Phantom]], NDArray[np.float64]]
"""Phantoms to one row of numbers each, (n, d)."""

COLOURS: Final = {
    "region": "#9aa7b0",
    "organ": "#4cc9f0",
    "substructure": "#80ed99",
    "lesion": "#ff5d5d",
    "cell": "#ffd166",
}
"""Of a box in a contact sheet, by granularity."""


def images_a_second(modality: str, count: int, size: int) -> float:
    """Phantoms a second of processor time on one core, after one to warm up."""
    make_phantom(modality, count, size)
    start = time.process_time()
    for seed in range(count):
        make_phantom(modality, seed, size)
    return count / (time.process_time() - start)


def lite0_features(phantoms: Sequence[Phantom]) -> NDArray[np.float64]:
    """Mean of EfficientNet-Lite0's features at stride 32, (n, 320); fetches the base weights once."""
    import torch

    from grounding.backbone import IMAGENET_MEAN, IMAGENET_STD, EfficientNetLite

    network = EfficientNetLite.from_base_weights().eval()
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
    rows = []
    with torch.inference_mode():
        for phantom in phantoms:
            pixels = torch.from_numpy(np.array(phantom.image.pixels)).permute(2, 0, 1) / 255
            rows.append(network(((pixels - mean) / std)[None])[-1].mean(dim=(2, 3))[0].double().numpy())
    return np.stack(rows)


def probe(features: Features, per_modality: int, size: int) -> tuple[float, NDArray[np.int64]]:
    """Accuracy of a ridge classifier on held-out seeds, and the confusion of modalities (truth in rows)."""
    codes = list(MODALITIES)
    fit, held = (
        [make_phantom(code, seed, size) for code in codes for seed in range(start, start + per_modality)]
        for start in (0, 1_000)
    )
    truth = np.repeat(np.arange(len(codes)), per_modality)
    guess = ridge_classifier(features(fit), truth, features(held))
    confusion = np.zeros((len(codes), len(codes)), dtype=np.int64)
    np.add.at(confusion, (truth, guess), 1)
    return float(np.mean(guess == truth)), confusion


def ridge_classifier(
    rows: NDArray[np.float64], classes: NDArray[np.int64], new: NDArray[np.float64], penalty: float = 1.0
) -> NDArray[np.int64]:
    """Classes of `new` rows (m, d) from least squares onto one-hot targets of `rows` (n, d), standardised."""
    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    x = np.hstack([(rows - mean) / std, np.ones((len(rows), 1))])
    targets = np.eye(int(classes.max()) + 1)[classes]
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)
    scores = np.hstack([(new - mean) / std, np.ones((len(new), 1))]) @ weights
    guess: NDArray[np.int64] = scores.argmax(axis=1)
    return guess


def contact_sheet(modality: str, columns: int = 4, rows: int = 2, tile: int = 192) -> Image.Image:
    """The first phantoms of a modality with their boxes, coloured by granularity."""
    sheet = Image.new("RGB", (columns * tile, rows * tile))
    for seed in range(columns * rows):
        phantom = make_phantom(modality, seed, 2 * tile)
        picture = Image.fromarray(phantom.image.pixels).resize((tile, tile), Image.Resampling.LANCZOS)
        pen = ImageDraw.Draw(picture)
        for region in phantom.regions:
            colour = COLOURS[PHANTOM_LABELS[modality][region.phrase].granularity]
            x1, y1, x2, y2 = (float(edge) / 2 for edge in region.box)
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour)
        sheet.paste(picture, (seed % columns * tile, seed // columns * tile))
    return sheet


def write_sheets(out: Path) -> list[Path]:
    """Write a contact sheet a modality, in 128 colours so that the files stay small."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for modality in MODALITIES:
        paths.append(out / f"{modality.lower()}.png")
        sheet = contact_sheet(modality).quantize(128, dither=Image.Dither.NONE)
        sheet.save(paths[-1], optimize=True)
    return paths


def main(argv: Sequence[str] | None = None) -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description="speed, separability and contact sheets of the phantoms")
    parser.add_argument("--speed", action="store_true", help="images a second of processor time")
    parser.add_argument("--probe", action="store_true", help="tell modalities apart on held-out seeds")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="write the contact sheets")
    parser.add_argument("--count", type=int, default=20, help="phantoms a modality (default 20)")
    parser.add_argument("--size", type=int, default=512, help="side in pixels, for --speed (default 512)")
    args = parser.parse_args(argv)
    if not (args.speed or args.probe or args.sheets):
        parser.error("expected at least one of --speed, --probe, --sheets DIR")
    if args.speed:
        for modality in MODALITIES:
            rate = images_a_second(modality, args.count, args.size)
            print(f"{modality:<4}{rate:6.1f} images/s a core at {args.size} px")
    if args.probe:
        accuracy, confusion = probe(lite0_features, args.count, 224)
        print(f"modality accuracy on held-out seeds: {accuracy:.3f} ({confusion.sum()} phantoms)")
        for modality, row in zip(MODALITIES, confusion, strict=True):
            print(f"{modality:<4}" + " ".join(f"{value:4d}" for value in row))
    for path in write_sheets(args.sheets) if args.sheets else []:
        print(f"{path} {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
