"""What a vision tower's features tell of chest X-rays: the grounder's backbone against its ImageNet start.

    python benchmarks/probe_tower.py --data-dir DATA --out runs/probe_tower.json

A ridge classifier for each label of NIH ChestX-ray14, on pooled features, over five folds of the train part
with patients kept together; the mean AUROC over labels with at least 20 images. The penalty is the best of
three for each tower by the same folds, so that the figures flatter both alike. The validation part is not
read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from benchmarks.run_nih_reports import Bools, Floats, label_matrix, out_of_fold
from grounding.backbone import EfficientNetLite
from grounding.packaged import checkpoint_folder
from grounding.types import MedicalImage
from llm.data.nih_cxr import LabelledXray, read_nih_cxr
from llm.nano.processing import NanoVLMImageProcessor

PENALTIES = (1.0, 10.0, 100.0)
LEAST_IMAGES = 20
SIDE = 256


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Print and write the mean AUROC of each tower."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with classification/nih_cxr")
    parser.add_argument("--grounder", default="nano", help="checkpoint whose backbone is probed")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    xrays = read_nih_cxr(args.data_dir / "classification" / "nih_cxr", "train").examples
    truth, groups = label_matrix(xray.labels for xray in xrays), [xray.group for xray in xrays]
    towers = {
        "ImageNet": EfficientNetLite.from_base_weights(),
        "grounder": EfficientNetLite.from_checkpoint(checkpoint_folder(args.grounder)),
    }
    found = {}
    for name, tower in towers.items():
        pooled = features(tower, xrays)
        found[name] = max(mean_auroc(out_of_fold(pooled, truth, groups, p), truth) for p in PENALTIES)
        print(f"{name}: mean AUROC {found[name]:.3f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def features(tower: EfficientNetLite, xrays: Sequence[LabelledXray]) -> Floats:
    """Mean, greatest and the means of four quarters of the tower's last map, (N, 6 C), standardised."""
    processor = NanoVLMImageProcessor(size={"height": SIDE, "width": SIDE})
    rows = []
    for xray in tqdm(xrays, desc="vision features", disable=None):
        pixels = processor(images=MedicalImage.open(xray.image_path).pixels, return_tensors="pt")
        with torch.inference_mode():
            last = tower.eval()(pixels["pixel_values"])[-1]
        quarters = adaptive_avg_pool2d(last, 2).flatten(1)
        rows.append(torch.cat([last.mean((2, 3)), last.amax((2, 3)), quarters], dim=1)[0].numpy())
    table = np.array(rows, dtype=np.float64)
    return np.asarray((table - table.mean(axis=0)) / (table.std(axis=0) + 1e-6))


def mean_auroc(scores: Floats, truth: Bools) -> float:
    """Mean over the labels (columns) with enough images of the chance that a positive outranks a negative."""
    values = []
    for column in np.flatnonzero(truth.sum(axis=0) >= LEAST_IMAGES):
        yes = truth[:, column]
        n_yes, n_no = int(yes.sum()), int((~yes).sum())
        ranks = rankdata(scores[:, column])[yes].sum()
        values.append((ranks - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
