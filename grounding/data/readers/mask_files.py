"""What the readers of masks share: files below a root, mask pictures, words for modalities, cases in names.

Every function here turns what is wrong with a file into one `UnitError` that names it. Knows no layout.
"""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...images import MAX_BYTES
from ...types import MODALITIES
from ..records import UnitError
from .annotations import inside, read_bytes

Mask = npt.NDArray[np.bool_]

CASE_AND_SLICE: Final = r"(?P<case>.*\d)_(?P<slice>\d+)"
"""Stems such as "amos_0004_75": the case ends in a digit, so that "ISIC_0000001" is nobody's slice 1."""

# How words for a modality begin (lower case, hyphens) -> DICOM code.
_CODE_OF_WORD: Final = {
    "ct": "CT",
    "mr": "MR",
    "t1": "MR",
    "t2": "MR",
    "flair": "MR",
    "adc": "MR",
    "dwi": "MR",
    "x-ray": "DX",
    "xray": "DX",
    "cxr": "DX",
    "us": "US",
    "ultraso": "US",
    "endosco": "ES",
    "colonosco": "ES",
    "dermosco": "DMS",
    "fundus": "OP",
    "oct": "OPT",
    "pet": "PT",
    "patholog": "SM",
    "histo": "SM",
    "microsco": "SM",
    "mammo": "MG",
}


def code_of_word(word: str) -> str | None:
    """DICOM code of a source's word for a modality ("mr_flair", "X-Ray", "MRI-T1-Gd"), or None."""
    plain = re.sub(r"[\s_]+", "-", word.strip().lower())
    if plain.upper() in MODALITIES:
        return plain.upper()
    return next((code for start, code in _CODE_OF_WORD.items() if plain.startswith(start)), None)


def case_and_slice(stem: str, pattern: str = CASE_AND_SLICE) -> tuple[str | None, int | None]:
    """The case and the slice index that a file's stem names.

    Args:
        stem: file name without its ending.
        pattern: regular expression for the whole stem with the groups ``case`` and, where there are slices,
            ``slice``.

    Returns:
        (None, None) for a stem of another kind: it belongs to no known patient.
    """
    match = re.fullmatch(pattern, stem)
    if match is None:
        return None, None
    groups = match.groupdict()
    number = groups.get("slice")
    return groups.get("case"), int(number) if number is not None and len(number) < 10 else None


def file_below(root: Path, name: str) -> Path:
    """`root / name` for a name that an index gives.

    Raises:
        UnitError: it leads out of `root`, or is no name that a file can have.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise UnitError(f"{root}: refers to the file {name!r}, which no file can be called") from error
    return inside(Path(os.path.abspath(root)), name)


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """(H, W) bool of a mask picture: everything but 0 is inside, transparency aside.

    Args:
        path: a picture of any kind; 1, 255 and palette indices are all the same here.
        size: (height, width) of the image it belongs to.

    Raises:
        UnitError: the file is missing, empty, no readable picture, or of another size.
    """
    data = read_bytes(path, MAX_BYTES)
    try:
        with Image.open(BytesIO(data)) as picture:
            found = (picture.height, picture.width)
            if found == size:
                values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "La", "PA") else picture)
    except Exception as error:  # Pillow raises what its decoders raise: OSError, SyntaxError, struct.error...
        raise UnitError(f"{path}: is no readable picture ({type(error).__name__}: {error})") from error
    if found != size:
        raise UnitError(
            f"{path}: has {found[0]} x {found[1]} pixels (height x width), its image {size[0]} x {size[1]}; "
            "it belongs to another image, or one of the two was resized"
        )
    if values.ndim == 3:
        return np.asarray((values[..., :3] != 0).any(axis=-1))
    return np.asarray(values != 0)
