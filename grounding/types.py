"""The values that flow between the parts: an image to look at, and the regions found in it.

Frozen, validated in the constructor, numpy only (no torch). This module knows nothing about files, models or
tokens. `image_size` is (height, width) everywhere; boxes are float32 xyxy in pixels of the original image,
origin top-left.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

MODALITIES: Mapping[str, str] = {
    "CR": "computed radiography",
    "DX": "digital radiography",
    "CT": "computed tomography",
    "MR": "magnetic resonance",
    "US": "ultrasound",
    "ES": "endoscopy",
    "DMS": "dermoscopy",
    "OP": "fundus photography",
    "SM": "slide microscopy",
    "MG": "mammography",
    "PT": "positron emission tomography",
    "NM": "nuclear medicine",
    "XA": "X-ray angiography",
    "RF": "radiofluoroscopy",
    "OPT": "optical coherence tomography",
}
"""DICOM modality codes that the project names (PS3.3 C.7.3.1.1.1); another valid code is kept as it is."""

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,15}")


@dataclass(frozen=True)
class PixelSpacing:
    """Distance between pixel centres in mm: `row_mm` between rows (down), `col_mm` between columns (across).

    `kind` says where it was measured: "pixel" in the patient, "detector" at the detector (ImagerPixelSpacing
    of a projection X-ray, larger than in the patient by an unknown magnification).

    Raises:
        ValueError: a distance is not finite and positive, or the kind is unknown.
    """

    row_mm: float
    col_mm: float
    kind: Literal["pixel", "detector"] = "pixel"

    def __post_init__(self) -> None:
        """Check the distances and the kind."""
        if not all(math.isfinite(mm) and mm > 0 for mm in (self.row_mm, self.col_mm)):
            raise ValueError(f"pixel spacing must be finite and > 0 mm, got {(self.row_mm, self.col_mm)}")
        if self.kind not in ("pixel", "detector"):
            raise ValueError(f"kind of pixel spacing must be 'pixel' or 'detector', got {self.kind!r}")


@dataclass(frozen=True)
class Window:
    """A grey-level window in rescaled units (HU for CT): `center` and full `width` (DICOM C.11.2.1.2).

    Raises:
        ValueError: the centre is not finite, or the width is not finite and positive.
    """

    center: float
    width: float

    def __post_init__(self) -> None:
        """Check the centre and the width."""
        if not (math.isfinite(self.center) and math.isfinite(self.width) and self.width > 0):
            raise ValueError(
                f"window needs a finite center and a width > 0, got center {self.center}, width {self.width}"
            )


@dataclass(frozen=True, eq=False)
class MedicalImage:
    """One picture as the models see it, with what is known about it and without any patient identifier.

    Args:
        pixels: uint8 (H, W, 3) RGB; copied, contiguous and read-only.
        modality: DICOM code (see `MODALITIES`), None = unknown.
        spacing: pixel spacing, None = unknown.
        orientation: patient direction of (increasing column, increasing row) in DICOM letters L R A P H F,
            such as ("L", "P") for an axial slice in radiological convention; None = unknown: sides are then
            the picture's.
        window: the grey window that was applied, None = none.
        source_id: sha256 of the pixels when left empty; never a path or a patient identifier.

    Raises:
        TypeError: `pixels` is not a uint8 array.
        ValueError: the shape is not (H, W, 3), or the modality or orientation is not in DICOM's letters.
    """

    pixels: npt.NDArray[np.uint8]
    modality: str | None = None
    spacing: PixelSpacing | None = None
    orientation: tuple[str, str] | None = None
    window: Window | None = None
    source_id: str = ""

    def __post_init__(self) -> None:
        """Check the fields, take a read-only copy of the pixels and name it by its hash."""
        given = self.pixels
        if not isinstance(given, np.ndarray) or given.dtype != np.uint8:
            kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
            raise TypeError(
                f"pixels must be a uint8 array, got {kind}; "
                "read files with MedicalImage.open, which applies a window"
            )
        if given.ndim != 3 or given.shape[2] != 3 or 0 in given.shape:
            raise ValueError(
                f"pixels must be (H, W, 3) with H, W > 0, got {given.shape}; "
                "use MedicalImage.from_array for grey"
            )
        if self.modality is not None and not _CODE.fullmatch(self.modality):
            raise ValueError(
                f"modality must be a DICOM code such as {', '.join(MODALITIES)}, got {self.modality!r}"
            )
        if self.orientation is not None:
            check_orientation(self.orientation)
        pixels = np.array(given, order="C")
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)
        if not self.source_id:
            digest = hashlib.sha256(repr(pixels.shape).encode())
            digest.update(pixels.data)
            object.__setattr__(self, "source_id", digest.hexdigest())

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), in pixels."""
        return self.height, self.width

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        frame: int | None = None,
        window: Window | None = None,
        modality: str | None = None,
    ) -> MedicalImage:
        """Read one picture of a file: PNG, JPEG, TIFF, BMP, DICOM, or a NIfTI slice.

        Args:
            path: the file; its content decides the format, not its name.
            frame: which frame, page or slice, from 0 (negative counts from the end); None = the first, or the
                middle slice of a volume.
            window: grey window in rescaled units; None = the file's own, or one from the data.
            modality: overrides what the file says.

        Raises:
            grounding.images.ImageError: the file is missing, damaged, too large or not such an image.
        """
        from .images import open_source

        return open_source(path, modality=modality).render(frame=frame, window=window)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.uint8], *, modality: str | None = None) -> MedicalImage:
        """Wrap a uint8 array: (H, W) grey or (H, W, 3) RGB.

        Raises:
            TypeError: the array is not uint8.
            ValueError: the shape is neither (H, W) nor (H, W, 3).
        """
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        return cls(array, modality=modality)


