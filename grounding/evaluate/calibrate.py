"""Whether a box's score is the probability that the box is right, and the fit that makes it so.

Owns the detection calibration error, the data of reliability plots, and the fit of temperature, bias,
thresholds and of the overlap from which on a box repeats another. A box is right where COCO's matching gives
it a true box at IoU .5. Sources: detection ECE, Kuppers et al. 2020 (by confidence alone); equal-mass bins,
Nixon et al. 2019; temperature scaling, Guo et al. 2017.

Fit on a held-out grouped part of train, never on validation:

    python -m grounding.evaluate.calibrate --data-dir DATA --checkpoint FOLDER --out FOLDER/calibration.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from tqdm import tqdm

from ..calibration import Calibration, logit, plain
from .absent import absent_metrics, present
from .dataset import find_sets
from .detections import AskedGrounder, Detections, Threshold, answer_of
from .matching import AT50, Matches, match
from .resampling import Floats, Ints, Metric, divide, mean_of_valid, value
from .targets import TargetSet, held_out, read_targets

N_BINS = 15
MIN_TRUE = 10
"""True boxes of a phrase below which its own threshold would be noise: it then takes the default."""
NMS_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Tried as the IoU above which a box repeats a surer one of its phrase; 1 drops none."""
MOST_FALSE_POSITIVES = 0.1
"""Share of absent labels of the image's own modality that may be boxed by default."""


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """Expected calibration error as a metric: mean over boxes of |mean score - share right| of their bin.

    Attributes:
        bins: (D,) bin of each box.
        gap: (D,) score minus 1 if right.
        image: (D,) index of the image of each box.
    """

    bins: Ints
    gap: Floats
    image: Ints

    def __call__(self, weights: Floats) -> Floats:
        """(B, I) -> (B,); nan where no box is drawn."""
        n_bins, n_images = int(self.bins.max(initial=0)) + 1, weights.shape[1]
        cell = self.bins * n_images + self.image
        gaps = np.bincount(cell, weights=self.gap, minlength=n_bins * n_images).reshape(n_bins, n_images)
        boxes = np.bincount(self.image, minlength=n_images).astype(np.float64)
        return divide(np.abs(weights @ gaps.T).sum(axis=1), weights @ boxes)


def calibration_error(matches: Matches, *, equal_mass: bool) -> CalibrationError:
    """The calibration error of a set's boxes in 15 bins, of equal mass or of equal width."""
    bins = bin_of(matches.scores, equal_mass=equal_mass)
    return CalibrationError(bins, matches.scores - matches.hits[AT50], matches.image)


def bin_of(scores: Floats, *, equal_mass: bool, n_bins: int = N_BINS) -> Ints:
    """(D,) bin 0 .. n_bins - 1 of each score; equal scores always share a bin.

    Args:
        scores: in [0, 1].
        equal_mass: about as many boxes a bin, instead of bins equally wide over [0, 1].
        n_bins: bins.
    """
    if equal_mass:
        place = np.searchsorted(np.sort(scores), scores, side="left")
        return place * n_bins // max(len(scores), 1)
    return np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """The bins of a reliability plot that hold boxes: (K,) mean score, share right, boxes."""

    score: Floats
    right: Floats
    count: Ints


def reliability(scores: Floats, right: npt.ArrayLike, *, equal_mass: bool) -> Reliability:
    """Bin (D,) scores with whether each box is right."""
    bins = bin_of(scores, equal_mass=equal_mass)
    count = np.bincount(bins, minlength=N_BINS)
    kept = count > 0
    mean = [
        np.bincount(bins, weights=np.asarray(values, dtype=np.float64), minlength=N_BINS)[kept] / count[kept]
        for values in (scores, right)
    ]
    return Reliability(mean[0], mean[1], count[kept])


def fit_calibration(detections: Sequence[Sequence[Detections]], targets: Sequence[TargetSet]) -> Calibration:
    """Fit temperature, bias and thresholds on detections with raw scores; every set counts alike.

    Temperature and bias minimise the negative log-likelihood of boxes being right. A phrase's threshold is
    the calibrated score with the best F1 of its boxes at IoU .5; a phrase with fewer than 10 true boxes takes
    the default, which is the best for all phrases together. See `presence_threshold` for that of presence.

    Args:
        detections: for each set, the answers to its images, asked for its labels.
        targets: the sets: held-out parts of train, split by group (see `held_out`).

    Raises:
        ValueError: no set has a box, or the detections do not answer the sets.
    """
    matched = [match(each, answers) for each, answers in zip(targets, detections, strict=True)]
    scores = np.concatenate([np.zeros(0), *(m.scores for m in matched)])
    if not len(scores):
        raise ValueError("expected boxes to calibrate on, got none; keep every score (box_threshold=0)")
    right = np.concatenate([m.hits[AT50] for m in matched]).astype(np.float64)
    weight = np.concatenate([np.full(len(m.scores), 1 / max(len(m.scores), 1)) for m in matched])
    scale = _fit_scale(scores, right, weight)
    by_phrase: dict[str, list[tuple[Matches, int]]] = {}
    for each, m in zip(targets, matched, strict=True):
        for index, label in enumerate(each.labels):
            by_phrase.setdefault(plain(label), []).append((m, index))
    best = {
        phrase: best_threshold(*_ranking(parts, scale))
        for phrase, parts in by_phrase.items()
        if sum(m.n_true[:, index].sum() for m, index in parts) >= MIN_TRUE
    }
    everything = [part for parts in by_phrase.values() for part in parts]
    found = replace(scale, thresholds=best, default_threshold=best_threshold(*_ranking(everything, scale)))
    return replace(found, presence_threshold=presence_threshold(detections, targets, found))


