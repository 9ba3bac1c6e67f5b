"""Detectors behind one protocol (`grounding.evaluate.detections.Detector`): our grounder, and its peers.

Owns the adapters and what each family of models calls its outputs. Knows no data set and no metric. A peer
is any zero-shot detector of transformers: the Grounding DINO family, OWL-ViT, OWLv2, OmDet-Turbo. Its raw
outputs are read by phrase index; the library's own post-processing names boxes by decoded tokens or keeps one
phrase a box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.manifest import checkpoint_hash
from grounding.boxes import clip_boxes, denormalize_boxes
from grounding.evaluate.coco import MAX_DETECTIONS
from grounding.evaluate.detections import Detections, Threshold, detect
from grounding.prompts import build_prompt, collate_prompts, phrase_probabilities
from grounding.types import MedicalImage, Regions

if TYPE_CHECKING:
    from grounding.predictor import Grounder

Output = tuple[torch.Tensor, torch.Tensor]
"""Phrase probabilities (Q, P), and boxes (Q, 4) cxcywh as fractions of the image (height, width)."""


class GrounderDetector:
    """Our grounder, with its own calibration where one lies beside the checkpoint."""

    def __init__(self, grounder: Grounder, name: str) -> None:
        """See :func:`open_grounder`."""
        self._grounder, self.name = grounder, name
        self.threshold = Threshold(grounder.threshold, grounder.presence_threshold)
        self.fingerprint = f"{grounder.fingerprint} {grounder.dtype} {grounder.phrases_per_pass}"

    def detect(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> list[Detections]:
        """Every box above the grounder's low floor, at most 100 an image, and its presence."""
        return detect(self._grounder, images, phrases_per_image)


def open_grounder(
    checkpoint: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    calibrated: bool = True,
    phrases_per_pass: int | None = None,
) -> GrounderDetector:
    """Our grounder by name or folder.

    Args:
        checkpoint: A shipped name, a folder or a hub id.
        device: As in :meth:`Grounder.from_pretrained`.
        dtype: As there; named in the detector's name unless it is "auto".
        calibrated: Use the calibration beside the checkpoint, where there is one.
        phrases_per_pass: Most phrases that share a forward pass; named in the detector's name.
    """
    from grounding.predictor import Grounder

    grounder = Grounder.from_pretrained(checkpoint, device=device, dtype=dtype)
    grounder.phrases_per_pass = phrases_per_pass
    if not calibrated:
        grounder.calibration = None
    suffix = "" if phrases_per_pass is None else f"-{phrases_per_pass}-a-pass"
    suffix += "" if dtype == "auto" else f"-{dtype}"
    return GrounderDetector(grounder, Path(checkpoint).name + suffix)


@dataclass(frozen=True)
class Family:
    """What one kind of model needs to be asked, and how it answers.

    Attributes:
        image_processor: transformers' class that works without torchvision.
        threshold: the library's default, from which on boxes are shown.
        read: model, image processor, tokenizer, image, phrases -> output.
    """

    image_processor: str
    threshold: float
    read: Callable[[Any, Any, Any, MedicalImage, list[str]], Output]


