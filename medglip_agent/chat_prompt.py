"""What a chat model is told: its task, and facts of the image that name no patient.

No path, hash or identifier and no pixels go into a prompt: the model works through the tools.
"""

from __future__ import annotations

from typing import Final

from grounding.types import MODALITIES, MedicalImage

from . import NOTICE
from .fence import RULE, harmless
from .request import Request

_TASK: Final = f"""\
You answer questions about one medical image. You do not see it: the tools do. Call as many as you need, one
step after another; then answer in a few plain sentences.
- Rest each statement about the image on what a tool returned, and cite its regions as [R1], [R2] with the
  numbers that the tools gave. Other numbers are removed from your answer.
- What no tool found, you do not know: say that it was looked for and not found, or that you cannot tell.
- When a call does not fit, read the message and correct it.
- Left and right in the tools' words are the picture's unless a label names the side of the patient.
- No advice on treatment, prognosis or anything but the image. {NOTICE}
- {RULE}"""


def system_text(image: MedicalImage, prior: MedicalImage | None) -> str:
    """Return the task with the facts of the image."""
    lines = [_TASK, f"The current image: {_facts(image)}."]
    lines.append(f"The prior image: {_facts(prior)}." if prior is not None else "There is no prior image.")
    return "\n".join(lines)


def user_text(request: Request) -> str:
    """Return the user's words, which cannot open a turn of their own, and the box that they have marked."""
    words = harmless(request.question.strip())
    if request.box is None:
        return words
    box = ", ".join(f"{float(side):.0f}" for side in request.box)
    return f"{words}\nThe user has marked the box [{box}] (x1, y1, x2, y2 in pixels of the current image)."


def _facts(image: MedicalImage) -> str:
    kind = MODALITIES.get(image.modality or "", image.modality or "kind unknown")
    if image.spacing is None:
        spacing = "pixel spacing unknown"
    else:
        where = "at the detector" if image.spacing.kind == "detector" else "in the patient"
        row, col = image.spacing.row_mm, image.spacing.col_mm
        spacing = f"pixel spacing {row:.3g} x {col:.3g} mm (rows x columns) {where}"
    sides = "the patient's sides unknown"
    if image.orientation is not None:
        sides = f"x runs to the patient's {image.orientation[0]}, y to {image.orientation[1]} (DICOM letters)"
    return f"{kind}, {image.width} px wide and {image.height} px high, {spacing}, {sides}"
