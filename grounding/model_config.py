"""The network's configuration; no layer is built here."""

from __future__ import annotations

from transformers import MMGroundingDinoConfig


class MedGLIPConfig(MMGroundingDinoConfig):
    """MM-Grounding-DINO's configuration plus what Med-GLIP adds.

    Attributes:
        image_size: Side in pixels of the square to which an image is resized, aspect ratio not kept.
        modalities: Groups of DICOM modality codes; codes of one group share a learned conditioning.
        modality_conditioning: Add the learned embedding of the modality to image and text tokens.
        modality_prefix: Prompts open with the modality's word (see :mod:`grounding.modality`).
        presence: The presence score was trained, and is part of the output.
        box_threshold: Default score below which the predictor drops a region.
        labels: Phrases it was trained on; empty = not stated.
        label_modalities: Label -> DICOM codes of the images it was trained on; a label without an entry is
            looked for wherever the ontology sees it.
    """

    model_type = "medglip"

    image_size: int = 320
    modalities: list | tuple = (("CR", "DX"), ("CT",), ("MR",), ("US",), ("ES",), ("DMS",), ("OP",), ("SM",))
    modality_conditioning: bool = True
    modality_prefix: bool = False
    presence: bool = False
    box_threshold: float = 0.3
    labels: list | tuple = ()
    label_modalities: dict | None = None

    def modality_id(self, modality: str | None) -> int:
        """Row of the modality embedding for a DICOM code; 0 where the modality is unknown or not listed."""
        for index, codes in enumerate(self.modalities, start=1):
            if modality in codes:
                return index
        return 0
