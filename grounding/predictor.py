"""Grounder: an image and phrases in, regions in pixels of the original image out.

Encode an image once with :meth:`Grounder.set_image`, then ask as often as you like: the backbone runs once,
and a prompt's text is encoded once. This is one of the two borders at which boxes change their frame (network
input to original image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .batching import join_images, join_texts, one_image
from .boxes import clip_boxes, denormalize_boxes
from .checkpoint import Checkpoint, open_checkpoint
from .modeling import GroundingOutput, ImageFeatures, TextFeatures
from .nms import nms_indices
from .ontology import Ontology
from .packing import Packing, pack
from .preprocess import pad_together
from .prompts import Prompt, phrase_probabilities, positive_map
from .types import MedicalImage, Regions

MAX_REGIONS = 100  # regions kept an image, best first: COCO's own limit
MAX_BATCH = 8  # images, or passes, of one forward, which bounds memory
SCORE_FLOOR = 0.01  # below this a score carries no information and is never returned
TEXT_CACHE = 64  # prompts whose text features are kept, about 0.2 MB each


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image for the C columns of one or more prompts; scores are calibrated.

    Attributes:
        scores: float32 (C, Q).
        boxes: float32 (C, Q, 4) cxcywh in [0, 1] of the image.
        presence: float32 (C,) that the phrase is to be seen at all.
    """

    scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]


