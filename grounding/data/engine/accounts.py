"""The books of a build: what came in, what went out and why, by source, split and label.

The identity that :meth:`Ledger.check` proves for every source: units = read + quarantined; images = images
out + dropped by reason; annotations + parts - merged = regions out + dropped by reason. Knows no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..schema import SPLITS

COUNTED = (
    *("units", "units_read", "units_quarantined", "images", "images_out"),
    *("annotations", "parts", "merged", "clipped", "regions_out"),
)
"""What every source's account states, 0 where nothing was counted."""


class AccountingError(RuntimeError):
    """The counts of a build do not add up: something was lost or counted twice, a fault of the builder."""


def image_drop(image_id: str, regions: int, reason: str) -> dict[str, Any]:
    """A line of the log for a whole image that goes, with so many regions on it."""
    return {"image": image_id, "region": None, "regions": regions, "reason": reason}


class Account:
    """The counts of one source."""

    def __init__(self) -> None:
        """Open it empty."""
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self.images_dropped: Counter[str] = Counter()
        self.regions_dropped: Counter[str] = Counter()

    def drop(self, line: Mapping[str, Any]) -> None:
        """Count one line of the log of drops."""
        if line["region"] is None:
            self.images_dropped[line["reason"]] += 1
            self.regions_dropped[line["reason"]] += line["regions"]
        else:
            self.regions_dropped[line["reason"]] += 1

    def check(self, name: str) -> None:
        """Raise AccountingError unless everything that came in is accounted for."""
        counts = self.counts
        came_and_went = {
            "units": (counts["units"], counts["units_read"] + counts["units_quarantined"]),
            "images": (counts["images"], counts["images_out"] + self.images_dropped.total()),
            "regions": (
                counts["annotations"] + counts["parts"] - counts["merged"],
                counts["regions_out"] + self.regions_dropped.total(),
            ),
        }
        for what, (came, went) in came_and_went.items():
            if came != went:
                raise AccountingError(
                    f"{name}: {came} {what} came in, {went} are accounted for; delete the folder and build "
                    "again; if it stays so, it is a fault of the builder"
                )

    def as_mapping(self) -> dict[str, dict[str, int]]:
        """For the manifest."""
        return {
            "counts": dict(self.counts),
            "images_dropped": dict(self.images_dropped),
            "regions_dropped": dict(self.regions_dropped),
        }


class Ledger:
    """The accounts of all sources, and what the splits hold."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Open an account for each source."""
        self.names = names
        self.accounts = tuple(Account() for _ in names)
        self._splits = {split: Counter[str]() for split in SPLITS}
        self._labels = {split: Counter[str]() for split in SPLITS}

    def enter(self, summary: Mapping[str, Any]) -> None:
        """Take over what a part counted and dropped."""
        account = self.accounts[summary["source"]]
        account.counts.update(summary["counts"])
        for line in summary["drops"]:
            account.drop(line)

    def keep(self, source: int, split: str, rows: pa.RecordBatch) -> None:
        """Count rows that stay."""
        regions = rows.column("regions").flatten()
        self.accounts[source].counts.update(images_out=rows.num_rows, regions_out=len(regions))
        self._splits[split].update(images=rows.num_rows, regions=len(regions))
        for item in pc.value_counts(regions.field("label")).to_pylist():
            self._labels[split][item["values"]] += item["counts"]

    def check(self) -> None:
        """Raise AccountingError unless every account adds up."""
        for name, account in zip(self.names, self.accounts, strict=True):
            account.check(name)

    def splits(self) -> dict[str, dict[str, Any]]:
        """For the manifest: images, regions and regions by label of every split that has images."""
        return {
            split: {**counts, "labels": dict(self._labels[split])}
            for split, counts in self._splits.items()
            if counts
        }