def check_orientation(orientation: tuple[str, str]) -> None:
    """Refuse what is not two directions of one to three letters L R A P H F, one an axis (DICOM C.7.6.1.1.1).

    Raises:
        ValueError: another number of directions, or other letters (those of quadrupeds, for one).
    """
    if len(orientation) != 2:
        raise ValueError(f"orientation must be (of columns, of rows), got {orientation!r}")
    pairs = ("LR", "AP", "HF")
    for letters in orientation:
        hits = [sum(letters.count(letter) for letter in pair) for pair in pairs]
        if not 1 <= len(letters) <= 3 or sum(hits) != len(letters) or max(hits) > 1:
            raise ValueError(
                f"orientation must be two directions in letters L R A P H F, got {orientation!r}"
            )


@dataclass(frozen=True, eq=False)
class GroundedRegion:
    """One region: `box` float32 (4,) xyxy pixels, `mask` bool (H, W) or None, `index` in its `Regions`."""

    box: npt.NDArray[np.float32]
    score: float
    phrase: str
    mask: npt.NDArray[np.bool_] | None
    index: int


Selection = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[bool] | slice
"""What `Regions.__getitem__` takes: a boolean mask (N,), indices, or a slice."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions found for a list of phrases in one image; none found is a defined, empty value.

    Args:
        boxes: float32 (N, 4) xyxy, pixels of the original image; may reach past its edges (see
            `boxes.clip_boxes`).
        scores: float32 (N,) in [0, 1].
        phrase_index: int64 (N,), position of each region's phrase in `asked`.
        asked: every phrase that was asked for, found or not.
        image_size: (height, width) of the original image.
        masks: bool (N, H, W), True inside; None = boxes only.
        doubted: bool (N,), True where a region is only the best guess for a phrase that was not found (see
            `guesses`); those come last. Left out, no region is.

    Raises:
        ValueError: shapes disagree, a number is not finite, a box is inside out, a score lies outside [0, 1],
            a phrase index points outside `asked`, or a region that was found stands behind a guess.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    phrase_index: npt.NDArray[np.int64]
    asked: tuple[str, ...]
    image_size: tuple[int, int]
    masks: npt.NDArray[np.bool_] | None = None
    doubted: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        """Take read-only copies of the arrays and check them together."""
        boxes = np.array(self.boxes, dtype=np.float32)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        asked = (self.asked,) if isinstance(self.asked, str) else tuple(self.asked)
        fields: dict[str, Any] = {
            "boxes": boxes,
            "scores": np.array(self.scores, dtype=np.float32),
            "phrase_index": _indices(self.phrase_index),
            "asked": asked,
            "image_size": _image_size(self.image_size),
            "masks": None if self.masks is None else np.array(self.masks),
            "doubted": np.array(self.doubted, dtype=np.bool_),
        }
        if not fields["doubted"].size:
            fields["doubted"] = np.zeros(len(boxes), dtype=np.bool_)
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        count = len(self.boxes)
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes must be (N, 4) xyxy pixels, got {self.boxes.shape}")
        for name in ("scores", "phrase_index", "doubted"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{name} must be ({count},) to match boxes, got {getattr(self, name).shape}")
        if (self.doubted[:-1] & ~self.doubted[1:]).any():
            raise ValueError("doubted regions must come last; put what was found before the guesses")
        if not np.isfinite(self.boxes).all():
            raise ValueError("boxes must be finite; drop rows with NaN or infinity first")
        if (self.boxes[:, 2:] < self.boxes[:, :2]).any():
            raise ValueError(
                "boxes must have x1 <= x2 and y1 <= y2 (xyxy); convert xywh with boxes.xywh_to_xyxy"
            )
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores must lie in [0, 1]; apply a sigmoid to logits first")
        if any(not isinstance(phrase, str) or not phrase for phrase in self.asked):
            raise ValueError(f"asked must hold non-empty strings, got {self.asked!r}")
        if count and not (self.phrase_index.min() >= 0 and self.phrase_index.max() < len(self.asked)):
            raise ValueError(
                f"phrase_index must point into the {len(self.asked)} asked phrases, got "
                f"{self.phrase_index.min()}..{self.phrase_index.max()}"
            )
        if self.masks is not None and (
            self.masks.dtype != np.bool_ or self.masks.shape != (count, *self.image_size)
        ):
            raise ValueError(
                f"masks must be bool {(count, *self.image_size)}, got {self.masks.dtype} {self.masks.shape}"
            )

    @classmethod
    def empty(cls, image_size: tuple[int, int], asked: Sequence[str] = ()) -> Regions:
        """No region found: `asked` phrases are all missing."""
        none = np.zeros(0, dtype=np.float32)
        return cls(none.reshape(0, 4), none, np.zeros(0, dtype=np.int64), tuple(asked), image_size)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The phrase of each region, (N,)."""
        return tuple(self.asked[index] for index in self.phrase_index)

    @property
    def missing(self) -> tuple[str, ...]:
        """The asked phrases without a region, or with a doubted one only, in the order asked."""
        found = set(self.found.phrases)
        return tuple(phrase for phrase in self.asked if phrase not in found)

    @property
    def found(self) -> Regions:
        """The regions without the doubted ones."""
        return self[~self.doubted] if self.doubted.any() else self

    @property
    def guesses(self) -> dict[str, npt.NDArray[np.float32]]:
        """Phrase -> box (4,) xyxy of the doubted regions."""
        return {self.phrases[index]: self.boxes[index] for index in np.flatnonzero(self.doubted)}

    def __len__(self) -> int:
        """N, the number of regions, doubted ones included."""
        return len(self.boxes)

    def __getitem__(self, which: Selection) -> Regions:
        """The chosen regions; `asked` stays whole, so what is left out may become missing."""
        chosen = which if isinstance(which, slice) else _selector(which, len(self))
        masks = None if self.masks is None else self.masks[chosen]
        return Regions(
            self.boxes[chosen],
            self.scores[chosen],
            self.phrase_index[chosen],
            self.asked,
            self.image_size,
            masks,
            self.doubted[chosen],
        )

    def __iter__(self) -> Iterator[GroundedRegion]:
        """The regions one by one, in order."""
        for index, (box, score, phrase) in enumerate(zip(self.boxes, self.scores, self.phrases, strict=True)):
            mask = None if self.masks is None else self.masks[index]
            yield GroundedRegion(box, float(score), phrase, mask, index)

    def above(self, threshold: float) -> Regions:
        """The regions with a score of at least `threshold`."""
        return self[self.scores >= threshold]

    def sorted(self) -> Regions:
        """By falling score, guesses behind what was found; equal scores keep their order."""
        return self[np.lexsort((-self.scores, self.doubted))]

    def guessing(self, boxes: npt.ArrayLike, scores: npt.ArrayLike, phrase_index: npt.ArrayLike) -> Regions:
        """The regions with guesses behind them: boxes (G, 4), scores (G,), phrase_index (G,); masks go."""
        count = len(np.atleast_1d(scores))
        return Regions(
            np.concatenate([self.boxes, np.reshape(boxes, (count, 4))]),
            np.concatenate([self.scores, scores]),
            np.concatenate([self.phrase_index, phrase_index]),
            self.asked,
            self.image_size,
            doubted=np.concatenate([self.doubted, np.ones(count, dtype=np.bool_)]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `Regions.from_dict` gives the same arrays back, bit for bit."""
        return {
            "boxes": self.boxes.tolist(),
            "scores": self.scores.tolist(),
            "phrase_index": self.phrase_index.tolist(),
            "asked": list(self.asked),
            "image_size": list(self.image_size),
            "masks": None if self.masks is None else [_run_lengths(mask) for mask in self.masks],
            **({"doubted": self.doubted.tolist()} if self.doubted.any() else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Regions:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: a key is missing or unknown, or a value does not fit (see the class).
        """
        required = {"boxes", "scores", "phrase_index", "asked", "image_size"}
        if not required <= set(data) <= required | {"masks", "doubted"}:
            raise ValueError(
                f"regions must have the keys {sorted(required)} and perhaps masks and doubted, "
                f"got {sorted(data)}"
            )
        height, width = size = _image_size(data["image_size"])
        runs = data.get("masks")
        masks = None
        if runs is not None:
            masks = np.array([_from_runs(run, size) for run in runs], dtype=bool).reshape(-1, height, width)
        boxes, scores = (np.array(data[key], dtype=np.float32) for key in ("boxes", "scores"))
        index, doubted = _indices(data["phrase_index"]), np.array(data.get("doubted", []), dtype=np.bool_)
        return cls(boxes, scores, index, tuple(data["asked"]), size, masks, doubted)


def _image_size(size: Sequence[int]) -> tuple[int, int]:
    values = tuple(size)
    if len(values) != 2 or any(int(value) != value or value < 1 for value in values):
        raise ValueError(f"image_size must be (height, width), both whole and > 0, got {values}")
    return int(values[0]), int(values[1])


def _indices(values: object) -> npt.NDArray[np.int64]:
    array = np.array(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"phrase_index must hold integers, got {array.dtype}")
    return array.astype(np.int64)


def _selector(which: object, count: int) -> npt.NDArray[Any]:
    array = np.atleast_1d(np.asarray(which))
    if array.size == 0 and array.dtype != np.bool_:
        array = array.astype(np.int64)
    if array.ndim != 1 or not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(
            f"select regions by a boolean mask, indices or a slice, got {array.dtype} {array.shape}"
        )
    if array.dtype == np.bool_ and array.shape != (count,):
        raise IndexError(f"a boolean mask must have one entry a region ({count}), got {array.shape}")
    return array


def _run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of runs in row order, starting with False (0 when the first pixel is True)."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = [0, *edges.tolist(), flat.size]
    runs = [end - start for start, end in itertools.pairwise(bounds)]
    return [0, *runs] if flat[0] else runs


def _from_runs(runs: Sequence[int], image_size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    if sum(runs) != image_size[0] * image_size[1] or min(runs, default=0) < 0:
        raise ValueError(
            f"mask runs must be >= 0 and add up to {image_size[0]} x {image_size[1]}, got {sum(runs)}"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(image_size)
