"""The annotated picture: regions drawn in, a footer with the notice and the models, the same as metadata."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Final

from grounding.types import MedicalImage

from .. import NOTICE
from ..render import draw_regions
from .provenance import SOFTWARE, model_line, provenance_line, software_version
from .result import Result

if TYPE_CHECKING:
    from PIL import Image

_FOOTER: Final = (20, 20, 20)
_INK: Final = (235, 235, 235)
_HEX: Final = 64  # whole hashes, in the metadata
_LONGEST_SIDE: Final = 1600  # pixels of a picture inside a page
_PNG_PIXELS: Final = 1 << 19  # larger pictures go into pages as JPEG


def draw(result: Result) -> Image.Image:
    """Return the picture with the cited regions drawn on it, or with all where none is cited."""
    return draw_regions(result.image, result.regions, only=result.cited or None)


def encode(result: Result) -> bytes:
    """Return the annotated picture with its footer as PNG; the picture keeps the top left corner."""
    from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

    picture = draw(result)
    lines = [NOTICE, *provenance_line(result.models).split(" · ")]
    size = max(10, round(picture.width / 45))
    longest = max(ImageFont.load_default(size=size).getlength(line) for line in lines)
    size = max(6, int(size * min(1.0, (picture.width - 8) / longest)))
    font = ImageFont.load_default(size=size)
    line_height = round(size * 1.4)
    page = Image.new("RGB", (picture.width, picture.height + line_height * len(lines) + 6), _FOOTER)
    page.paste(picture, (0, 0))
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        pen.text((4, picture.height + 3 + number * line_height), line, font=font, fill=_INK)
    info = PngImagePlugin.PngInfo()
    info.add_text("Disclaimer", NOTICE)
    info.add_text("Software", f"{SOFTWARE} {software_version()}")
    info.add_text("Models", "; ".join(model_line(model, _HEX) for model in result.models))
    return _saved(page, "PNG", pnginfo=info)


def plain_png(image: MedicalImage) -> bytes:
    """Return the picture as it is, as PNG."""
    from PIL import Image

    return _saved(Image.fromarray(image.pixels), "PNG")


def data_uri(picture: Image.Image) -> str:
    """Return a picture for a page that needs no other file; a large one is scaled down."""
    shown = picture.copy()
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    kind = "PNG" if shown.width * shown.height <= _PNG_PIXELS else "JPEG"
    data = _saved(shown, kind) if kind == "PNG" else _saved(shown, kind, quality=92)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
