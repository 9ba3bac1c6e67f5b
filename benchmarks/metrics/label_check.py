"""How good the labeller is: against hand-written hard sentences, and MeSH tags of the Indiana reports.

Knows both files' layouts and what tag stands for what observation. `benchmarks/bench_metrics.py` runs it.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.metrics.chexpert_rules import OBSERVATIONS
from benchmarks.metrics.labeller import Labels, State, label_report

CODES = dict(
    zip(
        ["NF", "ECM", "CM", "LO", "LL", "ED", "CO", "PN", "AT", "PX", "PE", "PO", "FR", "SD"],
        OBSERVATIONS,
        strict=True,
    )
)
"""Code in the file of hard sentences -> observation."""

STATES: dict[str, State] = {"+": "present", "-": "absent", "?": "uncertain"}

TAGS = {
    "No Finding": r"normal",
    "Enlarged Cardiomediastinum": r"Mediastinum/(enlarged|prominent|wid)",
    "Cardiomegaly": r"Cardiomegaly|Cardiac Shadow/enlarged",
    "Lung Opacity": r"Opacity|Infiltrate|Airspace Disease|Markings.*interstitial",
    "Lung Lesion": r"Nodule|Mass\b|Cavitation",
    "Edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia\b",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Pneumothorax": r"Pneumothorax|Hydropneumothorax|Hemopneumothorax",
    "Pleural Effusion": r"Pleural Effusion|Hydropneumothorax|Hemothorax|Hemopneumothorax",
    "Pleural Other": r"(Thickening|Cicatrix|Calcinosis|Density)/pleura|Pleura/",
    "Fracture": r"Fractures, Bone",
    "Support Devices": r"Catheters, Indwelling|Surgical Instruments|Implanted Medical Device|Tube, Inserted|"
    r"Medical Device|Stents|Sutures|Spinal Fusion",
}
"""Observation -> start of the expert's MeSH tags ("heading/qualifier/...") that say it."""


def read_hard_sentences(path: Path) -> list[tuple[str, Labels]]:
    """The sentences in the file's order; odd ones (first, third ...) may be looked at while tuning."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [(text, {CODES[c[:-1]]: STATES[c[-1]] for c in codes.split()}) for text, codes in rows]


def check_sentences(sentences: Sequence[tuple[str, Labels]]) -> dict[str, float]:
    """Share of sentences that are right as a whole, precision and recall of the (label, state) pairs."""
    read = [(_without_no_finding(label_report(text)), true) for text, true in sentences]
    right = sum(len(said.items() & true.items()) for said, true in read)
    return {
        "sentences": len(read),
        "whole": sum(said == true for said, true in read) / len(read),
        "labels": sum(len(true) for _, true in read),
        "precision": right / sum(len(said) for said, _ in read),
        "recall": right / sum(len(true) for _, true in read),
    }


def _without_no_finding(labels: Labels) -> Labels:
    return {name: state for name, state in labels.items() if name != "No Finding"}


def check_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision, recall and F1 of each observation against the tags, by both policies on doubt."""
    labels = [label_report(f"{report['findings']}\n{report['impression']}") for report in reports]
    by_observation, pooled = {}, {"positive": [0, 0, 0], "negative": [0, 0, 0]}
    for name, pattern in TAGS.items():
        tagged = [any(re.match(pattern, tag) for tag in report["mesh_major"]) for report in reports]
        row: dict[str, Any] = {"tagged": sum(tagged)}
        for policy, states in (("positive", {"present", "uncertain"}), ("negative", {"present"})):
            said = [found.get(name) in states for found in labels]
            counts = [sum(s and t for s, t in zip(said, tagged, strict=True)), sum(said), sum(tagged)]
            row[policy] = _figures(*counts)
            if name != "No Finding":
                pooled[policy] = [a + b for a, b in zip(pooled[policy], counts, strict=True)]
        by_observation[name] = row
    micro = {policy: _figures(*counts)["f1"] for policy, counts in pooled.items()}
    return {"reports": len(reports), "by observation": by_observation, "micro f1": micro}


def _figures(right: int, said: int, real: int) -> dict[str, float]:
    return {
        "precision": right / said if said else 0.0,
        "recall": right / real if real else 0.0,
        "f1": 2 * right / (said + real) if right else 0.0,
    }


def check_labeller(sentences: Path, reports: Path) -> dict[str, Any]:
    """Both checks, on the half that was looked at while the rules were tuned and on the half held apart."""
    hard = read_hard_sentences(sentences)
    with gzip.open(reports, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    odd, even = ([row for row in rows if int(row["uid"].removeprefix("CXR")) % 2 == k] for k in (1, 0))
    return {
        "hard": {"looked at": check_sentences(hard[0::2]), "held apart": check_sentences(hard[1::2])},
        "reports": {"tuned": check_reports(odd), "held apart": check_reports(even)},
    }
