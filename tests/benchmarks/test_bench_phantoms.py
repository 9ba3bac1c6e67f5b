"""The phantoms' benchmark on hand-made numbers and a few small pictures."""

import numpy as np
import pytest

from benchmarks import bench_phantoms
from grounding.data.phantoms import MODALITIES, Phantom


def mean_colour(phantoms: list[Phantom]) -> np.ndarray:
    """Means over a grid of 4 x 4, enough to tell most modalities apart."""
    cells = [phantom.image.pixels.reshape(4, 16, 4, 16, 3).mean(axis=(1, 3)).ravel() for phantom in phantoms]
    return np.stack(cells)


def test_ridge_classifier_separates_what_is_separable() -> None:
    rows = np.array([[0.0, 1.0], [0.1, 0.9], [5.0, 1.0], [5.2, 1.1], [0.0, 9.0], [0.1, 9.2]])
    classes = np.array([0, 0, 1, 1, 2, 2])
    new = np.array([[0.05, 1.0], [5.1, 1.0], [0.05, 9.1]])
    assert bench_phantoms.ridge_classifier(rows, classes, new).tolist() == [0, 1, 2]


def test_probe_counts_every_held_out_phantom_once() -> None:
    accuracy, confusion = bench_phantoms.probe(mean_colour, per_modality=3, size=64)
    assert confusion.sum(axis=1).tolist() == [3] * len(MODALITIES)
    assert accuracy == pytest.approx(np.trace(confusion) / confusion.sum())
    assert accuracy > 0.5, "far above chance, 1 in 8"


def test_sheet_shows_boxes_in_the_colour_of_their_granularity() -> None:
    sheet = np.asarray(bench_phantoms.contact_sheet("CR", columns=2, rows=1, tile=64))
    assert sheet.shape == (64, 128, 3)
    organ = np.array([0x4C, 0xC9, 0xF0])
    assert (sheet == organ).all(axis=2).any()


def test_speed_is_a_rate() -> None:
    assert bench_phantoms.images_a_second("US", 1, 64) > 0


def test_command_line_wants_something_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_phantoms.main([])
    assert "--speed, --probe, --sheets" in capsys.readouterr().err
    bench_phantoms.main(["--speed", "--count", "1", "--size", "64"])
    assert len(capsys.readouterr().out.splitlines()) == len(MODALITIES)
