"""A reader without files, for the builder's tests: what it yields follows from the unit's number alone.

Importable by name in other processes, once this folder is on their path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grounding.data.records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, encode_png

FAULTS = ("missing", "bug", "late", "no picture", "mask size", "attributes", "text", "split", "overflow")


@dataclass(frozen=True)
class ToyReader:
    root: Path
    info: DatasetInfo
    units_: int = 12
    faults: tuple[str, ...] = ()  # fault of unit 0, 1, ...; "" for a sound one
    twins: tuple[int, ...] = ()  # units that show the picture of unit 0
    side: int = 48

    def units(self) -> Iterator[Unit]:
        for number in range(self.units_):
            yield Unit(f"case{number // 3}/slice{number}", {"number": number})

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        number = unit.payload["number"]
        fault = self.faults[number] if number < len(self.faults) else ""
        if fault == "missing":
            raise UnitError(f"{self.root}/{unit.key}: cannot be read; is the data set complete?")
        if fault == "bug":
            raise KeyError("a fault of the reader")
        yield self.image(unit, number, fault)
        if fault == "late":
            raise UnitError(f"{unit.key}: ends in the middle")

    def image(self, unit: Unit, number: int, fault: str = "") -> SourceImage:
        size = (self.side, self.side + 8)
        rng = np.random.default_rng(0 if number in self.twins else number)
        pixels = np.kron(rng.integers(0, 255, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(np.uint8)
        mask = np.zeros(size, dtype=bool)
        mask[4:16, 4:20] = mask[20:30, 24 : 30 + number % 5] = mask[40, 40] = True
        regions = (
            SourceRegion("liver", mask=mask[:-1] if fault == "mask size" else mask),
            SourceRegion("right_lung", box=np.array([-4.0, 2.0, 30.0, 20.5])),
            SourceRegion("spleen", mask=np.zeros(size, dtype=bool)),
            SourceRegion("unheard_of", box=np.array([1.0, 1.0, 3.0, 3.0]), attributes={"score": 0.5}),
        )
        return SourceImage(
            key=unit.key,
            picture=b"no picture" if fault == "no picture" else encode_png(pixels),
            size=size,
            regions=regions[: 1 + number % 4],
            annotated=("liver", "right_lung", "spleen", "left_lung"),
            file_name="\ud800" if fault == "text" else f"{unit.key}.png",
            modality="CT",
            patient=f"case{number // 3}",
            series=f"case{number // 3}",
            slice_index=3 * 2**40 if fault == "overflow" else number,
            split="somewhere" if fault == "split" else None,
            attributes={"value": object()} if fault == "attributes" else {},
        )
