import io
import os
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

from grounding.images import ImageError, open_source
from grounding.types import MedicalImage, PixelSpacing, Window

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
RAMP = np.arange(64, dtype=np.int16).reshape(8, 8) * 60 - 1000


def dataset(values, **elements):
    """A small DICOM image of `values`, (H, W), (F, H, W) or, with SamplesPerPixel=3, (H, W, 3)."""
    colour = elements.get("SamplesPerPixel", 1) == 3
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.BitsAllocated = ds.BitsStored = 8 * values.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    if colour:
        ds.PlanarConfiguration = 0
    if values.ndim == 3 and not colour:
        ds.NumberOfFrames = len(values)
    ds.Rows, ds.Columns = values.shape[-3:-1] if colour else values.shape[-2:]
    ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def save(path, ds):
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def item(**elements):
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def grey(image):
    return image.pixels[:, :, 0]


def test_rescale_gives_hounsfield_units_and_ct_a_soft_tissue_window(tmp_path):
    stored = (RAMP + 1024).astype(np.uint16)
    ds = dataset(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    source = open_source(save(tmp_path / "a.dcm", ds))
    assert np.array_equal(source.frame().values, RAMP)
    image = source.render()
    assert (image.modality, image.window) == ("CT", Window(40, 400))
    # PS3.3 C.11.2.1.2.1: 20 HU -> ((20 - 39.5) / 399 + 0.5) * 255 = 115
    assert grey(image)[RAMP == 20] == 115
    assert source.render(window=Window(-900, 200)).window == Window(-900, 200)


def test_fractional_rescale(tmp_path):
    ds = dataset(np.array([[0, 10]], np.uint16), Modality="PT", RescaleSlope=0.25, RescaleIntercept=1)
    assert open_source(save(tmp_path / "a.dcm", ds)).frame().values.tolist() == [[1, 3.5]]


def test_signed_values_and_unused_high_bits(tmp_path):
    signed = open_source(save(tmp_path / "a.dcm", dataset(RAMP))).frame().values
    assert signed.min() == -1000
    high = np.array([[0xF001, 0x0FFF]], dtype=np.uint16)  # an old overlay in the upper four bits
    ds = dataset(high, BitsStored=12, HighBit=11)
    assert open_source(save(tmp_path / "b.dcm", ds)).frame().values.tolist() == [[1, 4095]]


def test_the_first_of_several_windows_is_the_default(tmp_path):
    ds = dataset(RAMP, Modality="CT", WindowCenter=[40, -600], WindowWidth=[80, 1500])
    source = open_source(save(tmp_path / "a.dcm", ds))
    assert source.frame().windows == (Window(40, 80), Window(-600, 1500))
    assert source.render().window == Window(40, 80)


def test_an_unusable_window_gives_way_to_one_from_the_data(tmp_path):
    ds = dataset(RAMP, Modality="MR", WindowCenter=40, WindowWidth=0)
    window = MedicalImage.open(save(tmp_path / "a.dcm", ds)).window
    assert window.center == pytest.approx(890, abs=5)
    assert window.width == pytest.approx(3780, rel=0.02)


@pytest.mark.parametrize(("function", "middle"), [("LINEAR", 128), ("LINEAR_EXACT", 127), ("SIGMOID", 127)])
def test_window_functions(tmp_path, function, middle):
    ds = dataset(np.array([[0, 100, 200]], np.uint16), WindowCenter=100, WindowWidth=256)
    ds.VOILUTFunction = function
    shown = grey(MedicalImage.open(save(tmp_path / "a.dcm", ds)))[0]
    assert abs(int(shown[1]) - middle) <= 1
    assert shown[0] < shown[1] < shown[2]


def test_voi_table_is_the_default_and_a_window_overrides_it(tmp_path):
    ds = dataset(np.array([[0, 1, 2, 3]], np.uint16), WindowCenter=1.5, WindowWidth=3)
    table = item(LUTDescriptor=[4, 0, 16], LUTData=[0, 65535, 0, 32768])
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    ds.VOILUTSequence = [table]
    source = open_source(save(tmp_path / "a.dcm", ds))
    assert grey(source.render())[0].tolist() == [0, 255, 0, 128]
    assert source.render().window is None
    assert grey(source.render(window=Window(2, 2)))[0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("stated", ["OT", "SMITHJOHN", "OBEY_NOW", "ct", ""])
def test_what_is_no_modality_is_dropped(tmp_path, stated):
    ds = dataset(RAMP, Modality=stated)
    assert MedicalImage.open(save(tmp_path / "a.dcm", ds)).modality is None


def test_modality_table(tmp_path):
    ds = dataset(np.array([[0, 1]], np.uint16), WindowCenter=150, WindowWidth=100)
    table = item(LUTDescriptor=[2, 0, 16], LUTData=[100, 200], ModalityLUTType="US")
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    ds.ModalityLUTSequence = [table]
    assert open_source(save(tmp_path / "a.dcm", ds)).frame().values.tolist() == [[100, 200]]


def test_monochrome1_is_turned(tmp_path):
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4)
    plain = MedicalImage.open(save(tmp_path / "a.dcm", dataset(ramp)))
    turned = dataset(ramp, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(grey(MedicalImage.open(save(tmp_path / "b.dcm", turned))), 255 - grey(plain))
    assert np.array_equal(grey(plain), ramp)


def test_padding_does_not_darken_the_picture(tmp_path):
    values = np.full((20, 20), -2000, dtype=np.int16)
    values[5:15, 5:15] = np.arange(100).reshape(10, 10)
    ds = dataset(values, Modality="MR", PixelPaddingValue=-2000)
    ds["PixelPaddingValue"].VR = "SS"
    window = MedicalImage.open(save(tmp_path / "a.dcm", ds)).window
    assert window.center == pytest.approx(49.5)
    assert window.width < 100


def test_one_bit_segmentation(tmp_path):
    shown = MedicalImage.open(get_testdata_file("liver_1frame.dcm"))
    assert set(np.unique(shown.pixels)) == {0, 255}


def test_frames_are_chosen_and_range_is_checked(tmp_path):
    values = np.stack([np.full((2, 3), n, np.uint8) for n in (10, 20, 30)])
    source = open_source(save(tmp_path / "a.dcm", dataset(values)))
    assert source.frame_count == 3
    assert [int(source.render(n).pixels[0, 0, 0]) for n in (0, 1, 2, -1)] == [10, 20, 30, 30]
    with pytest.raises(ImageError, match=r"a\.dcm: has no frame 3; choose one from 0 to 2"):
        MedicalImage.open(tmp_path / "a.dcm", frame=3)


def test_enhanced_files_keep_values_by_frame(tmp_path):
    ds = dataset(np.stack([np.zeros((2, 2), np.uint16), np.full((2, 2), 7, np.uint16)]), Modality="MR")
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75])])
    frames = []
    for slope, cosines in ((1, [1, 0, 0, 0, 1, 0]), (10, [0, 1, 0, 0, 0, -1])):
        rescale = item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")
        frames.append(
            item(
                PixelValueTransformationSequence=[rescale],
                PlaneOrientationSequence=[item(ImageOrientationPatient=cosines)],
                FrameVOILUTSequence=[item(WindowCenter=slope, WindowWidth=40)],
            )
        )
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    source = open_source(save(tmp_path / "a.dcm", ds))
    first, second = source.render(0), source.render(1)
    assert first.spacing == second.spacing == PixelSpacing(0.5, 0.75)
    assert (first.orientation, second.orientation) == (("L", "P"), ("P", "F"))
    assert (first.window.center, second.window.center) == (1, 10)
    assert source.frame(1).values.tolist() == [[70, 70], [70, 70]]


