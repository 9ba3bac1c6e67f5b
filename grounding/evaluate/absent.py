"""Phrases that are not in the image: how often they are boxed all the same, and whether presence tells.

Owns two kinds of absence, kept apart: "annotated" is a label that the set annotates and that this image
lacks, "foreign" a label of another modality, drawn by seed. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..ontology import Ontology
from .detections import Detections, Threshold
from .matching import AT50, Matches, check_answers
from .resampling import Auroc, Floats, Ints, Metric, Ratio
from .targets import TargetSet

FOREIGN_PHRASES = 4
"""Foreign phrases asked of each image, as many as training mixes in at most."""


def draw_foreign(
    targets: TargetSet, others: Sequence[TargetSet], *, count: int = FOREIGN_PHRASES, seed: int = 0
) -> list[tuple[str, ...]]:
    """For each image, up to `count` labels of other sets that its modality cannot show.

    A label is left out where its set holds images of the same or an unknown modality, and where the label
    tree says that the image's modality shows it too (an abdominal CT shows the base of the lungs). An image
    of unknown modality gets none, since nothing is then known to be absent.
    """
    ontology, rng = Ontology.load(), np.random.default_rng(seed)
    known = set(ontology.names)
    drawn = []
    for target in targets.targets:
        possible = {
            label
            for other in others
            if target.modality is not None
            and not {target.modality, None} & {each.modality for each in other.targets}
            for label in other.labels
            if label not in targets.labels
            and not (label in known and target.modality in ontology.label(label).modalities)
        }
        ordered = sorted(possible)
        chosen = rng.permutation(len(ordered))[:count]
        drawn.append(tuple(ordered[i] for i in chosen))
    return drawn


def absent_metrics(
    targets: TargetSet, own: Sequence[Detections], foreign: Sequence[Detections], threshold: Threshold
) -> dict[str, Metric]:
    """False positives and presence, each kind of absence apart.

    `phrase_recall` = share of present labels with a box shown at the threshold; `false_positives_annotated`
    and `false_positives_foreign` = the same share of absent ones; `auroc_annotated` and `auroc_foreign` =
    presence of present labels against that of absent ones. A kind that does not occur has no figure.

    Args:
        targets: the set.
        own: answers to the set's labels, image by image.
        foreign: answers to the drawn labels (see `draw_foreign`), image by image.
        threshold: what is shown.

    Raises:
        ValueError: the answers do not fit the set.
    """
    check_answers(targets, own)
    n_images = len(targets.targets)
    image, presence, claimed = _units(own, threshold)
    there = present(targets).ravel()
    other_image, other_presence, other_claimed = _units(foreign, threshold)
    absent = {
        "annotated": (image[~there], presence[~there], claimed[~there]),
        "foreign": (other_image, other_presence, other_claimed),
    }
    metrics: dict[str, Metric] = {"phrase_recall": Ratio.of_units(claimed[there], image[there], n_images)}
    for kind, (where, scores, boxed) in absent.items():
        if not len(where):
            continue
        metrics[f"false_positives_{kind}"] = Ratio.of_units(boxed, where, n_images)
        if there.any():
            metrics[f"auroc_{kind}"] = Auroc(
                np.concatenate([presence[there], scores]),
                np.arange(there.sum() + len(scores)) < there.sum(),
                np.concatenate([image[there], where]),
            )
    return metrics


def present(targets: TargetSet) -> npt.NDArray[np.bool_]:
    """(I, P) whether each image has a box of each label."""
    labels = np.arange(len(targets.labels))
    there = [np.isin(labels, target.labels) for target in targets.targets]
    return np.array(there, dtype=np.bool_).reshape(len(there), len(labels))


def box_recall(
    matches: Matches, targets: TargetSet, own: Sequence[Detections], threshold: Threshold
) -> Ratio:
    """Share of true boxes that a box shown at the threshold takes at IoU .5; `matches` are of `own`."""
    least = np.array([answer.least(threshold) for answer in own]).reshape(len(own), len(targets.labels))
    shown = matches.hits[AT50] & (matches.scores >= least[matches.image, matches.label])
    found = np.bincount(matches.image[shown], minlength=len(matches.n_true)).astype(np.float64)
    return Ratio(found, matches.n_true.sum(axis=1))


def _units(answers: Sequence[Detections], threshold: Threshold) -> tuple[Ints, Floats, Floats]:
    """(U,) image, presence and whether claimed, of every phrase asked, in order."""
    image = np.repeat(np.arange(len(answers)), [len(answer.presence) for answer in answers])
    presence = np.concatenate([np.zeros(0), *(answer.presence for answer in answers)])
    claimed = np.concatenate([np.zeros(0), *(answer.claimed(threshold) for answer in answers)])
    return image.astype(np.int64), presence, claimed
