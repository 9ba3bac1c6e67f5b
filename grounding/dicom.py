"""DICOM files in: pixels through every look-up that the standard puts before a screen, and where they lie.

Only the elements that pixels and geometry need are kept after parsing; the rest, names and dates with it, is
dropped. Decoding is pydicom's with pylibjpeg-openjpeg, pylibjpeg-rle, pyjpegls, GDCM and Pillow as its
plugins.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from .images import MAX_BYTES, Frame, ImageError, ImageSource, View, check_size, inflate, reading
from .types import PixelSpacing, Window, check_orientation
from .windowing import SOFT_TISSUE, WindowFunction, percentile_window

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MACROS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence")
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_KEPT = ("Modality", "SOPClassUID", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_KEPT_GEOMETRY = ("ImageOrientationPatient", "PatientOrientation", "SequenceOfUltrasoundRegions")
_PROJECTIONS = {"CR", "DX", "MG", "XA", "RF", "RG", "PX", "IO"}
# Those of PS3.3 C.7.3.1.1.1 that name a way of making pictures; "OT" (other) and obsolete ones say nothing.
_MODALITIES = frozenset(
    "AR BDUS BI BMD CFM CR CT DG DMS DX ES GM IO IVOCT IVUS LS MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV"
    " OSS PA PT PX RF RG RTIMAGE SM TG US XA XC".split()
)
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers of JPEG and JPEG-LS
_CENTIMETRES = 3  # unit code of ultrasound regions, PS3.3 C.8.5.5.1.15


def is_dicom(data: bytes) -> bool:
    """Whether the bytes look like DICOM: the prefix after the preamble, or a bare data set (group 2 or 8)."""
    if data[128:132] == b"DICM":
        return True
    little, big = data[:2], data[1::-1]
    first_group = any(group in (b"\x02\x00", b"\x08\x00") for group in (little, big))
    return len(data) >= 16 and first_group and data[:8] != b"\0" * 8


def read_dicom(data: bytes, name: str, modality: str | None = None) -> ImageSource:
    """Read a DICOM image; frames are decoded on demand.

    Args:
        data: the file's bytes.
        name: the file's name, for error messages.
        modality: DICOM code that overrides the file's.

    Raises:
        ImageError: the file is damaged, holds no pixels, declares too many, or is coded in a way none here
            reads.
    """
    with reading(name):
        _check_deflated(data, name)
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        _require_pixels(dataset, name)
        _pixels_only(dataset)
        check_size(name, _integer(dataset, "Rows"), _integer(dataset, "Columns"))
        count = max(1, _integer(dataset, "NumberOfFrames"))
        modality = modality or _modality(dataset)
    return ImageSource(
        name, {"frames": View(count, functools.partial(_frame, dataset, modality, name))}, modality
    )


def _check_deflated(data: bytes, name: str) -> None:
    """Refuse a deflated data set that unpacks to more than `MAX_BYTES`: pydicom unpacks it whole."""
    start = 144 + int.from_bytes(data[140:144], "little")  # the file meta group states its length first
    if DeflatedExplicitVRLittleEndian.encode() not in data[:start]:
        return
    if len(inflate(data[start:], MAX_BYTES // 4, wbits=-15)) >= MAX_BYTES // 4:
        raise ImageError(
            f"{name}: unpacks to more than {MAX_BYTES // 4} bytes; export it uncompressed or in parts"
        )


def _require_pixels(dataset: Dataset, name: str) -> None:
    if any(keyword in dataset for keyword in _PIXELS):
        return
    if "DirectoryRecordSequence" in dataset:
        raise ImageError(
            f"{name}: is a DICOM directory without pixels; give one of the image files that it lists"
        )
    sop_class = dataset.get("SOPClassUID")
    what = f"a DICOM object of the kind {sop_class.name!r}" if sop_class else "DICOM data of no stated kind"
    raise ImageError(f"{name}: is {what} and holds no pixels; give a DICOM image")


def _pixels_only(dataset: pydicom.FileDataset) -> None:
    """Drop, in place, what pixels and geometry do not need: every identifier goes with it."""
    syntax = dataset.file_meta.get("TransferSyntaxUID") or _bare_syntax(dataset)
    for element_tag in list(dataset.keys()):
        keyword = pydicom.datadict.keyword_for_tag(element_tag)
        if element_tag.group not in (0x0028, 0x7FE0) and keyword not in (*_KEPT, *_KEPT_GEOMETRY, *_GROUPS):
            del dataset[element_tag]
    for keyword in _GROUPS:
        for group in dataset.get(keyword) or ():
            for element_tag in list(group.keys()):
                if pydicom.datadict.keyword_for_tag(element_tag) not in (*_MACROS, "FrameVOILUTSequence"):
                    del group[element_tag]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax


def _bare_syntax(dataset: pydicom.FileDataset) -> pydicom.uid.UID:
    """The transfer syntax of a data set without a file meta group, as pydicom guessed it when reading."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _frame(dataset: Dataset, modality: str | None, name: str, index: int) -> Frame:
    """Decode one frame and take it to RGB, or to grey in rescaled units with its windows."""
    values, photometric = _decode(dataset, name, index)
    spacing, orientation = _spacing(dataset, index, modality), _orientation(dataset, index)
    if photometric == "PALETTE COLOR":
        rgb = apply_color_lut(values, dataset)[..., :3]
        bits = 16 if rgb.dtype == np.uint16 and rgb.max(initial=0) > 255 else 8
        return Frame(_eight_bits(rgb, bits), spacing=spacing, orientation=orientation)
    if photometric == "RGB":
        bits = _integer(dataset, "BitsStored") or 8 * values.dtype.itemsize
        return Frame(_eight_bits(values, bits), spacing=spacing, orientation=orientation)
    if not photometric.startswith("MONOCHROME"):
        raise ImageError(f"{name}: is coloured as {photometric!r}, which is not read here; export it as RGB")
    return _grey_frame(dataset, modality, index, values, photometric == "MONOCHROME1", spacing, orientation)


