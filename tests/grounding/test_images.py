import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from grounding.images import MAX_PIXELS, ImageError, open_source
from grounding.types import MedicalImage, Window

GRADIENT = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5) * 8
COLOUR = np.dstack([GRADIENT, GRADIENT[::-1], GRADIENT[:, ::-1]])


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".dat"])
@pytest.mark.parametrize("pixels", [GRADIENT, COLOUR], ids=["grey", "colour"])
def test_lossless_files_keep_every_pixel_whatever_their_name(tmp_path, suffix, pixels):
    kind = {".tif": "TIFF", ".bmp": "BMP"}.get(suffix, "PNG")
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", kind)
    image = MedicalImage.open(tmp_path / f"a{suffix}")
    assert np.array_equal(image.pixels, MedicalImage.from_array(pixels).pixels)
    assert (image.modality, image.spacing, image.orientation, image.window) == (None, None, None, None)


def test_jpeg_is_read_with_the_modality_that_was_given(tmp_path):
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "a.jpg", quality=95)
    image = MedicalImage.open(tmp_path / "a.jpg", modality="CR")
    assert image.modality == "CR"
    assert np.abs(image.pixels.astype(int) - 100).max() <= 2


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    red, green, _ = MedicalImage.open(tmp_path / "a.jpg").pixels[4, 4].astype(int)
    assert red > 200 > 60 > green


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_windowed_to_its_own_range(tmp_path, suffix):
    values = np.linspace(1000, 3000, 10_000).reshape(100, 100).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    source = open_source(tmp_path / f"a.{suffix}")
    assert np.array_equal(source.frame().values, values)
    image = source.render()
    assert image.pixels.min() == 0
    assert image.pixels.max() == 255
    assert image.window.center == pytest.approx(2000, abs=2)
    narrow = source.render(window=Window(1000, 2)).pixels
    assert narrow[0, 0, 0] == 128
    assert narrow[1:].min() == 255


