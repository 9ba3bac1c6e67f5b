"""What one browser session holds, and how it changes. Plain values: no widgets, no models, nothing shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from grounding.images import ImageSource, open_source
from grounding.ontology import Ontology
from grounding.types import MODALITIES, MedicalImage, Regions, Window
from llm.types import Answer, Report

from ..uploads import UploadJail

UNKNOWN_MODALITY: Final = ""

# Everyday words for DICOM codes, where MODALITIES has the standard's.
_WORDS: Final = {
    "CR": "X-ray", "DX": "digital X-ray", "CT": "CT", "MR": "MRI", "OP": "eye fundus", "SM": "microscopy"
}  # fmt: skip

# Usual windows for CT, in Hounsfield units.
CT_WINDOWS: Final = {
    "soft tissue": Window(40, 400),
    "lung": Window(-600, 1500),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
}
FILE_WINDOW: Final = "as in the file"


@dataclass(frozen=True, eq=False)
class Session:
    """One session's image and what was found in it last; every change makes a new value.

    Attributes:
        source: the open file.
        title: its name, shown to this session only.
        frame: which frame or slice, from 0.
        window: a key of `CT_WINDOWS`, or `FILE_WINDOW`.
        modality: DICOM code, None = unknown.
        image: the picture on show.
        regions: of the last answer about this picture, None before the first.
        cited: indices into `regions` that the last answer cites.
        path: the file, for the one export that points into it.
        jail: holds the file where it was uploaded; both go with the session.
        question: the last one that was answered.
        answer: the last answer or report about this picture, None before the first.
        conversation: the agent's memory of this session's questions, None before the first.
        box: what the last question was about, (x1, y1, x2, y2) in pixels of `image`; None = all of it.
    """

    source: ImageSource
    title: str
    frame: int
    window: str
    modality: str | None
    image: MedicalImage
    regions: Regions | None = None
    cited: tuple[int, ...] = ()
    path: Path | None = None
    jail: UploadJail | None = None
    question: str = ""
    answer: Answer | Report | None = None
    conversation: Any = None
    box: tuple[float, float, float, float] | None = None

    @property
    def frame_count(self) -> int:
        """How many frames or slices the file has."""
        return self.source.frame_count

    @property
    def windows(self) -> tuple[str, ...]:
        """The windows to choose from; empty where a window means nothing."""
        grey = self.source.frame(self.frame).values.ndim == 2
        raw = grey and self.source.frame(self.frame).values.dtype != "uint8"
        return (FILE_WINDOW, *CT_WINDOWS) if raw and self.source.modality == "CT" else ()


def open_session(
    path: str | Path, title: str = "", modality: str | None = None, jail: UploadJail | None = None
) -> Session:
    """Open a file.

    Args:
        path: a picture, DICOM or NIfTI file.
        title: what to call it; the file's name when empty.
        modality: DICOM code that overrides what the file says.
        jail: where the file lies, when it was uploaded.

    Raises:
        ValueError: the file cannot be shown; the message says what to do.
    """
    path = Path(path)
    opened = open_source if jail is None else jail.open
    source = opened(path, modality=modality)
    view = next(iter(source.views.values()))
    image = source.render(view.default)
    name = title or path.name
    return Session(source, name, view.default, FILE_WINDOW, source.modality, image, path=path, jail=jail)


def change_view(session: Session, frame: int, window: str, modality: str) -> Session:
    """Show another frame, window or kind of image; what was found before no longer holds.

    Args:
        session: the present state.
        frame: from 0, clipped to the frames there are.
        window: one of `session.windows`; anything else means the file's own.
        modality: DICOM code, or "" for unknown.

    Raises:
        grounding.images.ImageError: the frame cannot be decoded.
    """
    frame = min(max(0, frame), session.frame_count - 1)
    window = window if window in session.windows else FILE_WINDOW
    picture = session.source.render(frame, CT_WINDOWS.get(window))
    image = replace(picture, modality=modality or None)
    viewed = replace(session, frame=frame, window=window, modality=modality or None, image=image)
    return _unasked(viewed)


def new_conversation(session: Session) -> Session:
    """Return the same picture with nothing asked about it."""
    return replace(_unasked(session), conversation=None)


def _unasked(session: Session) -> Session:
    return replace(session, regions=None, cited=(), question="", answer=None, box=None)


def modality_choices() -> list[tuple[str, str]]:
    """Return (words, code) of the kinds of image that something can be found in, unknown first."""
    ontology = Ontology.load()
    known = [code for code in MODALITIES if ontology.labels_for(code)]
    return [("not known", UNKNOWN_MODALITY), *((_choice(code), code) for code in known)]


def _choice(code: str) -> str:
    words = kind_words(code)
    return words if words == code else f"{words} ({code})"


def kind_words(modality: str) -> str:
    """Return everyday words for a DICOM modality code; an unknown code stays as it is."""
    return _WORDS.get(modality, MODALITIES.get(modality, modality))


def caption(session: Session) -> str:
    """Return one line about the picture: title, size, kind, and whose left is left."""
    image = session.image
    parts = [session.title, f"{image.width} x {image.height} px"]
    parts.append(kind_words(image.modality) if image.modality else "kind not known")
    if session.frame_count > 1:
        parts.append(f"frame {session.frame + 1} of {session.frame_count}")
    if image.orientation is None:
        parts.append("left and right as in the picture")
    elif image.orientation[0].startswith("L"):
        parts.append("patient's right is on the left")
    return " · ".join(parts)