def _decode(dataset: Dataset, name: str, index: int) -> tuple[npt.NDArray[Any], str]:
    """The stored values of one frame, (H, W) or (H, W, 3) in native byte order, and their colour model."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(
            f"{name}: is coded as {syntax.name!r}, which no decoder here reads; "
            "export it as Explicit VR Little Endian"
        ) from error
    if syntax.is_encapsulated:
        _check_codestream(dataset, name, index)
    if syntax == JPEGExtended12Bit and _integer(dataset, "BitsStored") > 8:
        return _decode_12_bit_jpeg(dataset, index), str(dataset.PhotometricInterpretation)
    values, meaning = decoder.as_array(dataset, index=index)
    return values.astype(values.dtype.newbyteorder("=")), str(meaning["photometric_interpretation"])


def _check_codestream(dataset: Dataset, name: str, index: int) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame that is too large inside, whatever Rows and Columns say."""
    coded = get_frame(dataset.PixelData, index, number_of_frames=max(1, _integer(dataset, "NumberOfFrames")))
    if coded[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SIZ follows at once, ISO 15444-1 A.5.1
        width, height, left, top = struct.unpack_from(">4I", coded, 8)
        check_size(name, height - top, width - left)
    elif coded[:2] == b"\xff\xd8":
        place = 2
        while place + 9 <= len(coded) and coded[place] == 0xFF:
            if coded[place + 1] in _FRAME_HEADERS:
                height, width = struct.unpack_from(">2H", coded, place + 5)
                if height:  # 0 = stated after the first scan
                    check_size(name, height, width)
                return
            place += 2 + int.from_bytes(coded[place + 2 : place + 4], "big")


def _decode_12_bit_jpeg(dataset: Dataset, index: int) -> npt.NDArray[Any]:
    """JPEG Extended with 12 bits through GDCM: pydicom's own plugins stop at 8 bits."""
    import gdcm

    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames = max(1, _integer(dataset, "NumberOfFrames"))
    fragment = gdcm.Fragment()
    coded = get_frame(dataset.PixelData, index, number_of_frames=frames)
    fragment.SetByteStringValue(coded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    interpretation = gdcm.PhotometricInterpretation.GetPIType(str(dataset.PhotometricInterpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(interpretation))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    stored, signed = _integer(dataset, "BitsStored"), _integer(dataset, "PixelRepresentation")
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, stored, stored - 1, signed))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM hands bytes over as text
    return np.frombuffer(decoded, "<i2" if signed else "<u2").reshape(rows, columns).astype(np.int32)


def _eight_bits(rgb: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Scale colours of `bits` bits to 0..255."""
    scaled = rgb if bits == 8 else np.rint(rgb.astype(np.float64) * (255 / (2**bits - 1)))
    eight_bits: npt.NDArray[np.uint8] = scaled.astype(np.uint8)
    return eight_bits


def _grey_frame(
    dataset: Dataset,
    modality: str | None,
    index: int,
    stored: npt.NDArray[Any],
    inverted: bool,
    spacing: PixelSpacing | None,
    orientation: tuple[str, str] | None,
) -> Frame:
    """Modality look-up, then the file's VOI table or windows, or a default (PS3.3 C.11.1 and C.11.2)."""
    scale = _macro(dataset, index, "PixelValueTransformationSequence")
    values = _rescale(stored, scale)
    view = _macro(dataset, index, "FrameVOILUTSequence")
    shown = None
    if view.get("VOILUTSequence") and np.issubdtype(values.dtype, np.integer):
        table = apply_voi(values, view)
        shown = _eight_bits(table, int(view.VOILUTSequence[0].LUTDescriptor[2]))
    windows = _windows(view)
    rescaled = values is not stored
    bits = _integer(dataset, "BitsStored") or 16
    if not windows and modality == "CT" and rescaled:
        windows = (SOFT_TISSUE,)
    elif not windows and not rescaled and np.issubdtype(stored.dtype, np.unsignedinteger) and bits <= 8:
        windows = () if stored.dtype == np.uint8 and bits == 8 else (Window(2.0 ** (bits - 1), 2.0**bits),)
    elif not windows:
        windows = (percentile_window(values[~_padding(dataset, stored)]),)
    function = _function(view)
    return Frame(values, windows, function, inverted, shown, spacing, orientation)


def _rescale(stored: npt.NDArray[Any], scale: Dataset) -> npt.NDArray[Any]:
    """Stored values to modality units; whole slopes keep integers, as VOI tables need."""
    if scale.get("ModalityLUTSequence"):
        table: npt.NDArray[Any] = apply_modality_lut(stored, scale)
        return table
    slope, intercept = _numbers(scale, "RescaleSlope"), _numbers(scale, "RescaleIntercept")
    if not slope and not intercept:
        return stored
    factor, offset = (slope or [1.0])[0], (intercept or [0.0])[0]
    if factor == 0:
        return stored
    if np.issubdtype(stored.dtype, np.integer) and factor.is_integer() and offset.is_integer():
        return stored.astype(np.int64) * int(factor) + int(offset)
    return (stored.astype(np.float64) * factor + offset).astype(np.float32)


def _padding(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels that only fill the frame (Pixel Padding Value, Range Limit); none if that is everything."""
    first = _numbers(dataset, "PixelPaddingValue")
    if not first:
        return np.zeros(stored.shape, dtype=bool)
    limit = _numbers(dataset, "PixelPaddingRangeLimit") or first
    low, high = sorted((first[0], limit[0]))
    padded = (stored >= low) & (stored <= high)
    return padded & ~padded.all()


def _windows(view: Dataset) -> tuple[Window, ...]:
    """Every valid window of the file, in its order; an invalid one (width 0, text) is passed over."""
    pairs = zip(_numbers(view, "WindowCenter"), _numbers(view, "WindowWidth"), strict=False)
    return tuple(Window(center, width) for center, width in pairs if width > 0)


def _function(view: Dataset) -> WindowFunction:
    stated = str(view.get("VOILUTFunction") or "LINEAR")
    if stated == "SIGMOID":
        return "SIGMOID"
    return "LINEAR_EXACT" if stated == "LINEAR_EXACT" else "LINEAR"


def _spacing(dataset: Dataset, index: int, modality: str | None) -> PixelSpacing | None:
    """Pixel spacing and what it measures (PS3.3 10.7.1.3).

    A projection's Pixel Spacing counts as measured in the patient only when it is calibrated: when it says
    how, or differs from the Imager Pixel Spacing, which lies at the detector.
    """
    measured = _numbers(_macro(dataset, index, "PixelMeasuresSequence"), "PixelSpacing")
    detector = _numbers(dataset, "ImagerPixelSpacing") or _numbers(dataset, "NominalScannedPixelSpacing")
    if measured:
        calibrated = bool(dataset.get("PixelSpacingCalibrationType")) or bool(
            detector and measured != detector
        )
        at_detector = not calibrated and (bool(detector) or modality in _PROJECTIONS)
        return _make_spacing(measured, "detector" if at_detector else "pixel")
    if detector:
        return _make_spacing(detector, "detector")
    regions: Sequence[Dataset] = dataset.get("SequenceOfUltrasoundRegions") or []
    if len(regions) == 1:
        region = regions[0]
        units = {*_numbers(region, "PhysicalUnitsXDirection"), *_numbers(region, "PhysicalUnitsYDirection")}
        steps = [10 * abs(step) for key in "YX" for step in _numbers(region, f"PhysicalDelta{key}")]
        return _make_spacing(steps, "pixel") if units == {_CENTIMETRES} else None
    return None


def _make_spacing(steps: Sequence[float], kind: Any) -> PixelSpacing | None:
    return PixelSpacing(steps[0], steps[1], kind) if len(steps) == 2 and min(steps) > 0 else None


def _orientation(dataset: Dataset, index: int) -> tuple[str, str] | None:
    """Patient direction of (increasing column, increasing row): from the cosines, else from the letters."""
    cosines = _numbers(_macro(dataset, index, "PlaneOrientationSequence"), "ImageOrientationPatient")
    if len(cosines) == 6:
        across, down = _direction(cosines[:3]), _direction(cosines[3:])
        return (across, down) if across and down else None
    letters = dataset.get("PatientOrientation")
    if not isinstance(letters, Sequence) or isinstance(letters, str) or len(letters) != 2:
        return None
    stated = str(letters[0]), str(letters[1])
    try:
        check_orientation(stated)
    except ValueError:  # empty, or the letters of quadrupeds
        return None
    return stated


def _direction(cosines: Sequence[float]) -> str:
    """The letter of the nearest patient axis, then of any axis within 60 degrees; "" for a zero vector."""
    letters = [
        (abs(value), "LPH"[axis] if value > 0 else "RAF"[axis]) for axis, value in enumerate(cosines) if value
    ]
    ordered = sorted(letters, key=lambda pair: -pair[0])
    return "".join(letter for place, (size, letter) in enumerate(ordered) if place == 0 or size >= 0.5)


def _macro(dataset: Dataset, index: int, name: str) -> Dataset:
    """Where a value of this frame stands: in its own group, the shared one, else the file itself."""
    for keyword, position in zip(_GROUPS, (index, 0), strict=True):
        groups = dataset.get(keyword) or ()
        if position < len(groups) and groups[position].get(name):
            item: Dataset = groups[position][name][0]
            return item
    return dataset


def _modality(dataset: Dataset) -> str | None:
    """The stated modality where it is one of DICOM's; any other text there may be a name or an order."""
    stated = str(dataset.get("Modality") or "").strip()
    return stated if stated in _MODALITIES else None


def _integer(dataset: Dataset, keyword: str) -> int:
    """A number that the pixels need; 0 when absent."""
    return int(dataset.get(keyword) or 0)


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The values of an optional element; none when it is absent or not all finite numbers, as happens."""
    try:
        stated = dataset.get(keyword)
        several = isinstance(stated, Sequence) and not isinstance(stated, str)
        values = [float(value) for value in (stated if several else [stated])]
    except (TypeError, ValueError, NotImplementedError):
        return []
    return values if all(map(math.isfinite, values)) else []