PALE = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]], dtype=np.uint8)


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_in_both_planar_configurations(tmp_path, planar):
    ds = dataset(PALE, SamplesPerPixel=3, PlanarConfiguration=planar)
    if planar:
        ds.PixelData = PALE.transpose(2, 0, 1).tobytes()
    assert np.array_equal(MedicalImage.open(save(tmp_path / "a.dcm", ds)).pixels, PALE)


def test_ybr_becomes_rgb(tmp_path):
    ybr = np.asarray(Image.fromarray(PALE).convert("YCbCr"))
    ds = dataset(ybr, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL")
    assert np.abs(MedicalImage.open(save(tmp_path / "a.dcm", ds)).pixels.astype(int) - PALE).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours(tmp_path, bits):
    ds = dataset(np.array([[0, 1, 2]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    top = 2**bits - 1
    for channel, table in {"Red": [top, 0, 0], "Green": [0, top, 0], "Blue": [0, 0, top]}.items():
        name = f"{channel}PaletteColorLookupTable"
        ds.add_new(pydicom.datadict.tag_for_keyword(f"{name}Descriptor"), "US", [4, 0, bits])
        entries = np.array([*table, 0], dtype=np.uint8 if bits == 8 else np.uint16).tobytes()
        ds.add_new(pydicom.datadict.tag_for_keyword(f"{name}Data"), "OW", entries)
    pixels = MedicalImage.open(save(tmp_path / "a.dcm", ds)).pixels
    assert pixels[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_optional_elements_may_be_missing_or_nonsense(tmp_path):
    image = MedicalImage.open(save(tmp_path / "a.dcm", dataset(RAMP)))
    assert (image.modality, image.spacing, image.orientation) == (None, None, None)
    ds = dataset(RAMP, Modality="OT", PatientOrientation=["", ""], WindowCenter=None, RescaleSlope=None)
    ds.PixelSpacing, ds.ImageOrientationPatient = [0, 0], [0, 0, 0, 0, 0, 0]
    image = MedicalImage.open(save(tmp_path / "b.dcm", ds))
    assert (image.modality, image.spacing, image.orientation) == (None, None, None)
    assert MedicalImage.open(tmp_path / "b.dcm", modality="CR").modality == "CR"


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"Modality": "CT", "PixelSpacing": [0.5, 0.6]}, PixelSpacing(0.5, 0.6, "pixel")),
        ({"Modality": "DX", "ImagerPixelSpacing": [0.2, 0.2]}, PixelSpacing(0.2, 0.2, "detector")),
        ({"Modality": "CR", "PixelSpacing": [0.2, 0.2]}, PixelSpacing(0.2, 0.2, "detector")),
        (
            {"Modality": "DX", "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]},
            PixelSpacing(0.2, 0.2, "detector"),
        ),
        (
            {"Modality": "DX", "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.15, 0.15]},
            PixelSpacing(0.15, 0.15, "pixel"),
        ),
        (
            {"Modality": "CR", "PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"},
            PixelSpacing(0.2, 0.2, "pixel"),
        ),
    ],
)
def test_spacing_says_what_it_measures(tmp_path, elements, spacing):
    assert MedicalImage.open(save(tmp_path / "a.dcm", dataset(RAMP, **elements))).spacing == spacing


def test_ultrasound_spacing_comes_from_a_single_calibrated_region(tmp_path):
    region = item(
        PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=-0.03
    )
    ds = dataset(RAMP, Modality="US", SequenceOfUltrasoundRegions=[region])
    spacing = MedicalImage.open(save(tmp_path / "a.dcm", ds)).spacing
    assert (spacing.row_mm, spacing.col_mm) == pytest.approx((0.3, 0.2))
    ds.SequenceOfUltrasoundRegions = [region, region]
    assert MedicalImage.open(save(tmp_path / "b.dcm", ds)).spacing is None


@pytest.mark.parametrize(
    ("elements", "orientation"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, ("L", "P")),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]}, ("R", "F")),
        ({"ImageOrientationPatient": [0.98, 0.2, 0, -0.2, 0.98, 0]}, ("L", "P")),
        ({"ImageOrientationPatient": [0.8, 0.6, 0, 0, 0, -1]}, ("LP", "F")),
        ({"PatientOrientation": ["L", "F"]}, ("L", "F")),
        ({"PatientOrientation": ["R", "FP"]}, ("R", "FP")),
        ({"PatientOrientation": ["LE", "D"]}, None),  # a quadruped's
        ({"PatientOrientation": ["LR", "F"]}, None),
    ],
)
def test_orientation_in_letters(tmp_path, elements, orientation):
    assert MedicalImage.open(save(tmp_path / "a.dcm", dataset(RAMP, **elements))).orientation == orientation


