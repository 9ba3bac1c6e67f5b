"""What kind of image it is: as it says, else as the grounder takes it, else unknown. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grounding.types import MODALITIES, MedicalImage

_SURE: Final = 0.5  # as the grounder itself asks for before it looks at the image as of that kind


@dataclass(frozen=True)
class ImageModality:
    """The kind of an image.

    Attributes:
        codes: DICOM codes that it may have: one where it is stated, perhaps several that the grounder does
            not tell apart (CR, DX); empty = unknown.
        probability: of the grounder's modality head, in (0.5, 1]; None where stated or unknown.
    """

    codes: tuple[str, ...]
    probability: float | None = None

    @property
    def stated(self) -> bool:
        """Whether the file, or who opened it, says it."""
        return bool(self.codes) and self.probability is None

    @property
    def text(self) -> str:
        """One sentence, with where it is known from."""
        names = " or ".join(f"{MODALITIES.get(code, 'named by its code')} ({code})" for code in self.codes)
        if not self.codes:
            return "The kind of image is unknown: it is not stated, and the grounder is not sure enough."
        if self.probability is None:
            return f"The image is stated to be {names}."
        return f"The grounder takes the image for {names}, probability {self.probability:.2f}."


def classify(image: MedicalImage, probabilities: Mapping[tuple[str, ...], float]) -> ImageModality:
    """Return the kind of `image`.

    Args:
        image: says its modality (DICOM tag, or whoever opened it), or does not.
        probabilities: of the grounder's groups of codes; only read where the image says nothing.
    """
    if image.modality is not None:
        return ImageModality((image.modality,))
    codes, probability = max(probabilities.items(), key=lambda item: item[1], default=((), 0.0))
    return ImageModality(codes, probability) if probability > _SURE else ImageModality(())