def test_white_is_zero_16_bit_tiff_is_turned(tmp_path):
    values = np.array([[0, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert MedicalImage.open(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [255, 0]


def test_float_tiff_with_nan_is_shown(tmp_path):
    Image.fromarray(np.array([[0, 1, np.nan]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert MedicalImage.open(tmp_path / "a.tif").pixels[0, :, 0].tolist()[1:] == [255, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_orientation_turns_the_picture(tmp_path, dtype):
    values = np.array([[10, 20, 30]], dtype=dtype)
    exif = Image.Exif()
    exif[274] = 6  # stored rotated: shown a quarter turn clockwise
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    source = open_source(tmp_path / "a.png")
    assert source.frame().values.tolist() == [[10], [20], [30]]
    assert source.render().size == (3, 1)


def test_transparent_pixels_become_black(tmp_path):
    rgba = np.zeros((1, 2, 4), dtype=np.uint8)
    rgba[0, :, :3] = 200
    rgba[0, 0, 3] = 255
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png")
    assert MedicalImage.open(tmp_path / "a.png").pixels[0, :, 0].tolist() == [200, 0]
    Image.fromarray(rgba[:, :, 2:], "LA").save(tmp_path / "b.png")
    assert MedicalImage.open(tmp_path / "b.png").pixels[0].tolist() == [[200] * 3, [0] * 3]


def test_palette_and_one_bit_pictures(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "a.png")
    assert MedicalImage.open(tmp_path / "a.png").pixels[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    palette.save(tmp_path / "b.png", transparency=0)
    assert MedicalImage.open(tmp_path / "b.png").pixels[0].tolist() == [[0, 0, 0], [0, 0, 255]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "c.png")
    assert MedicalImage.open(tmp_path / "c.png").pixels[0, :, 0].tolist() == [255, 0]


def test_pages_of_a_tiff_are_frames(tmp_path):
    pages = [Image.fromarray(np.full((2, 2 + n), n, np.uint8)) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    source = open_source(tmp_path / "a.tif")
    assert source.frame_count == 3
    assert [source.render(n).size for n in (0, 1, -1)] == [(2, 2), (2, 3), (2, 4)]
    assert MedicalImage.open(tmp_path / "a.tif", frame=2).pixels[0, 0, 0] == 2
    with pytest.raises(ImageError, match=r"a\.tif: has no frame 3; choose one from 0 to 2"):
        source.render(3)
    with pytest.raises(ImageError, match="has no view 'axial'; choose one of frames"):
        source.render(view="axial")


def test_a_source_outlives_its_file_and_decodes_a_frame_once(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert source.frame() is source.frame()
    assert source.render(window=Window(0.5, 1)).pixels.max() == 255


def test_colour_has_no_window(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: is a colour picture.*leave the window out"):
        MedicalImage.open(tmp_path / "a.png", window=Window(1, 2))


def png(width, height):
    """A PNG that declares a size and ends where its pixels should begin."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + struct.pack(">I", 100) + b"IDAT"


def tiff(width, height):
    """A TIFF that declares a size and has one short strip."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 4)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("content", [png(30_000, 30_000), tiff(30_000, 30_000)], ids=["png", "tiff"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_by_their_declared_size(tmp_path, content):
    with pytest.raises(
        ImageError, match=r"bomb\.bin: .*(30000 x 30000|900000000 pixels).*export a smaller version"
    ):
        open_source(write(tmp_path / "bomb.bin", content))


def test_a_bomb_just_over_the_limit_is_refused_with_a_remedy(tmp_path):
    content = png(8192, MAX_PIXELS // 8192 + 1)
    with pytest.raises(ImageError, match=r"more than the \d+ that are read; export a smaller version"):
        open_source(write(tmp_path / "a.png", content))


def truncated_jpeg():
    from io import BytesIO

    rng = np.random.default_rng(0)
    out = BytesIO()
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()[:1200]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", r"empty\.png: is empty; copy or export it again"),
        ("note.dcm", b"Patient was seen today.\n" * 20, r"note\.dcm: is no DCM file whatever its name says"),
        ("scan.png", b"<html>not found</html>", r"scan\.png: is no PNG file"),
        (
            "scan",
            b"hello world, hello world",
            r"scan: is no image, .*give a PNG, JPEG, TIFF, BMP, DICOM or NIfTI",
        ),
        ("zeros.dcm", b"\0" * 4096, r"zeros\.dcm: holds only zeros"),
        ("cut.png", png(64, 64), r"cut\.png: cannot be decoded .*copy it again"),
        ("cut.jpg", truncated_jpeg(), r"cut\.jpg: cannot be decoded \(image file is truncated"),
        ("head.png", b"\x89PNG\r\n\x1a\n", r"head\.png: its header is damaged or truncated"),
        ("study.zip", b"PK\x03\x04" + b"\0" * 64, r"study\.zip: is an archive.*unpack it"),
        ("a.tif", b"II*\0\xff\xff\xff\xff", r"a\.tif: its header is damaged or truncated"),
    ],
)
def test_bad_files_give_one_error_with_name_and_remedy(tmp_path, name, content, message):
    with pytest.raises(ImageError, match=message):
        MedicalImage.open(write(tmp_path / name, content))


def test_missing_files_directories_and_pipes(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: does not exist; check the path"):
        open_source(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a directory; give one image file of it"):
        open_source(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe: is not a regular file"):
        open_source(tmp_path / "pipe")


@pytest.mark.parametrize("cut", [20, 60, 90, 130])
def test_no_truncation_escapes_as_another_error(tmp_path, cut):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for broken in (content[:cut], content[:cut] + b"\xff" * 8 + content[cut + 8 :]):
        try:
            MedicalImage.open(write(tmp_path / "b.png", broken))
        except ImageError as error:
            assert str(error).startswith("b.png: ")


def test_real_images_open(data_dir):
    for path in sorted((data_dir / "grounding" / "cxr_lungs").rglob("*.jpg"))[:3]:
        image = MedicalImage.open(path, modality="CR")
        assert max(image.size) <= 512