def test_no_identifier_is_kept(tmp_path):
    group = item(
        FrameContentSequence=[item(FrameComments="DOE^JANE")],
        PixelMeasuresSequence=[item(PixelSpacing=[1, 1])],
    )
    ds = dataset(RAMP, Modality="CT", PatientName="DOE^JANE", PatientID="4711", InstitutionName="DOE^JANE")
    ds.SharedFunctionalGroupsSequence = [group]
    ds.add_new((0x0009, 0x0010), "LO", "DOE^JANE")
    ds.file_meta.SourceApplicationEntityTitle = "DOE^JANE"
    source = open_source(save(tmp_path / "a.dcm", ds))
    kept = source.views["frames"].read.__wrapped__.args[0]
    assert "DOE" not in str(kept)
    assert "PatientID" not in kept
    assert str(kept.file_meta).count("\n") == 0
    assert "DOE" not in repr(source.render())


def jpeg_baseline(frames, ds):
    coded = []
    for frame in frames:
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "JPEG", quality=95)
        coded.append(out.getvalue())
    ds.PixelData = encapsulate(coded)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return ds


def smooth(dtype):
    rows, columns = np.mgrid[:32, :40]
    return np.stack([rows * 4 + columns * 2, rows * 2 + columns * 4]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize(
    ("syntax", "error", "options"),
    [
        (RLELossless, 0, {}),
        (JPEGLSLossless, 0, {}),
        (JPEGLSNearLossless, 2, {"jls_error": 2}),
        (JPEG2000Lossless, 0, {}),
    ],
    ids=["rle", "jpeg-ls", "jpeg-ls-near", "jpeg2000"],
)
def test_compressed_multi_frame_grey(tmp_path, syntax, error, options, dtype):
    values = smooth(dtype)
    ds = dataset(values, BitsStored=8 if dtype == np.uint8 else 12, HighBit=7 if dtype == np.uint8 else 11)
    ds.compress(syntax, **options)
    source = open_source(save(tmp_path / "a.dcm", ds))
    for index, frame in enumerate(values):
        assert np.abs(source.frame(index).values.astype(int) - frame).max() <= error


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_colour(tmp_path, syntax):
    values = np.moveaxis(smooth(np.uint8)[[0, 1, 0]], 0, -1).copy()
    ds = dataset(values, SamplesPerPixel=3)
    ds.compress(syntax)
    assert np.array_equal(MedicalImage.open(save(tmp_path / "a.dcm", ds)).pixels, values)


def test_jpeg_baseline_grey_and_colour(tmp_path):
    values = smooth(np.uint8)
    source = open_source(save(tmp_path / "a.dcm", jpeg_baseline(values, dataset(values))))
    assert np.abs(source.frame(1).values.astype(int) - values[1]).max() <= 3
    colour = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    ds = dataset(colour, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    image = MedicalImage.open(save(tmp_path / "b.dcm", jpeg_baseline([colour], ds)))
    assert np.abs(image.pixels.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_jpeg(tmp_path, dtype):
    import gdcm

    values = smooth(dtype)[0]
    save(tmp_path / "plain.dcm", dataset(values))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "plain.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "a.dcm"))
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(open_source(tmp_path / "a.dcm").frame().values, values)


def test_12_bit_extended_jpeg():
    # reference pixels from pydicom's own tests of this file (tests/pixels/pixels_reference.py)
    values = open_source(get_testdata_file("JPGExtended.dcm")).frame().values
    assert values.shape == (1024, 256)
    assert (values[420, 140], values[230, 120]) == (244, 95)


def test_deflated_data_set(tmp_path):
    ds = dataset(RAMP)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert np.array_equal(open_source(save(tmp_path / "a.dcm", ds)).frame().values, RAMP)


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("grounding.dicom.MAX_BYTES", 1 << 16)
    ds = dataset(np.zeros((256, 256), np.uint8))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(ImageError, match=r"a\.dcm: unpacks to more than 16384 bytes; export it uncompressed"):
        open_source(save(tmp_path / "a.dcm", ds))


def test_bombs_are_refused_by_their_declared_size(tmp_path):
    ds = dataset(RAMP)
    ds.Rows = ds.Columns = 65535
    with pytest.raises(ImageError, match=r"a\.dcm: declares 65535 x 65535 pixels"):
        open_source(save(tmp_path / "a.dcm", ds))


@pytest.mark.parametrize("syntax", ["jpeg", "jpeg2000"])
def test_bombs_inside_a_codestream_are_refused(tmp_path, syntax):
    values = smooth(np.uint8)[:1]
    ds = jpeg_baseline(values, dataset(values)) if syntax == "jpeg" else dataset(values)
    if syntax == "jpeg":
        start = ds.PixelData.index(b"\xff\xc0") + 5
        size = b"\xff\xdc" * 2
    else:
        ds.compress(JPEG2000Lossless)
        start, size = ds.PixelData.index(b"\xff\x4f\xff\x51") + 8, b"\0\1\0\0" * 2
    ds.PixelData = ds.PixelData[:start] + size + ds.PixelData[start + len(size) :]
    with pytest.raises(ImageError, match=r"a\.dcm: declares (65500 x 65500|65536 x 65536) pixels"):
        open_source(save(tmp_path / "a.dcm", ds))


def test_truncated_pixels_are_told(tmp_path):
    content = save(tmp_path / "a.dcm", dataset(RAMP)).read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[:-40])
    with pytest.raises(ImageError, match=r"a\.dcm: cannot be decoded .*copy it again"):
        open_source(tmp_path / "a.dcm")


def test_a_video_is_refused_by_name(tmp_path):
    ds = jpeg_baseline([smooth(np.uint8)[0]], dataset(smooth(np.uint8)[0]))
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(
        ImageError, match=r"a\.dcm: is coded as 'MPEG2.*which no decoder here reads; export it as"
    ):
        open_source(save(tmp_path / "a.dcm", ds))


def test_objects_without_pixels_say_what_they_are():
    with pytest.raises(
        ImageError, match=r"rtplan\.dcm: is .*'RT Plan Storage' and holds no pixels; give a DICOM"
    ):
        open_source(get_testdata_file("rtplan.dcm"))
    with pytest.raises(ImageError, match="is a DICOM directory without pixels; give one of the image files"):
        open_source(get_testdata_file("DICOMDIR"))


def test_a_bare_data_set_without_preamble_is_read(tmp_path):
    ds = dataset(RAMP, Modality="MR", ImageType=["ORIGINAL", "PRIMARY"])
    del ds.file_meta
    pydicom.dcmwrite(tmp_path / "a", ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "a").read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(open_source(tmp_path / "a").frame().values, RAMP)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+n1.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jls_lossy_sample.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_lossy_gdcm.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit_2frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_one_colour_chart_in_every_coding_looks_the_same(name):
    pixels = MedicalImage.open(get_testdata_file(name)).pixels[5:100:10, 50].astype(int)
    chart = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255), (128, 128, 255)]
    chart += [(0, 0, 0), (64, 64, 64), (192, 192, 192), (255, 255, 255)]
    assert np.abs(pixels - chart).max() <= 5


BUNDLED = Path(pydicom.__file__).parent / "data"
UNREADABLE = {"JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm", "badVR.dcm", "no_meta.dcm"}
UNREADABLE |= {"meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm"}


@pytest.mark.parametrize(
    "path",
    sorted(
        p for p in BUNDLED.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".py"
    ),
    ids=lambda path: os.fspath(path.relative_to(BUNDLED)),
)
def test_every_file_that_pydicom_ships_is_read_or_refused_with_a_reason(path):
    try:
        image = MedicalImage.open(path)
    except ImageError as error:
        name, _, reason = str(error).partition(": ")
        assert name == path.name
        assert "; " in reason
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            holds_pixels = "PixelData" in pydicom.dcmread(path, force=True)
        assert not holds_pixels or path.name in UNREADABLE
    else:
        assert min(image.size) > 0
        assert path.name not in UNREADABLE
