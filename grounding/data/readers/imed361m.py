"""IMed-361M (IMIS-Bench): one folder a source set, the masks of an image in one sparse npz.

Layout (``dataset/BTCV`` of the published repository)::

    dataset.json     {"modality": {"0": "ct"}, "labels": {"0": "background", "1": "spleen", ...},
                      "training": [{"image": ..., "label": ..., "imask": ...}, ...], "test": [...]}
    image/ABD_001_100.png
    label/x___ABD_001_100.(13, 512, 512, 1).npz     sparse, classes x (height * width), shape in the name
    imask/x___ABD_001_100.npy                       machine-made parts without labels; left aside

Channel i is the i-th label of dataset.json, the background left out. Channels without a pixel give no region;
whether they mean "absent" the source does not say, so `annotated` lists the labels present, unless the reader
is told `exhaustive`. Pictures stand as the source stored them (those of BTCV upside down), so orientation and
axis stay None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...images import MAX_BYTES
from ..records import DatasetInfo, SourceImage, SourceRegion, Unit, UnitError, read_picture
from .annotations import read_bytes
from .json_stream import array_items, object_items
from .mask_files import CASE_AND_SLICE, case_and_slice, code_of_word, file_below

INFO: Final = DatasetInfo(
    name="imed_361m",
    attribution="Cheng et al., Interactive Medical Image Segmentation: A Benchmark Dataset and Baseline "
    "(IMed-361M); and the source set",
    url="https://github.com/uni-medical/IMIS-Bench",
)

_SPLITS: Final = {"training": "train", "validation": "val", "test": "test"}
_SHAPE: Final = re.compile(r".*\.\((\d{1,6}), ?(\d{1,6}), ?(\d{1,6})(?:, ?1)?\)")


@dataclass(frozen=True)
class Imed361M:
    """One source set of IMed-361M.

    Attributes:
        root: the folder with dataset.json.
        info: what the manifest says; give each source set its own name and licence.
        exhaustive: whether every label of dataset.json was looked for in every image, so that an empty
            channel means that it is absent.
        case_pattern: how an image's stem names case and slice, see
            :func:`grounding.data.readers.mask_files.case_and_slice`.
    """

    root: Path
    info: DatasetInfo = INFO
    exhaustive: bool = False
    case_pattern: str = CASE_AND_SLICE

    def units(self) -> Iterator[Unit]:
        """One unit an image: training, then test, in the order of dataset.json."""
        path = file_below(self.root, "dataset.json")
        labels = [label for _, label in object_items(path, "labels") if label != "background"]
        if not labels or not all(isinstance(label, str) and label for label in labels):
            raise UnitError(f"{path}: expected names under 'labels', got {labels!r}; is it that format?")
        word = next((word for _, word in object_items(path, "modality")), "")
        modality = code_of_word(word) if isinstance(word, str) else None
        for part, split in _SPLITS.items():
            for number, item in enumerate(array_items(path, part)):
                files = item if isinstance(item, dict) else {}
                payload = {"split": split, "labels": labels, "modality": modality}
                for kind in ("image", "label"):
                    payload[kind] = files.get(kind)
                yield Unit(f"{part}/{payload['image'] or number}", payload)

    def read(self, unit: Unit) -> Iterator[SourceImage]:
        """The image with a region for each channel that has pixels."""
        image, label = unit.payload["image"], unit.payload["label"]
        if not isinstance(image, str) or not isinstance(label, str):
            raise UnitError(
                f"{unit.key}: expected 'image' and 'label' in dataset.json, got {image!r}, {label!r}"
            )
        labels: list[str] = unit.payload["labels"]
        picture, size = read_picture(file_below(self.root, image))
        masks = _read_masks(file_below(self.root, label), (len(labels), *size))
        regions = tuple(
            SourceRegion(name, mask=mask) for name, mask in zip(labels, masks, strict=True) if mask.any()
        )
        present = (region.label for region in regions)
        case, index = case_and_slice(PurePosixPath(image).stem, self.case_pattern)
        yield SourceImage(
            key=unit.key,
            picture=picture,
            size=size,
            regions=regions,
            annotated=tuple(dict.fromkeys(labels if self.exhaustive else present)),
            file_name=image,
            modality=unit.payload["modality"] or self.info.modality,
            patient=case,
            series=case if index is not None else None,
            slice_index=index,
            split=unit.payload["split"],
        )


def _read_masks(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """(classes, H, W) bool of a sparse npz.

    Raises:
        UnitError: the file is missing, damaged, no sparse matrix, or made for other labels or another size.
    """
    named = _SHAPE.fullmatch(path.stem)
    if named is not None and tuple(map(int, named.groups())) != shape:
        raise UnitError(
            f"{path}: its name says (classes, height, width) {tuple(map(int, named.groups()))}, dataset.json "
            f"and the image {shape}; it belongs to another image or set"
        )
    matrix = _load(path)
    classes, height, width = shape
    if matrix.shape[0] * matrix.shape[1] != classes * height * width:
        raise UnitError(
            f"{path}: holds a matrix of {matrix.shape[0]} x {matrix.shape[1]}, expected {classes} classes of "
            f"{height} x {width} pixels; it belongs to another image or set"
        )
    entries = matrix.tocoo()
    masks = np.zeros(classes * height * width, dtype=np.bool_)
    inside = entries.data != 0
    masks[entries.row[inside].astype(np.int64) * matrix.shape[1] + entries.col[inside]] = True
    return masks.reshape(shape)


def _load(path: Path) -> Any:
    """A scipy sparse matrix whose indices lie inside of it: scipy itself would write where they point."""
    data = read_bytes(path, MAX_BYTES)
    try:
        matrix = sparse.load_npz(BytesIO(data))
        if matrix.format not in ("csr", "csc", "coo"):
            raise UnitError(f"{path}: holds a matrix of kind {matrix.format!r}; save it as csr, csc or coo")
        if matrix.format != "coo":
            matrix.check_format(full_check=True)
        if matrix.data.dtype.kind not in "biuf" or len(matrix.shape) != 2:
            raise UnitError(f"{path}: expected a matrix of numbers, got {matrix.data.dtype}; save it again")
    except UnitError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and scipy each have their own
        reason = " ".join(str(error).split())[:120]
        raise UnitError(
            f"{path}: is no sparse npz of scipy, or damaged ({type(error).__name__}: {reason}); copy it again"
        ) from error
    return matrix