def _fit_scale(scores: Floats, right: Floats, weight: Floats) -> Calibration:
    """Minimise the weighted log-loss over the slope 1 / temperature (kept > 0 by its logarithm) and bias."""
    raw = logit(np.clip(scores, 1e-6, 1 - 1e-6))
    weight = weight / weight.sum()

    def loss(parameters: Floats) -> float:
        value = raw * np.exp(parameters[0]) + parameters[1]
        return float(weight @ (np.logaddexp(0.0, value) - right * value))

    slope, bias = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-4.0, 4.0), (-10.0, 10.0)]).x
    return Calibration(temperature=float(np.exp(-slope)), bias=float(bias))


def _ranking(parts: Sequence[tuple[Matches, int]], scale: Calibration) -> tuple[Floats, Floats, float]:
    """Calibrated scores and rightness of some labels' boxes, and how many true boxes they have."""
    own = [m.label == index for m, index in parts]
    scores = np.concatenate([m.scores[mine] for (m, _), mine in zip(parts, own, strict=True)])
    right = np.concatenate([m.hits[AT50][mine] for (m, _), mine in zip(parts, own, strict=True)])
    n_true = sum(float(m.n_true[:, index].sum()) for m, index in parts)
    return scale.apply(scores).astype(np.float64), right.astype(np.float64), n_true


def best_threshold(scores: Floats, right: Floats, n_true: float) -> float:
    """The score from which on showing boxes gives the best F1; 1 where no box is right.

    Placed halfway to the next lower score, so that it does not hang on the last digit of one box.

    Args:
        scores: (D,) in [0, 1].
        right: (D,) 1 where the box takes a true box, else 0.
        n_true: true boxes.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(ranked) + 1) + n_true)
    last = np.append(ranked[1:] < ranked[:-1], True) if len(ranked) else np.zeros(0, dtype=np.bool_)
    if not len(ranked) or f1.max() == 0:
        return 1.0
    best = int(np.argmax(np.where(last, f1, -1.0)))  # equal scores are shown together
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


def presence_threshold(
    detections: Sequence[Sequence[Detections]],
    targets: Sequence[TargetSet],
    calibration: Calibration,
    most: float = MOST_FALSE_POSITIVES,
) -> float:
    """The lowest presence at which absent labels are boxed at most at a rate, as a mean over sets.

    The lowest, because every phrase it hides may be there. Placed halfway to the next higher presence of a
    boxed phrase.

    Args:
        detections: answers with raw scores, set by set.
        targets: the sets; those that annotate no absent label say nothing here.
        calibration: of the scores; its presence threshold is not used.
        most: the rate.
    """
    shown = Threshold(calibration.threshold)
    boxed: list[Floats] = []
    false: list[Floats] = []
    shares: list[Floats] = []
    for each, answers in zip(targets, detections, strict=True):
        absent = ~present(each)
        claims = [calibrated(answer, calibration).claimed(shown) for answer in answers]
        claimed = np.array(claims, dtype=np.bool_).reshape(absent.shape)
        presence = np.array([answer.presence for answer in answers], np.float64).reshape(absent.shape)
        if absent.any():
            boxed.append(presence[claimed])
            false.append(presence[claimed & absent])
            shares.append(np.full(len(false[-1]), 1 / absent.sum()))
    scores = np.concatenate([np.zeros(0), *false])
    order = np.argsort(-scores, kind="stable")
    rate = np.cumsum(np.concatenate([np.zeros(0), *shares])[order]) / max(len(shares), 1)
    over = np.flatnonzero(rate > most + 1e-9)
    if not len(over):
        return 0.0
    hidden = scores[order][over[0]]  # and whatever has no more presence
    everything = np.concatenate(boxed)
    return float((hidden + everything[everything > hidden].min(initial=1.0)) / 2)


def calibrated(answer: Detections, calibration: Calibration) -> Detections:
    """An answer with raw scores, its scores calibrated; presence is left as it is."""
    return replace(answer, regions=replace(answer.regions, scores=calibration.apply(answer.regions.scores)))


@dataclass(frozen=True, eq=False)
class Fit:
    """A calibration, and what it was fitted on.

    Attributes:
        calibration: the fit.
        answers: raw ones, without the boxes that it takes for repeated, set by set.
        ap50: IoU above which repeated boxes are dropped -> AP50 with raw scores, the mean over sets.
    """

    calibration: Calibration
    answers: list[list[Detections]]
    ap50: dict[float, float]


def calibrate(grounder: AskedGrounder, sets: Sequence[TargetSet]) -> Fit:
    """Ask held-out images, choose which boxes are repeated, fit the rest on what is left.

    Chosen is the IoU with the best AP50; of equally good ones the greatest, which drops least.

    Args:
        grounder: with raw scores (no calibration).
        sets: held-out parts of train, split by group (see `held_out`).

    Raises:
        ValueError: no set has a box.
    """
    asked = [_answers(grounder, each) for each in tqdm(sets, unit="set")]
    by_iou = {iou: [own[iou] for own in asked] for iou in NMS_IOUS}
    ap50 = {iou: mean_ap50(answers, sets) for iou, answers in by_iou.items()}
    chosen = max(sorted(NMS_IOUS, reverse=True), key=lambda iou: ap50[iou])
    calibration = replace(fit_calibration(by_iou[chosen], sets), nms_iou=chosen)
    return Fit(calibration, by_iou[chosen], ap50)


def mean_ap50(answers: Sequence[Sequence[Detections]], targets: Sequence[TargetSet]) -> float:
    """AP50, a mean over the sets that have a true box; nan where none has."""
    matched = [match(each, own) for each, own in zip(targets, answers, strict=True)]
    means = [
        np.nanmean(m.average_precision(np.ones((1, len(m.n_true))), at=[AT50]))
        for m in matched
        if m.n_true.any()
    ]
    return float(np.mean(means)) if means else float("nan")


def _answers(
    grounder: AskedGrounder, targets: TargetSet, batch_size: int = 8
) -> dict[float, list[Detections]]:
    """What a set's images show of all its labels, for each of `NMS_IOUS`; every image is asked once."""
    answers: dict[float, list[Detections]] = {iou: [] for iou in NMS_IOUS}
    for start in range(0, len(targets.targets), batch_size):
        images = [targets.open(target) for target in targets.targets[start : start + batch_size]]
        for image in grounder.ask_batch(images, [targets.labels] * len(images)):
            for iou, own in answers.items():
                own.append(answer_of(image, targets.labels, iou))
    return answers


