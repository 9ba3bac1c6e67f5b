"""The picture as a DICOM Secondary Capture, so that a DICOM SR can point into it. Needs the extra `dicom-sr`.

No patient, nobody's study: those elements are empty, every UID is new. Pixels are written as they are.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt

from grounding.types import MedicalImage

from .. import NOTICE
from .provenance import SOFTWARE, provenance_line, software_version
from .result import ExportError, Result

_UNKNOWN_SIDES: Final = ("L", "F")  # asked for by the library; removed again where the picture does not say


def encode(result: Result) -> bytes:
    """Return the picture, without regions, as a DICOM file.

    Raises:
        ExportError: highdicom is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise ExportError("DICOM needs highdicom, which is absent: pip install '.[dicom-sr]'") from error
    image = result.image
    pixels, colours = _stored(image)
    captured = highdicom.sc.SCImage(
        pixels,
        photometric_interpretation=colours,
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=image.orientation or _UNKNOWN_SIDES,
        pixel_spacing=None if image.spacing is None else (image.spacing.row_mm, image.spacing.col_mm),
        study_instance_uid=highdicom.UID(),
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=SOFTWARE,
        manufacturer_model_name=SOFTWARE,
        software_versions=software_version(),
    )
    captured.Laterality = ""  # the picture does not say whether it shows one part of a pair
    if image.orientation is None:
        captured.PatientOrientation = ""
    if image.modality is not None:
        captured.Modality = image.modality
    captured.SpecificCharacterSet = "ISO_IR 192"
    captured.SeriesDescription = NOTICE
    captured.ImageComments = provenance_line(result.models)
    buffer = io.BytesIO()
    captured.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _stored(image: MedicalImage) -> tuple[npt.NDArray[np.uint8], str]:
    """Grey where the three channels agree, else RGB."""
    red = image.pixels[:, :, 0]
    if all(np.array_equal(red, image.pixels[:, :, channel]) for channel in (1, 2)):
        return np.ascontiguousarray(red), "MONOCHROME2"
    return image.pixels, "RGB"
