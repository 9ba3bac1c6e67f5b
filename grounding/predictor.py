"""Grounder: an image and phrases in, regions in pixels of the original image out.

Encode an image once with :meth:`Grounder.set_image`, then ask as often as you like: the backbone runs once.
This is one of the two borders at which boxes change their frame (network input to original image).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .boxes import clip_boxes, denormalize_boxes
from .checkpoint import PACKAGED, load_checkpoint
from .modeling import ImageFeatures, MedGLIPForGrounding
from .ontology import Ontology
from .preprocess import preprocess
from .prompts import MAX_TOKENS, Prompt, build_prompt, collate_prompts, load_tokenizer, phrase_probabilities
from .types import MedicalImage, Regions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_REGIONS = 100  # regions kept an image, best first: COCO's own limit
MAX_BATCH = 8  # images of one forward pass, which bounds memory
SCORE_FLOOR = 0.01  # below this a score carries no information and is never returned


class Grounder:
    """Finds the regions of an image that show given phrases.

    Attributes:
        name: Name or path the model was loaded from.
        box_threshold: Score below which regions are dropped when a call does not say otherwise.
        labels: Phrases the model was trained on; empty = not stated. Any other may be asked for all the same.
        ontology: The label tree as the model knows it (see :meth:`Ontology.known_to`).
    """

    def __init__(
        self, model: MedGLIPForGrounding, name: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        """See :meth:`from_pretrained`."""
        self.model = model.to(device, memory_format=torch.channels_last).eval()
        self.name, self.device, self.dtype = name, device, dtype
        self.box_threshold: float = model.config.box_threshold
        self.labels: tuple[str, ...] = tuple(model.config.labels)
        self.ontology = Ontology.load().known_to(self.labels, model.config.label_modalities)
        self._tokenizer = load_tokenizer()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "nano", *, device: str = "auto", dtype: str = "auto"
    ) -> Grounder:
        """Load a packaged model by name ("nano") or a checkpoint folder.

        Args:
            name_or_path: A packaged checkpoint or a folder written by ``grounding.train``.
            device: "cpu", "cuda" or "auto" (CUDA where there is one).
            dtype: "float32", "bfloat16" or "auto" (bfloat16 where the device computes in it, else float32).

        Raises:
            FileNotFoundError: If there is no such checkpoint.
        """
        packaged = PACKAGED / str(name_or_path)
        folder = packaged if packaged.is_dir() else Path(name_or_path)
        chosen = (
            torch.device("cuda" if torch.cuda.is_available() else "cpu")
            if device == "auto"
            else torch.device(device)
        )
        return cls(load_checkpoint(folder), str(name_or_path), chosen, _choose_dtype(dtype, chosen))

    def ground(
        self, image: MedicalImage, phrases: Sequence[str], *, box_threshold: float | None = None
    ) -> Regions:
        """Regions of ``image`` for ``phrases``; see :meth:`GroundedImage.ground`."""
        return self.set_image(image).ground(phrases, box_threshold=box_threshold)

    def set_image(self, image: MedicalImage) -> GroundedImage:
        """Encode an image once, to be asked many times."""
        return self._encode([image])[0]

    def ground_batch(
        self,
        images: Sequence[MedicalImage],
        phrases_per_image: Sequence[Sequence[str]],
        *,
        box_threshold: float | None = None,
    ) -> list[Regions]:
        """Regions of several images, each for its own phrases; images share forward passes of at most 8.

        Raises:
            ValueError: If the two sequences differ in length.
        """
        if len(images) != len(phrases_per_image):
            raise ValueError(
                f"expected phrases for {len(images)} images, got them for {len(phrases_per_image)}"
            )
        results: list[Regions] = []
        for start in range(0, len(images), MAX_BATCH):
            part = slice(start, start + MAX_BATCH)
            results += self._ground_together(images[part], phrases_per_image[part], box_threshold)
        return results

    def _ground_together(
        self,
        images: Sequence[MedicalImage],
        phrases_per_image: Sequence[Sequence[str]],
        threshold: float | None,
    ) -> list[Regions]:
        """One forward for the images whose phrases fit one prompt; the others are asked one by one."""
        encoded = self._encode(images)
        packs = [_pack(self._tokenizer, phrases) for phrases in phrases_per_image]
        shared = [index for index, prompts in enumerate(packs) if len(prompts) == 1]
        answers = dict(
            zip(
                shared,
                self._predict([encoded[i] for i in shared], [packs[i][0] for i in shared]),
                strict=True,
            )
        )
        return [
            grounded._regions(tuple(phrases), prompts, [answers[index]], threshold)
            if index in answers
            else grounded.ground(phrases, box_threshold=threshold)
            for index, (grounded, phrases, prompts) in enumerate(
                zip(encoded, phrases_per_image, packs, strict=True)
            )
        ]

    @torch.inference_mode()
    def _encode(self, images: Sequence[MedicalImage]) -> list[GroundedImage]:
        if not images:
            return []
        size = self.model.config.image_size
        pixels = torch.stack([preprocess(image.pixels, size) for image in images])
        with self._autocast():
            features = self.model.encode_image(pixels.to(self.device, memory_format=torch.channels_last))
        return [GroundedImage(self, image, _row(features, index)) for index, image in enumerate(images)]

    @torch.inference_mode()
    def _predict(
        self, images: Sequence[GroundedImage], prompts: Sequence[Prompt]
    ) -> list[tuple[Tensor, Tensor]]:
        """Phrase probabilities (Q, P) and boxes (Q, 4) cxcywh in [0, 1] of each image for its prompt.

        One forward. One image may be asked several prompts: it is then given once.
        """
        if not prompts:
            return []
        ids, mask, maps = collate_prompts(prompts)
        features = images[0].features.repeat(len(prompts)) if len(images) == 1 else _join(images)
        rows = [self.model.config.modality_id(image.image.modality) for image in images]
        modality = torch.tensor(rows, device=self.device).expand(len(prompts))
        with self._autocast():
            text = self.model.encode_text(ids.to(self.device), mask.to(self.device))
            output = self.model.ground(features, text, modality)
        return [
            (phrase_probabilities(logits.float().cpu(), positive), boxes.float().cpu())
            for logits, boxes, positive in zip(output.logits, output.pred_boxes, maps, strict=True)
        ]

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

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Regions that show ``phrases``, best first, at most 100.

        Args:
            phrases: What to look for. Phrases that exceed one prompt of 256 tokens are spread over several.
            box_threshold: Lowest score kept; None takes the checkpoint's own, 0 keeps all above a low floor.

        Returns:
            Regions with boxes xyxy in pixels of the original image; empty where nothing is found or asked.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        asked = tuple(phrases)
        prompts = _pack(self._grounder._tokenizer, asked)
        return self._regions(asked, prompts, self._grounder._predict([self], prompts), box_threshold)

    def _regions(
        self,
        asked: tuple[str, ...],
        prompts: Sequence[Prompt],
        predictions: Sequence[tuple[Tensor, Tensor]],
        threshold: float | None,
    ) -> Regions:
        """The best regions of all prompts, from each prompt's probabilities (Q, P) and boxes (Q, 4)."""
        if not asked:
            return Regions.empty(self.image.size, asked)
        lowest = max(self._grounder.box_threshold if threshold is None else threshold, SCORE_FLOOR)
        scores, boxes, index, first = [], [], [], 0
        for prompt, (probability, box) in zip(prompts, predictions, strict=True):
            query, phrase = torch.nonzero(probability >= lowest, as_tuple=True)
            scores.append(probability[query, phrase])
            boxes.append(box[query])
            index.append(phrase + first)
            first += len(prompt.token_spans)
        score, order = torch.cat(scores).sort(descending=True, stable=True)
        order = order[:MAX_REGIONS]
        pixels = denormalize_boxes(torch.cat(boxes)[order], self.image.size)
        return Regions(
            boxes=clip_boxes(pixels, self.image.size).numpy(),
            scores=score[:MAX_REGIONS].numpy(),
            phrase_index=torch.cat(index)[order].numpy().astype(np.int64),
            asked=asked,
            image_size=self.image.size,
        )