def summary(
    calibration: Calibration, detections: Sequence[Sequence[Detections]], targets: Sequence[TargetSet]
) -> dict[str, float]:
    """What the calibration does on the sets it was fitted on, as means over sets.

    The error of raw and of calibrated scores, and how many present and absent labels are boxed by default.
    """
    shown = Threshold(calibration.threshold, calibration.presence_threshold)
    figures: dict[str, list[float]] = {}
    for each, raw in zip(targets, detections, strict=True):
        answers = [calibrated(answer, calibration) for answer in raw]
        metrics: dict[str, Metric] = {
            "ece_raw": calibration_error(match(each, raw), equal_mass=True),
            "ece": calibration_error(match(each, answers), equal_mass=True),
            **absent_metrics(each, answers, [], shown),
        }
        for name, metric in metrics.items():
            figures.setdefault(name, []).append(value(metric, len(raw)))
    return {name: float(mean_of_valid(np.array(values), 0)) for name, values in figures.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Fit on the held-out groups of every set's train split, write the file, print what it does there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data-dir", required=True, help="folder that holds grounding/<set>/train.json")
    parser.add_argument("--sets", default="", help="comma-separated set names; default: every set found")
    parser.add_argument("--checkpoint", default="nano", help="grounder: a shipped name or a folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--fraction", type=float, default=0.1, help="share of train's groups: the recipe's hold_out"
    )
    parser.add_argument("--limit", type=int, help="first N held-out images a set (a quick look, no result)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the file; it works beside the checkpoint, as calibration.json",
    )
    args = parser.parse_args(argv)
    from ..packaged import checkpoint_folder
    from ..predictor import Grounder

    grounder = Grounder.from_pretrained(args.checkpoint, device=args.device)
    grounder.calibration = None  # fitted on raw scores, whatever lies beside the checkpoint already
    folders = find_sets(args.data_dir, [name for name in args.sets.split(",") if name])
    sets = [held_out(read_targets(folder, "train"), args.fraction) for folder in folders]
    sets = [replace(each, targets=each.targets[: args.limit]) for each in sets]
    fit = calibrate(grounder, sets)
    calibration = fit.calibration
    args.out.parent.mkdir(parents=True, exist_ok=True)
    calibration.save(args.out, folder=checkpoint_folder(args.checkpoint))
    print(
        f"{args.out}: temperature {calibration.temperature:.3f}, bias {calibration.bias:.3f}, "
        f"presence from {calibration.presence_threshold:.3f}, repeated boxes above IoU {calibration.nms_iou}"
    )
    told = ", ".join(f"{figure:.3f} above {iou}" for iou, figure in fit.ap50.items())
    print(f"AP50 without boxes that repeat a surer one: {told}")
    for name, figure in summary(calibration, fit.answers, sets).items():
        print(f"{name} {figure:.3f}")


if __name__ == "__main__":
    main()
