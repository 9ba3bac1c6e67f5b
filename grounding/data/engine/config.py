"""What a build is made of: sources, policies and thresholds, from YAML or in code; and which reader is which.

Owns `BuildConfig`, `SourceConfig` and the one dictionary that names readers. Imports a reader's module only
when a source asks for it. Knows no parquet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_type_hints

import yaml

from ...config import from_mapping
from ..records import DatasetInfo, Reader
from .regions import BOX_SOURCES, POLICIES, BoxSource, Policy, RegionRules

SplitSource = Literal["official", "patient"]

_READERS: Final = "..readers"
READERS: Final[dict[str, str]] = {
    "sa_med2d": f"{_READERS}.sa_med2d:SaMed2D",
    "sam_med2d": f"{_READERS}.sam_med2d:SamMed2D",
    "imed361m": f"{_READERS}.imed361m:Imed361M",
    "biomedparse": f"{_READERS}.biomedparse:BiomedParse",
    "totalsegmentator": f"{_READERS}.volumes:TotalSegmentator",
    "brats2021": f"{_READERS}.volumes:Brats2021",
    "brats2023": f"{_READERS}.volumes:Brats2023",
    "kits2019": f"{_READERS}.volumes:Kits2019",
    "kits2023": f"{_READERS}.volumes:Kits2023",
    "decathlon": f"{_READERS}.volumes:Decathlon",
    "nifti": f"{_READERS}.volumes:VolumeReader",
    "chestx_det": f"{_READERS}.chestx_det:ChestXDet",
    "vindr_cxr": f"{_READERS}.vindr_cxr:VinDrCxr",
    "ms_cxr": f"{_READERS}.ms_cxr:MsCxr",
    "coco": f"{_READERS}.coco_json:CocoJson",
    "pascal_voc": f"{_READERS}.pascal_voc:PascalVoc",
    "yolo": f"{_READERS}.yolo:Yolo",
    "labelme": f"{_READERS}.labelme:LabelMe",
    "odvg": f"{_READERS}.odvg:Odvg",
    "mdetr": f"{_READERS}.mdetr:Mdetr",
}
"""Name in a configuration -> module:class, a frozen dataclass with the fields ``root`` and ``info``."""


@dataclass(frozen=True)
class SourceConfig:
    """One source of a build. Empty texts leave what the reader knows.

    Attributes:
        reader: a name in `READERS`.
        path: the source's folder.
        name: short name, unique within the build; it becomes part of every image id.
        licence: as the source states it.
        attribution: whom to credit.
        url: where it comes from.
        modality: DICOM code of all its images.
        body_region: region of the ontology that all its images show.
        policy: what a mask becomes, see :func:`grounding.data.engine.regions.make_regions`.
        boxes: the source's box as "given", or tight round the "mask", where there are both.
        splits: "official" keeps the source's own where it has them; "patient" draws all of them by patient.
        patients: name that sources share when their patient ids mean the same people; empty: `name`.
        keep_every: of neighbouring slices keep those whose index is a multiple of it.
        block_units: units a worker takes at once; fewer for volumes.
        options: further fields of the reader, such as ``axes`` or ``exhaustive``.
    """

    reader: str
    path: Path
    name: str = ""
    licence: str = ""
    attribution: str = ""
    url: str = ""
    modality: str = ""
    body_region: str = ""
    policy: Policy = "keep"
    boxes: BoxSource = "given"
    splits: SplitSource = "official"
    patients: str = ""
    keep_every: int = 1
    block_units: int = 256
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and ranges."""
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "options", dict(self.options or {}))
        _one_of("reader", self.reader, tuple(READERS))
        _one_of("policy", self.policy, POLICIES)
        _one_of("boxes", self.boxes, BOX_SOURCES)
        _one_of("splits", self.splits, get_args(SplitSource))
        if "/" in self.name:
            raise ValueError(f"expected a source name without '/', got {self.name!r}")
        if self.keep_every < 1 or self.block_units < 1:
            raise ValueError(
                f"keep_every and block_units must be 1 or more, got {self.keep_every} and {self.block_units}"
            )


