"""The formats by the end of the file's name, and writing and reading by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from grounding.types import Regions

from . import annotated_png, coco, fhir, grounded_json, html_page, markdown
from .result import ExportError, Result, SourceFrame


@dataclass(frozen=True)
class Format:
    """A kind of file to take away.

    Attributes:
        suffix: how its name ends.
        title: what it is, in a few words.
        encode: the result as the file's bytes.
        extra: (module, extra of this project) that it needs beyond the core; None = nothing.
        identifies: it takes patient and study from the picture's own DICOM file; the others carry neither.
    """

    suffix: str
    title: str
    encode: Callable[[Result], bytes]
    extra: tuple[str, str] | None = None
    identifies: bool = False

    @property
    def absent(self) -> str:
        """What to install before it can be written; empty where all is there."""
        if self.extra is None or find_spec(self.extra[0]) is not None:
            return ""
        return f"{self.suffix} needs {self.extra[0]}, which is absent: pip install '.[{self.extra[1]}]'"


def _dicom_sr(result: Result) -> bytes:
    from .dicom_sr import encode  # pydicom loads with it

    return encode(result)


def _dicom_capture(result: Result) -> bytes:
    from .dicom_capture import encode

    return encode(result)


_HIGHDICOM: Final = ("highdicom", "dicom-sr")
FORMATS: Final = {
    form.suffix: form
    for form in (
        Format(".png", "annotated picture (PNG)", annotated_png.encode),
        Format(".html", "report with picture (HTML)", html_page.encode),
        Format(".md", "report with picture (Markdown)", markdown.encode),
        Format(".json", "grounded answer (JSON)", grounded_json.encode),
        Format(".coco.json", "boxes (COCO JSON)", coco.encode),
        Format(".fhir.json", "diagnostic report (FHIR R4)", fhir.encode, ("fhir", "fhir")),
        Format(".sc.dcm", "picture as DICOM (Secondary Capture)", _dicom_capture, _HIGHDICOM),
        Format(".dcm", "structured report (DICOM SR)", _dicom_sr, _HIGHDICOM, identifies=True),
    )
}
"""End of the file's name -> format; the longest end that fits decides."""


def format_of(path: Path) -> Format:
    """Return the format that a file's name asks for.

    Raises:
        ExportError: it asks for none.
    """
    fitting = [suffix for suffix in FORMATS if path.name.lower().endswith(suffix)]
    if not fitting:
        raise ExportError(f"an export must end in one of {', '.join(FORMATS)}, got {path.name!r}")
    return FORMATS[max(fitting, key=len)]


def check_export(path: Path, source: SourceFrame | None = None) -> Format:
    """Check, before any model is loaded, that a result can be written there; return the format.

    Args:
        path: where it will be written.
        source: where the picture is read.

    Raises:
        ExportError: the name asks for no format, an extra is absent, or an SR has no file to point into.
    """
    form = format_of(path)
    if form.absent:
        raise ExportError(form.absent)
    if form.identifies:
        from .dicom_sr import check_source

        check_source(source)
    return form


def write_export(path: Path, result: Result) -> None:
    """Write the result in the format that the file's name asks for; folders are made.

    Raises:
        ExportError: see `check_export`; or a DICOM SR's source is not the result's picture.
    """
    data = format_of(path).encode(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read_export(path: Path, image_size: tuple[int, int] | None = None) -> Regions:
    """Read the regions of a grounded-answer JSON, a COCO json about one picture, or a TID 1500 SR.

    Args:
        path: the file; its content decides which.
        image_size: (height, width), for an SR of another program that does not tell it.

    Returns:
        Boxes xyxy in pixels of the picture. An SR holds boxes only, and only phrases that were found.

    Raises:
        ExportError: it is none of them, or damaged.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if data[128:132] == b"DICM":
        from .dicom_sr import read

        return read(data, image_size)
    try:
        content: Any = json.loads(data)
    except ValueError as error:  # of JSON or of UTF-8
        raise ExportError(f"{path.name} is neither JSON nor DICOM; {_READABLE}") from error
    if isinstance(content, dict) and "schema" in content:
        return grounded_json.read(content)
    if isinstance(content, dict) and "annotations" in content:
        return coco.read(content)
    raise ExportError(f"{path.name} is JSON of another kind; {_READABLE}")


_READABLE: Final = "regions are read from grounded-answer JSON, COCO json and DICOM SR"
