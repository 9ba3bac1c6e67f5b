"""Controls: whose regions a question gets."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.box_conditions import read_regions, shuffle_regions
from benchmarks.tasks.base import Sample
from grounding.types import Regions


def sample(number, image, stratum="CHEST"):
    return Sample(str(number), Path(image), "q", "a", image, {}, stratum)


def regions(x, size=(100, 200)):
    return Regions(
        boxes=np.array([[x, 10, x + 20, 50]], dtype=np.float32),
        scores=np.array([0.5], dtype=np.float32),
        phrase_index=np.array([0]),
        asked=("lung",),
        image_size=size,
    )


SAMPLES = [
    sample(1, "a"),
    sample(2, "a"),
    sample(3, "b"),
    sample(4, "c"),
    sample(5, "d", "HEAD"),
    sample(6, "e", "HEAD"),
]
OWN = {s.sample_id: regions(int(s.sample_id)) for s in SAMPLES}
SIZES = {s.cluster: (100, 200) for s in SAMPLES}
IMAGE_OF_X = {float(s.sample_id): s.cluster for s in SAMPLES}


@pytest.mark.parametrize("seed", range(8))
def test_no_image_keeps_its_regions_and_strata_stay_apart(seed):
    shuffled = shuffle_regions(SAMPLES, OWN, SIZES, seed)
    stratum = {s.cluster: s.stratum for s in SAMPLES}
    donors = {}
    for s in SAMPLES:
        donor = IMAGE_OF_X[float(shuffled[s.sample_id].boxes[0, 0])]
        assert donor != s.cluster
        assert stratum[donor] == s.stratum
        donors.setdefault(s.cluster, set()).add(donor)
    assert all(len(d) == 1 for d in donors.values())  # one donor an image
    assert len(set.union(*donors.values())) == 5  # and each image gives once


def test_seed_decides():
    def drawn(seed):
        return [float(r.boxes[0, 0]) for r in shuffle_regions(SAMPLES, OWN, SIZES, seed).values()]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(6)}) > 1


def test_boxes_are_scaled_to_the_receiving_image():
    pair = [sample(1, "a"), sample(2, "b")]
    own = {"1": regions(20, size=(100, 200)), "2": regions(0, size=(50, 100))}
    shuffled = shuffle_regions(pair, own, {"a": (100, 200), "b": (50, 100)}, 0)
    assert shuffled["2"].image_size == (50, 100)
    assert shuffled["2"].boxes.tolist() == [[10, 5, 20, 25]]
    assert shuffled["1"].boxes.tolist() == [[0, 20, 40, 100]]
    assert shuffled["1"].asked == ("lung",)


def test_a_stratum_of_one_image_borrows_and_one_image_alone_is_refused():
    three = [sample(1, "a"), sample(2, "b"), sample(3, "c", "HEAD")]
    shuffled = shuffle_regions(three, OWN, SIZES, 0)
    assert float(shuffled["3"].boxes[0, 0]) in (1.0, 2.0)
    with pytest.raises(ValueError, match="at least two images"):
        shuffle_regions([sample(1, "a"), sample(2, "a")], OWN, SIZES, 0)


def test_regions_file_round_trip_and_a_missing_question(tmp_path):
    path = tmp_path / "regions.jsonl"
    path.write_text("".join(json.dumps({"qid": k, "regions": r.to_dict()}) + "\n" for k, r in OWN.items()))
    read = read_regions(path, SAMPLES)
    assert read["4"].boxes.tolist() == OWN["4"].boxes.tolist()
    with pytest.raises(ValueError, match="1 are missing, such as 99"):
        read_regions(path, [*SAMPLES, sample(99, "a")])