@dataclass(frozen=True)
class BuildConfig:
    """A whole build.

    Attributes:
        sources: in this order; of near-duplicates the first one stays.
        seed: of splits and phrases.
        val_fraction: share of the patients without an official split that go to val.
        test_fraction: the same for test.
        duplicate_bits: pictures of one modality whose perceptual hashes differ in at most so many of 64 bits
            are one picture; None keeps all of them. Not for sets whose pictures look alike by nature.
        shard_megabytes: size in pictures from which a new parquet file is begun.
        regions: what is too small to keep.
    """

    sources: tuple[SourceConfig, ...]
    seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    duplicate_bits: int | None = 2
    shard_megabytes: int = 256
    regions: RegionRules = field(default_factory=RegionRules)

    def __post_init__(self) -> None:
        """Check ranges."""
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.sources:
            raise ValueError("a build needs at least one source; list them under `sources`")
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction > 1:
            raise ValueError(
                "val_fraction and test_fraction must be >= 0 and at most 1 together, "
                f"got {self.val_fraction} and {self.test_fraction}"
            )
        if self.duplicate_bits is not None and not 0 <= self.duplicate_bits <= 4:
            raise ValueError(f"duplicate_bits must be 0 to 4, or null for none, got {self.duplicate_bits}")
        if self.shard_megabytes < 1:
            raise ValueError(f"shard_megabytes must be 1 or more, got {self.shard_megabytes}")


def load_build_config(path: Path) -> BuildConfig:
    """Read a build from YAML; paths of sources are relative to the working directory.

    Raises:
        ValueError: a field is unknown (the nearest is named), missing or out of range.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict) or not isinstance(values.get("sources"), list):
        raise ValueError(f"{path}: expected a mapping with a list of `sources`")
    sources = tuple(
        from_mapping(SourceConfig, source, f"{path}: sources[{index}]")
        for index, source in enumerate(values["sources"])
    )
    return from_mapping(BuildConfig, {**values, "sources": sources}, str(path))


def open_reader(source: SourceConfig) -> Reader:
    """The reader of a source, its module imported only now.

    Raises:
        ValueError: an option is no field of the reader; the nearest is named.
        UnitError: the index that names a COCO source's licences is broken.
    """
    module_name, _, class_name = READERS[source.reader].partition(":")
    module = import_module(module_name, __package__)
    kind = getattr(module, class_name)
    info = {item.name: item.default for item in fields(kind)}.get("info", MISSING)
    if source.reader == "coco" and "files" not in source.options:
        info = module.coco_info(source.path)
    elif info is MISSING:
        info = DatasetInfo(source.path.name)
    stated = {item.name: getattr(source, item.name) for item in fields(DatasetInfo)}
    info = replace(info, **{name: value for name, value in stated.items() if value})
    hints = get_type_hints(kind)
    options = {name: _option(name, value, hints.get(name)) for name, value in source.options.items()}
    where = f"options of {source.reader} {info.name!r}"
    return cast(Reader, from_mapping(kind, {**options, "root": source.path, "info": asdict(info)}, where))


def config_mapping(config: BuildConfig) -> dict[str, Any]:
    """The configuration as JSON has it."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def changed_fields(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, one line a field: ``sources[0].policy: 'keep' -> 'union'``."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(key for key in new if key not in old)]
        pairs = [(f"{name}.{key}" if name else key, old.get(key), new.get(key)) for key in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{name}[{i}]", *both) for i, both in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{name}: {old!r} -> {new!r}"]
    return [line for key, before, after in pairs for line in changed_fields(before, after, key)]


def _option(name: str, value: Any, hint: Any) -> Any:
    """An option as readers take it: lists of YAML as tuples, folders as paths, a layout as its class."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and (hint is Path or Path in get_args(hint)):
        return Path(value)
    if name == "layout":
        from ..readers.volume_layouts import CaseFolders

        return from_mapping(CaseFolders, value, "layout")
    return value


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(allowed)}"
        raise ValueError(f"{name}: no {value!r}; {hint}")
