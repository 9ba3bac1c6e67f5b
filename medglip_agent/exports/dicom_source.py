"""The DICOM file a picture was read from, opened again at export time and only for the DICOM SR.

Owns which of its elements leave with the SR (patient, study and the references to the image: an SR belongs to
its study) and the check that it is the picture's file. Nothing of it is kept.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from grounding.images import ImageError, open_source

from .result import ExportError, Result, SourceFrame

_NEEDED: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, perhaps empty.
_MAY_BE_EMPTY: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_LOCK: Final = threading.Lock()
_NO_SOURCE: Final = (
    "a DICOM SR points into a DICOM file: expected the picture's file, got none; name it again"
)
REMEDY: Final = "write the picture as DICOM first (a name ending in .sc.dcm) and use that file as the image"


def open_reference(source: SourceFrame | None) -> Dataset:
    """Return the file's elements without its pixels; empty ones are added where an SR must have them.

    Raises:
        ExportError: no file is named, it is no DICOM file, or it lacks a UID to refer to.
        OSError: it cannot be read.
    """
    if source is None:
        raise ExportError(_NO_SOURCE)
    name = source.path.name
    with silence():
        try:
            dataset = pydicom.dcmread(source.path, stop_before_pixels=True)
        except InvalidDicomError as error:
            raise ExportError(f"a DICOM SR points into a DICOM file, and {name} is none: {REMEDY}") from error
        lacking = [keyword for keyword in _NEEDED if not dataset.get(keyword)]
    if lacking:
        raise ExportError(f"{name} lacks {', '.join(lacking)}, so that nothing can refer to it: {REMEDY}")
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


@contextmanager
def silence() -> Iterator[None]:
    """Keep the libraries from quoting the source's values, identifiers among them, in warnings and logs.

    What the source holds against the standard's rules is copied as it is. One thread at a time: the switches
    are global.
    """
    with _LOCK, warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def check_same(result: Result) -> None:
    """Check, pixel by pixel, that the frame of the result's source is its picture.

    Raises:
        ExportError: it is another picture, or none can be read.
    """
    source, image = result.source, result.image
    if source is None:
        raise ExportError(_NO_SOURCE)
    try:
        shown = open_source(source.path).render(source.frame, image.window)
    except ImageError as error:
        raise ExportError(f"the picture's file cannot be read again: {error}") from error
    if shown.source_id != image.source_id:
        frame = "the default frame" if source.frame is None else f"frame {source.frame}"
        raise ExportError(
            f"{frame} of {source.path.name} is not the picture that the result is about: name the file "
            "and the frame it was read from"
        )