def _pack(tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str]) -> list[Prompt]:
    """As few prompts as the token limit allows, phrases kept in order; none for no phrases."""
    lengths = [len(build_prompt(tokenizer, [phrase]).input_ids) - 2 for phrase in phrases]
    prompts: list[Prompt] = []
    group: list[str] = []
    used = 2  # [CLS] and [SEP]
    for phrase, length in zip(phrases, lengths, strict=True):
        if group and used + length > MAX_TOKENS:
            prompts.append(build_prompt(tokenizer, group))
            group, used = [], 2
        group.append(phrase)
        used += length
    return [*prompts, build_prompt(tokenizer, group)] if group else []


def _row(features: ImageFeatures, index: int) -> ImageFeatures:
    """The features of one image of a batch, still with a batch axis of 1."""
    part = slice(index, index + 1)
    return ImageFeatures(
        features.tokens[part],
        features.mask[part],
        features.position[part],
        features.shapes,
        features.valid_ratios[part],
    )


def _join(images: Sequence[GroundedImage]) -> ImageFeatures:
    """The features of several images as one batch."""
    parts = [image.features for image in images]
    return ImageFeatures(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.mask for part in parts]),
        torch.cat([part.position for part in parts]),
        parts[0].shapes,
        torch.cat([part.valid_ratios for part in parts]),
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
