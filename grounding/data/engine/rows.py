"""One source image to one native row: labels, phrases, negatives, split and hash.

Owns what a row of `schema.SCHEMA` holds. Knows no parquet writer, no reader and no order: a row depends on
its image, the configuration and the ontology alone, so it is the same in whatever process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...ontology import Label
from ..records import DatasetInfo, SourceImage
from .config import BuildConfig, SourceConfig
from .perceptual_hash import perceptual_hash
from .regions import Drop, Region, make_regions
from .splits import is_thinned, official_split, patient_split, stable_fraction, stable_hash

Row = dict[str, Any]


class Labels(Protocol):
    """What is asked of the ontology."""

    def canonical(self, raw: str, modality: str | None = None) -> Label | None:
        """The label that a source's spelling stands for."""
        ...

    def phrases(self, name: str, modality: str | None = None) -> tuple[str, ...]:
        """Ways to ask for a label."""
        ...

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All that a label is a part of."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one image: annotations + parts - merged = regions of the row + drops.

    Attributes:
        row: the native row, None where slices are thinned and this one goes with all its annotations.
        image_id: "<dataset>/<source key>".
        annotations: of the source.
        drops: regions that do not stay.
        parts: see :class:`grounding.data.engine.regions.RegionSet`.
        merged: the same.
        clipped: the same.
    """

    row: Row | None
    image_id: str
    annotations: int
    drops: tuple[Drop, ...] = ()
    parts: int = 0
    merged: int = 0
    clipped: int = 0


class RowMaker:
    """Makes the rows of one source; remembers what the ontology says of a spelling."""

    def __init__(
        self, source: SourceConfig, info: DatasetInfo, config: BuildConfig, ontology: Labels
    ) -> None:
        """Take what all rows of the source share.

        Args:
            source: its part of the configuration.
            info: of its reader.
            config: seed, fractions and thresholds.
            ontology: labels and phrases.
        """
        self._source = source
        self._info = info
        self._config = config
        self._ontology = ontology
        self._labels: dict[tuple[str, str | None], Label | None] = {}

    def make(self, image: SourceImage) -> Outcome:
        """The row of one image, and what was dropped on the way.

        Raises:
            ValueError: the image names a split of no known kind, or an attribute that JSON cannot hold.
        """
        image_id = f"{self._info.name}/{image.key}"
        if is_thinned(image.series, image.slice_index, self._source.keep_every):
            return Outcome(None, image_id, len(image.regions))
        found = make_regions(image, self._source.policy, self._source.boxes, self._config.regions)
        row = self._row(image, image_id, found.regions)
        return Outcome(
            row, image_id, len(image.regions), found.drops, found.parts, found.merged, found.clipped
        )

    def _row(self, image: SourceImage, image_id: str, regions: Sequence[Region]) -> Row:
        modality = image.modality or self._info.modality
        annotated = list(dict.fromkeys(self._name(raw, modality) for raw in image.annotated))
        patient = self._patient(image)
        series = stable_hash("series", self._info.name, image.series) if image.series else ""
        return {
            "image_id": image_id,
            "image": {"bytes": image.picture, "path": None},
            "height": image.size[0],
            "width": image.size[1],
            "dataset": self._info.name,
            "licence": _licence(image.attributes) or self._info.licence,
            "file_name": image.file_name,
            "modality": modality or "",
            "body_region": self._body_region(regions, modality),
            "patient": patient,
            "series": series,
            "slice_index": -1 if image.slice_index is None else image.slice_index,
            "axis": image.axis or "",
            "window": list(image.window or ()),
            "orientation": list(image.orientation or ()),
            "spacing_mm": list(image.spacing_mm or ()),
            "perceptual_hash": f"{perceptual_hash(image.picture):016x}",
            "split": self._split(image, patient or series or image_id),
            "annotated_labels": annotated,
            "absent_labels": self._absent(annotated, image, modality),
            "attributes": as_json(image.attributes),
            "regions": [
                self._region(region, modality, (image_id, number)) for number, region in enumerate(regions)
            ],
        }

    def _region(self, region: Region, modality: str | None, place: tuple[str, int]) -> Row:
        label = self._label(region.label, modality)
        return {
            "box": region.box.tolist(),
            "label": label.name if label else region.label,
            "raw_label": region.label,
            "known": label is not None,
            "granularity": label.granularity if label else "",
            "parent": label.parent if label else "",
            "side": (label.side if label else None) or "",
            "phrase": self._phrase(region, label, modality, place),
            "mask": region.mask,
            "area": region.area,
            "source_index": region.source_index,
            "attributes": as_json(region.source.attributes),
        }

    def _phrase(
        self, region: Region, label: Label | None, modality: str | None, place: tuple[str, int]
    ) -> str:
        """The source's own phrase, or one of the ontology's, or the raw label in plain words."""
        own = region.source.attributes.get("phrase")
        if isinstance(own, str) and own.strip():
            return own.strip()
        phrases = self._ontology.phrases(label.name, modality) if label else ()
        if not phrases:
            return (label.name if label else region.label).replace("_", " ")
        drawn = stable_fraction("phrase", self._config.seed, *place)
        return phrases[int(drawn * len(phrases))]

    def _absent(self, annotated: Sequence[str], image: SourceImage, modality: str | None) -> list[str]:
        """Annotated labels of which neither they nor a part of them is there, dropped regions included."""
        present: set[str] = set()
        for raw in {region.label for region in image.regions}:
            label = self._label(raw, modality)
            present.add(label.name if label else raw)
            if label:  # a left lung is a lung is a part of the thorax
                present.update(self._ontology.ancestors(label.name))
        return [name for name in annotated if name not in present]

    def _patient(self, image: SourceImage) -> str:
        if not image.patient:
            return ""
        return stable_hash("patient", self._source.patients or self._info.name, image.patient)

    def _split(self, image: SourceImage, group: str) -> str:
        if self._source.splits == "official" and image.split:
            return official_split(image.split)
        return patient_split(group, self._config.seed, self._config.val_fraction, self._config.test_fraction)

    def _body_region(self, regions: Sequence[Region], modality: str | None) -> str:
        """The source's, or the one that all known labels share."""
        if self._info.body_region:
            return self._info.body_region
        labels = [self._label(region.label, modality) for region in regions]
        shown = {label.body_region for label in labels if label}
        return shown.pop() or "" if len(shown) == 1 else ""

    def _name(self, raw: str, modality: str | None) -> str:
        label = self._label(raw, modality)
        return label.name if label else raw

    def _label(self, raw: str, modality: str | None) -> Label | None:
        key = raw, modality
        if key not in self._labels:
            self._labels[key] = self._ontology.canonical(raw, modality)
        return self._labels[key]


def as_json(values: Mapping[str, Any]) -> str:
    """Attributes as one line of JSON, keys sorted; "{}" for none.

    Raises:
        ValueError: they hold what JSON cannot.
    """
    if not values:
        return "{}"
    try:
        return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"attributes must be JSON-able, got {dict(values)!r} ({error})") from error


def _licence(attributes: Mapping[str, Any]) -> str:
    """The licence of a single picture, as readers keep it: a text, or a record with a name."""
    licence = attributes.get("licence")
    if isinstance(licence, Mapping):
        licence = licence.get("name")
    return licence if isinstance(licence, str) else ""
