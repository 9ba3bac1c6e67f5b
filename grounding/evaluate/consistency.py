"""Whether the lesions that are shown lie in their organ, by the label tree; needs no truth.

Owns the share; which region lies where is `grounding.hierarchy`'s business. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..hierarchy import consistent
from ..ontology import Ontology
from .detections import Detections, Threshold
from .resampling import Ratio


def organ_metric(answers: Sequence[Detections], threshold: Threshold) -> Ratio:
    """Of the lesions shown whose organ is shown too, the share whose centre lies in it.

    nan where no lesion is shown together with an organ above it in the label tree: what has not been asked
    for, or not been found, cannot contain anything.
    """
    ontology = Ontology.load()
    verdicts = [consistent(answer.regions[answer.shown(threshold)], ontology) for answer in answers]
    checked = [[float(verdict) for verdict in own if verdict is not None] for own in verdicts]
    return Ratio(np.array([sum(own) for own in checked]), np.array([float(len(own)) for own in checked]))