class Grounder:
    """Finds the regions of an image that show given phrases.

    Attributes:
        name: Name or path the model was loaded from.
        box_threshold: Score below which regions are dropped when neither the call nor a calibration says
            otherwise.
        calibration: What makes scores probabilities, and a threshold for each phrase; None = raw scores and
            ``box_threshold`` for all. Set it to None before an image is encoded to get raw scores.
        labels: Phrases the model was trained on; empty = not stated. Any other may be asked for all the same.
        ontology: The label tree as the model knows it (see :meth:`Ontology.known_to`).
        phrases_per_pass: Most phrases that share a forward pass; None = as many as fit its 256 tokens. Fewer
            are more passes: slower, and phrases that share a pass influence each other.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, device: torch.device, dtype: torch.dtype) -> None:
        """See :meth:`from_pretrained`."""
        self.model = checkpoint.model.to(device, memory_format=torch.channels_last).eval()
        self.name, self.device, self.dtype = name, device, dtype
        self.calibration = checkpoint.calibration
        config = self.model.config
        self.box_threshold: float = config.box_threshold
        self.labels: tuple[str, ...] = tuple(config.labels)
        self.ontology = Ontology.load().known_to(self.labels, config.label_modalities)
        self.phrases_per_pass: int | None = None
        self._make_input, self._tokenizer = checkpoint.make_input, checkpoint.tokenizer
        self._text = lru_cache(maxsize=TEXT_CACHE)(self._encode_text)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "nano", *, device: str = "auto", dtype: str = "auto"
    ) -> Grounder:
        """Load a packaged model by name ("nano"), a checkpoint folder, or a published model.

        Args:
            name_or_path: A packaged checkpoint, a folder written by ``grounding.train``, or the folder or hub
                id of a published MM-Grounding-DINO or LLMDet checkpoint, which keeps its own preprocessing.
            device: "cpu", "cuda" or "auto" (CUDA where there is one).
            dtype: "float32", "bfloat16" or "auto" (bfloat16 where the device computes in it, else float32).

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it does not fit, or a setting is unknown.
        """
        chosen = (
            torch.device("cuda" if torch.cuda.is_available() else "cpu")
            if device == "auto"
            else torch.device(device)
        )
        return cls(open_checkpoint(name_or_path), str(name_or_path), chosen, _choose_dtype(dtype, chosen))

    def ground(
        self,
        image: MedicalImage,
        phrases: Sequence[str],
        *,
        box_threshold: float | None = None,
        nms_iou: float | None = None,
    ) -> Regions:
        """Regions of ``image`` for ``phrases``; see :meth:`GroundedImage.ground`."""
        return self.set_image(image).ground(phrases, box_threshold=box_threshold, nms_iou=nms_iou)

    def set_image(self, image: MedicalImage) -> GroundedImage:
        """Encode an image once, to be asked many times."""
        return self._encode([image])[0]

    def ground_batch(
        self,
        images: Sequence[MedicalImage],
        phrases_per_image: Sequence[Sequence[str]],
        *,
        box_threshold: float | None = None,
        nms_iou: float | None = None,
    ) -> list[Regions]:
        """Regions of several images, each for its own phrases; images share forward passes of at most 8.

        Raises:
            ValueError: If the two sequences differ in length, or as :meth:`GroundedImage.ground`.
        """
        if len(images) != len(phrases_per_image):
            raise ValueError(
                f"expected phrases for {len(images)} images, got them for {len(phrases_per_image)}"
            )
        results: list[Regions] = []
        for start in range(0, len(images), MAX_BATCH):
            part = slice(start, start + MAX_BATCH)
            encoded = self._encode(images[part])
            packings = [self._pack(phrases) for phrases in phrases_per_image[part]]
            pairs = [(i, prompt) for i, packing in enumerate(packings) for prompt in packing.prompts]
            predictions = self._predict([(encoded[i], prompt) for i, prompt in pairs])
            for index, (image, packing) in enumerate(zip(encoded, packings, strict=True)):
                own = [p for (i, _), p in zip(pairs, predictions, strict=True) if i == index]
                results.append(self._regions(image.image, packing, _concatenate(own), box_threshold, nms_iou))
        return results

    def _pack(self, phrases: Sequence[str]) -> Packing:
        return pack(self._tokenizer, phrases, max_phrases=self.phrases_per_pass)

    @torch.inference_mode()
    def _encode(self, images: Sequence[MedicalImage]) -> list[GroundedImage]:
        pixels, mask = pad_together([self._make_input(image.pixels) for image in images])
        with self._autocast():
            features = self.model.encode_image(
                pixels.to(self.device, memory_format=torch.channels_last),
                None if mask is None else mask.to(self.device),
            )
        return [GroundedImage(self, image, one_image(features, row)) for row, image in enumerate(images)]

    def _encode_text(self, prompt: Prompt) -> TextFeatures:
        """Of one prompt alone, so that what is kept does not depend on what it was first asked with."""
        ids = torch.tensor([prompt.input_ids], device=self.device)
        features: TextFeatures = self.model.encode_text(ids, torch.ones_like(ids))
        return features

    @torch.inference_mode()
    def _predict(self, pairs: Sequence[tuple[GroundedImage, Prompt]]) -> list[Prediction]:
        """What the network says of each image for its prompt, at most ``MAX_BATCH`` pairs a forward."""
        predictions: list[Prediction] = []
        for start in range(0, len(pairs), MAX_BATCH):
            images, prompts = zip(*pairs[start : start + MAX_BATCH], strict=True)
            rows = [self.model.config.modality_id(image.image.modality) for image in images]
            with self._autocast():
                output = self.model.ground(
                    join_images([image.features for image in images]),
                    join_texts([self._text(prompt) for prompt in prompts]),
                    torch.tensor(rows, device=self.device),
                )
            predictions += [self._read(output, row, prompt) for row, prompt in enumerate(prompts)]
        return predictions

    def _read(self, output: GroundingOutput, row: int, prompt: Prompt) -> Prediction:
        """The numbers of one row of a forward, a column a phrase."""
        logits = output.logits[row].float().cpu()
        maps = positive_map(prompt, logits.shape[-1])
        scores = phrase_probabilities(logits, maps).T.numpy()
        if self.calibration is not None:
            scores = self.calibration.apply(scores)
        boxes = output.pred_boxes[row].float().cpu().numpy()
        tokens: Tensor | None = getattr(output, "presence_logits", None)
        presence = (
            scores.max(axis=1)
            if tokens is None
            else phrase_probabilities(tokens[row].float().cpu()[None], maps)[0].numpy()
        )
        return Prediction(scores, np.broadcast_to(boxes, (len(scores), *boxes.shape)), presence)

    def _regions(
        self,
        image: MedicalImage,
        packing: Packing,
        prediction: Prediction,
        threshold: float | None,
        nms_iou: float | None,
    ) -> Regions:
        """The best regions of all columns, handed out to the phrases asked."""
        lowest = np.full(len(packing.tokens), self.box_threshold if threshold is None else threshold)
        if threshold is None and self.calibration is not None:
            for name, place in sorted(zip(packing.asked, packing.columns, strict=True)):
                lowest[place] = self.calibration.threshold(_plain(name))
        lowest = np.maximum(lowest, SCORE_FLOOR).astype(np.float32)
        found = prediction.scores >= lowest[:, None]
        column, query = np.nonzero(found)
        scores = prediction.scores[column, query]
        boxes = clip_boxes(denormalize_boxes(prediction.boxes[column, query], image.size), image.size)
        if nms_iou is None:
            order = np.argsort(-scores, kind="stable")[:MAX_REGIONS]
        else:
            order = nms_indices(boxes, scores, column, nms_iou)[:MAX_REGIONS]
        which, phrase = packing.answer(column[order])
        return Regions(boxes[order][which], scores[order][which], phrase, packing.asked, image.size)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class GroundedImage:
    """One encoded image, ready to be asked for phrases.

    Attributes:
        image: The original image.
        features: The backbone's features of it.
    """

    def __init__(self, grounder: Grounder, image: MedicalImage, features: ImageFeatures) -> None:
        """See :meth:`Grounder.set_image`."""
        self._grounder, self.image, self.features = grounder, image, features
        self._last: tuple[tuple[Prompt, ...], Prediction] | None = None

    def ground(
        self,
        phrases: Sequence[str],
        *,
        box_threshold: float | None = None,
        nms_iou: float | None = None,
    ) -> Regions:
        """Regions that show ``phrases``, best first, at most 100 of distinct phrases.

        The order of the phrases never changes a result; a phrase asked twice is answered twice.

        Args:
            phrases: What to look for. Phrases that exceed one prompt of 256 tokens are spread over several.
            box_threshold: Lowest score kept, of every phrase, as returned (so calibrated, where there is a
                calibration); None takes each phrase's own from the calibration, without one the checkpoint's;
                0 keeps all above a low floor.
            nms_iou: Drop what overlaps a surer region of its phrase by more than this IoU; None keeps all.

        Returns:
            Regions with boxes xyxy in pixels of the original image; empty where nothing is found or asked.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        packing = self._grounder._pack(phrases)
        return self._grounder._regions(self.image, packing, self._answer(packing), box_threshold, nms_iou)

    def presence(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Score that each phrase is to be seen at all: (P,) float32 in [0, 1], in the order asked.

        The network's own presence score where it has one, else the greatest (calibrated) score of a box.
        Asked with the phrases last grounded, it costs nothing.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        packing = self._grounder._pack(phrases)
        return self._answer(packing).presence[np.array(packing.columns, dtype=np.int64)]

    def _answer(self, packing: Packing) -> Prediction:
        """The prediction of all passes; that of the phrases asked last is kept."""
        if self._last is None or self._last[0] != packing.prompts:
            parts = self._grounder._predict([(self, prompt) for prompt in packing.prompts])
            self._last = packing.prompts, _concatenate(parts)
        return self._last[1]


def _plain(phrase: str) -> str:
    """A phrase as calibrations spell it: lower case, single spaces."""
    return " ".join(phrase.lower().split())


def _concatenate(parts: Sequence[Prediction]) -> Prediction:
    """The columns of several passes, one after the other."""
    if not parts:
        none = np.zeros((0, 1), dtype=np.float32)
        return Prediction(none, none.reshape(0, 1, 1).repeat(4, axis=2), none[:, 0])
    return Prediction(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.presence for part in parts]),
    )


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype named, or the one the device computes fastest in.

    Raises:
        ValueError: If the name is unknown.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
        return torch.bfloat16 if native else torch.float32
    if dtype not in names:
        raise ValueError(f"expected dtype 'auto', 'float32' or 'bfloat16', got {dtype!r}")
    return names[dtype]


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    # Private names that come and go between releases; a missing one only costs speed.
    checks = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(check()) for check in checks if check is not None)
