"""Grounder: an image and phrases in, regions in pixels of the original image out.

Encode an image once with :meth:`Grounder.set_image`, then ask as often as you like: the backbone runs once,
and a prompt's text is encoded once. With :mod:`grounding.prediction` this is one of the two borders at which
boxes change their frame (network input to original image).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from .batching import join_images, join_texts, one_image
from .checkpoint import Checkpoint, fingerprint, open_checkpoint
from .heads import modality_rows
from .inference import prepare_for_inference
from .modality import modality_prefix
from .modeling import ImageFeatures, TextFeatures
from .ontology import Ontology
from .packing import Packing, pack
from .prediction import Prediction, concatenate, default_thresholds, read_output, to_regions
from .preprocess import pad_together
from .prompts import Prompt
from .types import MedicalImage, Regions

MAX_BATCH = 8  # images, or passes, of one forward, which bounds memory
TEXT_CACHE = 64  # prompts whose text features are kept, about 0.2 MB each


class Grounder:
    """Finds the regions of an image that show given phrases.

    Attributes:
        name: Name or path the model was loaded from.
        box_threshold: Score below which regions are dropped when neither the call nor a calibration says
            otherwise.
        calibration: What makes scores probabilities, with thresholds for each phrase and for presence; None =
            raw scores and ``box_threshold`` for all. May be changed at any time.
        labels: Phrases the model was trained on; empty = not stated. Any other may be asked for all the same.
        ontology: The label tree as the model knows it (see :meth:`Ontology.known_to`).
        phrases_per_pass: Most phrases that share a forward pass; None = as many as fit its 256 tokens. Fewer
            are more passes: slower, and phrases that share a pass influence each other.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, device: torch.device, dtype: torch.dtype) -> None:
        """See :meth:`from_pretrained`."""
        self.model = checkpoint.model.to(device, memory_format=torch.channels_last).eval()
        prepare_for_inference(self.model, dtype)
        self.name, self.device, self.dtype = name, device, dtype
        self.calibration = checkpoint.calibration
        config = self.model.config
        self.box_threshold: float = config.box_threshold
        self.labels: tuple[str, ...] = tuple(config.labels)
        self.ontology = Ontology.load().known_to(self.labels, config.label_modalities)
        self.phrases_per_pass: int | None = None
        self._folder, self._make_input = checkpoint.folder, checkpoint.make_input
        self._tokenizer = checkpoint.tokenizer
        self._text = lru_cache(maxsize=TEXT_CACHE)(self._encode_text)
        self._packing = lru_cache(maxsize=TEXT_CACHE)(self._pack)

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

    @property
    def fingerprint(self) -> str:
        """Changes with the checkpoint's files and the calibration: what was made before is then stale.

        Raises:
            ValueError: If the network was not read from files.
        """
        if self._folder is None:
            raise ValueError("expected a grounder read from files, got one made in memory; save it first")
        return fingerprint(self._folder, self.calibration)

    def threshold(self, phrase: str) -> float:
        """The score from which on boxes of a phrase are shown by default, as returned."""
        return self.box_threshold if self.calibration is None else self.calibration.threshold(phrase)

    @property
    def presence_threshold(self) -> float:
        """The presence below which a phrase shows no box by default."""
        return 0.0 if self.calibration is None else self.calibration.presence_threshold

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
        asked = self.ask_batch(images, phrases_per_image)
        return [
            image.ground(phrases, box_threshold=box_threshold, nms_iou=nms_iou)
            for image, phrases in zip(asked, phrases_per_image, strict=True)
        ]

    def ask_batch(
        self, images: Sequence[MedicalImage], phrases_per_image: Sequence[Sequence[str]]
    ) -> Iterator[GroundedImage]:
        """Encode images and ask each for its own phrases, 8 at a time in shared forward passes.

        Regions and presence of these phrases then cost nothing.

        Raises:
            ValueError: If the two sequences differ in length, or as :meth:`GroundedImage.ground`.
        """
        if len(images) != len(phrases_per_image):
            raise ValueError(
                f"expected phrases for {len(images)} images, got them for {len(phrases_per_image)}"
            )
        for start in range(0, len(images), MAX_BATCH):
            encoded = self._encode(images[start : start + MAX_BATCH])
            phrases = phrases_per_image[start : start + MAX_BATCH]
            self._ask([(each, each.pack(own)) for each, own in zip(encoded, phrases, strict=True)])
            yield from encoded

    def _pack(self, phrases: tuple[str, ...], most: int | None, modality_id: int) -> Packing:
        prefix = modality_prefix(self.model.config, modality_id)
        return pack(self._tokenizer, phrases, max_phrases=most, prefix=prefix)

    def _ask(self, questions: Sequence[tuple[GroundedImage, Packing]]) -> None:
        """Let each image know the answer to its packing."""
        passes = [(image, prompt) for image, packing in questions for prompt in packing.prompts]
        predictions = iter(self._predict(passes))
        for image, packing in questions:
            image.last = packing.prompts, concatenate([next(predictions) for _ in packing.prompts])

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
            rows = [image.modality_id for image in images]
            with self._autocast():
                output = self.model.ground(
                    join_images([image.features for image in images]),
                    join_texts([self._text(prompt) for prompt in prompts]),
                    torch.tensor(rows, device=self.device),
                )
            predictions += [read_output(output, row, prompt) for row, prompt in enumerate(prompts)]
        return predictions

    def _modality_id(self, image: MedicalImage, features: ImageFeatures) -> int:
        """What the image says, else what the modality head does: 0 = unknown where it is unsure."""
        if image.modality is not None or features.modality_logits is None:
            stated: int = self.model.config.modality_id(image.modality)
            return stated
        return int(modality_rows(features.modality_logits)[0])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class GroundedImage:
    """One encoded image, ready to be asked for phrases.

    Attributes:
        image: The original image.
        features: The backbone's features of it.
        modality_id: Its row of the modality embedding; where the image does not say, what the network infers
            of it, 0 = unknown.
        last: The prompts asked last, and the answer.
    """

    def __init__(self, grounder: Grounder, image: MedicalImage, features: ImageFeatures) -> None:
        """See :meth:`Grounder.set_image`."""
        self._grounder, self.image, self.features = grounder, image, features
        self.modality_id = grounder._modality_id(image, features)
        self.last: tuple[tuple[Prompt, ...], Prediction] | None = None

    def pack(self, phrases: Sequence[str]) -> Packing:
        """The passes that answer ``phrases`` for this image.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        grounder = self._grounder
        return grounder._packing(tuple(phrases), grounder.phrases_per_pass, self.modality_id)

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
                calibration); 0 keeps all above a low floor. None takes each phrase's own from the calibration
                and shows no phrase whose presence is too low for it; without one, the checkpoint's.
            nms_iou: Drop what overlaps a surer region of its phrase by more than this IoU; 1 keeps all, None
                takes the calibration's, without one 1.

        Returns:
            Regions with boxes xyxy in pixels of the original image; empty where nothing is found or asked.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        packing, grounder = self.pack(phrases), self._grounder
        prediction = self._answer(packing)
        least: npt.ArrayLike | None = box_threshold
        if least is None:
            shown = grounder.threshold, grounder.presence_threshold
            least = default_thresholds(packing, prediction, *shown)
        if nms_iou is None:
            nms_iou = 1.0 if grounder.calibration is None else grounder.calibration.nms_iou
        return to_regions(
            self.image, packing, prediction, least=least, calibration=grounder.calibration, nms_iou=nms_iou
        )

    def presence(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Score that each phrase is to be seen at all: (P,) float32 in [0, 1], in the order asked.

        The network's own presence score where it has one, else the greatest raw score of a box; a calibration
        leaves it as it is. Asked with the phrases last grounded, it costs nothing.

        Raises:
            ValueError: If a phrase has no letters, or is longer than a prompt.
        """
        packing = self.pack(phrases)
        return self._answer(packing).presence[np.array(packing.columns, dtype=np.int64)]

    def modality_probabilities(self) -> dict[tuple[str, ...], float]:
        """What the network takes the image for, whatever the image says: group of DICOM codes -> probability.

        Empty for a checkpoint without a modality head; all alike where the head is untrained.
        """
        logits = self.features.modality_logits
        if logits is None:
            return {}
        groups = (tuple(codes) for codes in self._grounder.model.config.modalities)
        return dict(zip(groups, logits[0].softmax(-1).tolist(), strict=True))

    def _answer(self, packing: Packing) -> Prediction:
        """The prediction of all passes; that of the phrases asked last is kept."""
        if self.last is None or self.last[0] != packing.prompts:
            self._grounder._ask([(self, packing)])
        assert self.last is not None
        return self.last[1]


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
