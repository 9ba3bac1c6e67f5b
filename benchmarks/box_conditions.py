"""The controls: which regions a prompt carries.

`none` omits them, `predicted` are the grounder's, `shuffled` those of another image, `oracle` the true ones,
which only questions about true boxes have.

A gain that "predicted" shows and "shuffled" shows too does not come from where the boxes are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.tasks.base import Sample
from grounding.types import Regions

CONDITIONS = ("none", "predicted", "shuffled", "oracle")


def read_regions(path: Path, samples: Sequence[Sample]) -> dict[str, Regions]:
    """Read regions.jsonl (one {"qid", "regions"} a line) for `samples`.

    Raises:
        ValueError: a sample has no line.
    """
    regions = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            regions[str(row["qid"])] = Regions.from_dict(row["regions"])
    missing = [s.sample_id for s in samples if s.sample_id not in regions]
    if missing:
        raise ValueError(
            f"{path}: expected regions for {len(samples)} samples, {len(missing)} are missing, "
            f"such as {missing[0]}; write them with `python -m medglip_agent.evidence` for this split, "
            "or leave --regions out"
        )
    return regions


def shuffle_regions(
    samples: Sequence[Sample],
    regions: Mapping[str, Regions],
    image_sizes: Mapping[str, tuple[int, int]],
    seed: int,
) -> dict[str, Regions]:
    """Give every sample the regions of another image of its stratum, scaled to its own image's size.

    Images are moved along one random cycle a stratum, so none keeps its own; all samples of one image get
    regions of the same other image, each those of a random sample of it. A stratum of one image takes from
    the next stratum.

    Args:
        samples: the whole evaluation set: what is drawn depends on it.
        regions: by sample id.
        image_sizes: (height, width) by `Sample.cluster`.
        seed: of the cycle and of the choice.

    Raises:
        ValueError: there is only one image.
    """
    rng = np.random.default_rng(seed)
    donor_of = _donors(samples, rng)
    ids_of: dict[str, list[str]] = {}
    for sample in samples:
        ids_of.setdefault(sample.cluster, []).append(sample.sample_id)
    shuffled = {}
    for sample in samples:
        donors = ids_of[donor_of[sample.cluster]]
        donor = regions[donors[int(rng.integers(len(donors)))]]
        shuffled[sample.sample_id] = rescale(donor, image_sizes[sample.cluster])
    return shuffled


def shuffle_alike(samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int) -> dict[str, Regions]:
    """Give every sample the regions of another image, as like its own question as there is one.

    Best is another patient's sample of the stratum (asks the same of the same phrases), then another image of
    the patient, then any other image. Regions are scaled to the image that gets them.

    Args:
        samples: the whole evaluation set: what is drawn depends on it.
        regions: by sample id, of the samples' own images.
        seed: of the choice.

    Raises:
        ValueError: there is only one image.
    """
    rng = np.random.default_rng(seed)
    strata: dict[str, list[Sample]] = {}
    for sample in samples:
        strata.setdefault(sample.stratum, []).append(sample)
    shuffled = {}
    for sample in samples:
        alike = [s for s in strata[sample.stratum] if s.image_path != sample.image_path]
        donors = [s for s in alike if s.cluster != sample.cluster] or alike
        donors = donors or [s for s in samples if s.image_path != sample.image_path]
        if not donors:
            raise ValueError("expected at least two images to shuffle regions between, got 1")
        donor = donors[int(rng.integers(len(donors)))]
        shuffled[sample.sample_id] = rescale(regions[donor.sample_id], regions[sample.sample_id].image_size)
    return shuffled


def _donors(samples: Sequence[Sample], rng: np.random.Generator) -> dict[str, str]:
    """A derangement of images: image -> the image whose regions it gets."""
    strata: dict[str, dict[str, None]] = {}
    for sample in samples:
        strata.setdefault(sample.stratum, {})[sample.cluster] = None
    images = [c for group in strata.values() for c in group]
    if len(images) < 2:
        raise ValueError(f"expected at least two images to shuffle regions between, got {len(images)}")
    donor_of: dict[str, str] = {}
    for group in strata.values():
        order = [list(group)[k] for k in rng.permutation(len(group))]
        if len(order) == 1:
            order.append(next(c for c in images if c != order[0]))
            donor_of[order[0]] = order[1]
        else:
            donor_of |= dict(zip(order, [*order[1:], order[0]], strict=True))
    return donor_of


def rescale(regions: Regions, image_size: tuple[int, int]) -> Regions:
    """The same relative boxes in an image of another (height, width); masks are dropped."""
    (height, width), (old_height, old_width) = image_size, regions.image_size
    factor = np.array([width / old_width, height / old_height] * 2, dtype=np.float32)
    limit = np.array([width, height] * 2, dtype=np.float32)
    boxes = np.minimum(regions.boxes * factor, limit)
    return replace(regions, boxes=boxes, image_size=image_size, masks=None)
