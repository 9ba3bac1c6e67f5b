"""The probe of vision towers: AUROC by hand, features of a toy map, labels with few images left out."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.probe_tower import features, mean_auroc
from llm.data.nih_cxr import LabelledXray


def test_auroc_is_the_chance_that_a_positive_outranks_a_negative():
    truth = np.zeros((40, 2), dtype=bool)
    truth[:20, 0] = True
    truth[:5, 1] = True  # too few images to count
    scores = np.zeros((40, 2))
    scores[:10, 0] = 1  # half of the positives above every negative, the others level with them
    assert mean_auroc(scores, truth) == pytest.approx(0.75)


def test_features_pool_the_last_map_and_are_standardised(tmp_path):
    class Tower:
        def eval(self):
            return lambda pixels: [torch.nn.functional.avg_pool2d(pixels, 32)]

    def xray(number, grey):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path)
        return LabelledXray(str(number), path, (), "PA", str(number))

    table = features(Tower(), [xray(0, 10), xray(1, 200)])
    assert table.shape == (2, 6 * 3)
    assert (table[1] > table[0]).all() and np.allclose(table.mean(axis=0), 0, atol=1e-6)
