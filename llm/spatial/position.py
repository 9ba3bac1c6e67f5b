"""Where a region lies, in words: the patient's side where the orientation is known, else the picture's.

Directions are DICOM letters (L R A P H F), those of increasing columns and rows; see `MedicalImage`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_WORDS = {"A": "anterior", "P": "posterior", "H": "superior", "F": "inferior"}
_OPPOSITE = dict(zip("LRAPHF", "RLPAFH", strict=True))
_ORDINALS = ("", "second", "third", "fourth", "fifth", "sixth")
_SIDED = 2 / 3  # the share of a region that must lie on one side for that side to be said


def side(box: ArrayLike, image_size: tuple[int, int], orientation: tuple[str, str] | None) -> str:
    """On which side a box lies.

    The sides are halves of the picture along the patient's left-right axis, which the middle of the patient
    need not fall on; a box with less than two thirds on one of them is called midline.

    Args:
        box: xyxy in pixels.
        image_size: (height, width) in pixels.
        orientation: Of the image; None where unknown.

    Returns:
        ``"patient's left"``, ``"patient's right"`` or ``"midline"``; without orientation ``"left of the
        picture"``, ``"right of the picture"`` or ``"middle of the picture"``; "" where the picture shows no
        left-right axis (a sagittal one).
    """
    first_x, first_y = _first_halves(box, image_size)
    if orientation is None:
        return f"{_choose(first_x, 'left', 'right', 'middle')} of the picture"
    for letters, share in zip(orientation, (first_x, first_y), strict=True):
        if letters[0] in "LR":
            words = {"L": "patient's left", "R": "patient's right"}
            return _choose(share, words[_OPPOSITE[letters[0]]], words[letters[0]], "midline")
    return ""


def relative_position(
    box: ArrayLike, image_size: tuple[int, int], orientation: tuple[str, str] | None
) -> str:
    """In which part a box lies apart from its side.

    Returns:
        ``"anterior"``, ``"superior posterior"`` and the like for the axes that are not left-right, "middle
        part" for neither half; without orientation ``"upper part"``, ``"lower part"`` or ``"middle part"``.
    """
    shares = _first_halves(box, image_size)
    if orientation is None:
        return f"{_choose(shares[1], 'upper', 'lower', 'middle')} part"
    words = [
        _choose(share, _WORDS[_OPPOSITE[letters[0]]], _WORDS[letters[0]], "")
        for letters, share in zip(orientation, shares, strict=True)
        if letters[0] in _WORDS
    ]
    return " ".join(word for word in reversed(words) if word) or "middle part"


def halves(box: ArrayLike, image_size: tuple[int, int]) -> tuple[str, str]:
    """The halves of the picture that a box's centre lies in: ("left" or "right", "upper" or "lower")."""
    across, down = _centre(box, image_size)
    return "right" if across > 0.5 else "left", "lower" if down > 0.5 else "upper"


def ninth(box: ArrayLike, image_size: tuple[int, int]) -> str:
    """The ninth of the picture that a box's centre lies in: "upper left", "right", "centre" and so on."""
    across, down = _centre(box, image_size)
    words = ("upper", "", "lower")[min(2, int(down * 3))], ("left", "", "right")[min(2, int(across * 3))]
    return " ".join(word for word in words if word) or "centre"


def size_ranks(boxes: Sequence[ArrayLike]) -> list[str]:
    """Of several boxes "largest" to "sixth largest" by area, then "smaller"; "" for a single one."""
    if len(boxes) < 2:
        return [""] * len(boxes)
    sides = [np.asarray(box, dtype=np.float64)[2:] - np.asarray(box, dtype=np.float64)[:2] for box in boxes]
    areas = np.array([side.prod() for side in sides])
    order = np.argsort(-areas, kind="stable")
    ranks = [""] * len(boxes)
    for place, index in enumerate(order.tolist()):
        ranks[index] = f"{_ORDINALS[place]} largest".strip() if place < len(_ORDINALS) else "smaller"
    return ranks


def _centre(box: ArrayLike, image_size: tuple[int, int]) -> tuple[float, float]:
    """The centre of a box as fractions of the picture's width and height, within [0, 1]."""
    height, width = image_size
    x1, y1, x2, y2 = np.clip(np.asarray(box, dtype=np.float64), 0, [width, height, width, height]).tolist()
    return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height


def _first_halves(box: ArrayLike, image_size: tuple[int, int]) -> tuple[float, float]:
    """The share of a box in the left half of the picture, and that in its upper half."""
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64).tolist()
    height, width = image_size
    return _share(x1, x2, width / 2), _share(y1, y2, height / 2)


def _share(start: float, end: float, middle: float) -> float:
    """The share of an interval before `middle`; of a point, whether it lies there (half on it)."""
    if end <= start:
        return 0.5 + 0.5 * float(np.sign(middle - start))
    return min(max((middle - start) / (end - start), 0.0), 1.0)


def _choose(share: float, first: str, second: str, neither: str) -> str:
    """The word for a share that lies in the first half."""
    return first if share >= _SIDED else second if share <= 1 - _SIDED else neither