def _grounding_dino(
    model: Any, processor: Any, tokenizer: Any, image: MedicalImage, phrases: list[str]
) -> Output:
    ids, mask, maps = collate_prompts([build_prompt(tokenizer, phrases)])
    inputs = processor(images=image.pixels, return_tensors="pt").to(model.device)
    output = model(**inputs, input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    logits = output.logits[0, :, : ids.shape[1]].float().cpu()
    return phrase_probabilities(logits, maps[0]), output.pred_boxes[0].float().cpu()


def _owlvit(model: Any, processor: Any, tokenizer: Any, image: MedicalImage, phrases: list[str]) -> Output:
    pixels = processor(images=image.pixels, return_tensors="pt").to(model.device)
    length = model.config.text_config.max_position_embeddings
    output = model(**pixels, **_tokens(tokenizer, phrases, length).to(model.device))
    return output.logits[0].float().sigmoid().cpu(), output.pred_boxes[0].float().cpu()


def _owlv2(model: Any, processor: Any, tokenizer: Any, image: MedicalImage, phrases: list[str]) -> Output:
    """OWLv2 pads the picture to a square, right or bottom: its boxes are fractions of the longer side."""
    probabilities, boxes = _owlvit(model, processor, tokenizer, image, phrases)
    longest = max(image.size)
    scale = torch.tensor([longest / image.width, longest / image.height] * 2)
    return probabilities, boxes * scale


def _omdet(model: Any, processor: Any, tokenizer: Any, image: MedicalImage, phrases: list[str]) -> Output:
    """As the library's processor asks, which cannot be had without torchvision."""
    length = model.config.text_config.max_position_embeddings
    task = _tokens(tokenizer, [f"Detect {', '.join(phrases)}."], length)
    classes = _tokens(tokenizer, phrases, length)
    inputs = {f"tasks_{key}": value for key, value in task.items()}
    inputs |= {f"classes_{key}": value for key, value in classes.items()}
    inputs |= {"classes_structure": torch.tensor([len(phrases)])}
    inputs |= {"pixel_values": processor(images=image.pixels, return_tensors="pt")["pixel_values"]}
    output = model(**{key: value.to(model.device) for key, value in inputs.items()})
    probabilities = output.decoder_class_logits[0, :, : len(phrases)].float().sigmoid().cpu()
    return probabilities, output.decoder_coord_logits[0].float().cpu()


def _tokens(tokenizer: Any, texts: list[str], length: int) -> Any:
    """CLIP's tokens of each text, padded and cut to `length`."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")


_DINO = Family("GroundingDinoImageProcessorPil", 0.25, _grounding_dino)
FAMILIES = {  # by the `model_type` in config.json
    "grounding-dino": _DINO,
    "mm-grounding-dino": _DINO,
    "owlvit": Family("OwlViTImageProcessorPil", 0.1, _owlvit),
    "owlv2": Family("Owlv2ImageProcessorPil", 0.1, _owlv2),
    "omdet-turbo": Family("DetrImageProcessorPil", 0.3, _omdet),
}


class ZeroShotDetector:
    """A zero-shot detector of transformers, asked image by image, all phrases of an image at once."""

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, family: Family, name: str, fingerprint: str
    ) -> None:
        """See :meth:`from_pretrained`."""
        self._model, self._processor, self._tokenizer, self._family = model, processor, tokenizer, family
        self.name, self.fingerprint = name, fingerprint
        self.threshold = Threshold(lambda _phrase: family.threshold)

    @classmethod
    def from_pretrained(cls, name_or_path: str, *, device: str = "auto") -> ZeroShotDetector:
        """Load a folder in the hub's layout, or a hub id.

        Raises:
            ValueError: the model is of no known family.
        """
        import transformers

        config = transformers.AutoConfig.from_pretrained(name_or_path)
        if config.model_type not in FAMILIES:
            raise ValueError(
                f"{name_or_path}: expected a model of type {sorted(FAMILIES)}, got {config.model_type!r}; "
                "add its Family in benchmarks/detectors.py"
            )
        family = FAMILIES[config.model_type]
        model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(name_or_path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name_or_path)
        processor = getattr(transformers, family.image_processor).from_pretrained(name_or_path)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        path = Path(name_or_path)
        fingerprint = str(checkpoint_hash(path) if path.is_dir() else name_or_path)
        return cls(model.to(device).eval(), processor, tokenizer, family, path.name, fingerprint)

    @torch.inference_mode()
    def detect(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> list[Detections]:
        """The 100 best (box, phrase) pairs of each image."""
        return [
            Detections.by_best_box(self._regions(image, list(phrases)))
            for image, phrases in zip(images, phrases_per_image, strict=True)
        ]

    def _regions(self, image: MedicalImage, phrases: list[str]) -> Regions:
        if not phrases:
            return Regions.empty(image.size)
        read = self._family.read
        probabilities, boxes = read(self._model, self._processor, self._tokenizer, image, phrases)
        scores, order = probabilities.flatten().topk(min(MAX_DETECTIONS, probabilities.numel()))
        pixels = denormalize_boxes(boxes[order // len(phrases)], image.size)
        return Regions(
            boxes=clip_boxes(pixels, image.size).numpy(),
            scores=scores.numpy(),
            phrase_index=(order % len(phrases)).numpy().astype(np.int64),
            asked=tuple(phrases),
            image_size=image.size,
        )
