"""Masks for regions that have boxes, by a box-prompted model of the SAM family (SAM, MedSAM).

Knows the layout of a `SamModel` checkpoint and its preprocessing (longest edge to the input size, padded
right and below); which boxes are worth a mask is the caller's business. No such model is shipped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from .backbone import IMAGENET_MEAN, IMAGENET_STD
from .preprocess import to_tensor
from .types import MedicalImage, Regions

if TYPE_CHECKING:
    from transformers import SamModel

BOXES_A_PASS = 32  # bounds memory: each box makes a mask of its own


class Segmenter:
    """Draws the mask of each region's box.

    Attributes:
        name: Path the model was loaded from.
    """

    def __init__(
        self,
        model: SamModel,
        name: str,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        """See :meth:`from_pretrained`; ``mean`` and ``std`` are of values in [0, 1], a channel."""
        self.model, self.name = model.eval(), name
        self._side: int = model.config.vision_config.image_size
        self._mean, self._std = mean, std

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto") -> Segmenter:
        """Load a SAM or MedSAM checkpoint from a folder as the model hub has it.

        Args:
            folder: ``config.json``, ``model.safetensors`` and perhaps ``preprocessor_config.json``.
            device: "cpu", "cuda" or "auto" (CUDA where there is one).

        Raises:
            FileNotFoundError: If the folder holds no checkpoint.
            ValueError: If it is of another architecture, or does not fit its configuration.
        """
        from transformers import SamConfig, SamModel

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"expected config.json and model.safetensors of a SAM model in {folder}")
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if kind != SamConfig.model_type:
            raise ValueError(
                f"{folder}: expected a checkpoint of type {SamConfig.model_type!r}, got {kind!r}"
            )
        model, report = SamModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"]:
            raise ValueError(f"{folder}: the checkpoint lacks {sorted(report['missing_keys'])[:5]}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), str(folder), *_statistics(folder))

    @torch.inference_mode()
    def segment(self, image: MedicalImage, regions: Regions) -> Regions:
        """The same regions, each with the mask that the model draws for its box.

        Args:
            image: The image the regions were found in.
            regions: Boxes xyxy in pixels of ``image``; masks they have are replaced.

        Raises:
            ValueError: If the regions are of an image of another size.
        """
        if regions.image_size != image.size:
            raise ValueError(f"expected regions of an image of {image.size}, got {regions.image_size}")
        if not len(regions):
            return replace(regions, masks=np.zeros((0, *image.size), dtype=bool))
        pixels, inner = self._input(image.pixels)
        device = self.model.device
        embedding = self.model.get_image_embeddings(pixels[None].to(device))
        scale = np.array([inner[1] / image.width, inner[0] / image.height] * 2, dtype=np.float32)
        boxes = torch.from_numpy(regions.boxes * scale).to(device)
        parts = [self._masks(embedding, part, inner, image.size) for part in torch.split(boxes, BOXES_A_PASS)]
        return replace(regions, masks=np.concatenate(parts))

    def _input(self, pixels: npt.NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """(3, side, side) input, and the (height, width) of it that the image fills."""
        scale = self._side / max(pixels.shape[:2])
        height, width = (int(length * scale + 0.5) for length in pixels.shape[:2])
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        values = to_tensor(np.asarray(image), self._mean, self._std)
        return pad(values, (0, self._side - width, 0, self._side - height)), (height, width)

    def _masks(
        self, embedding: Tensor, boxes: Tensor, inner: tuple[int, int], image_size: tuple[int, int]
    ) -> npt.NDArray[np.bool_]:
        """(N, H, W) masks of the original image for (N, 4) xyxy boxes in pixels of the input."""
        output = self.model(image_embeddings=embedding, input_boxes=boxes[None], multimask_output=False)
        logits = output.pred_masks[0].float()
        logits = interpolate(logits, (self._side, self._side), mode="bilinear", align_corners=False)
        logits = logits[..., : inner[0], : inner[1]]
        logits = interpolate(logits, image_size, mode="bilinear", align_corners=False)
        masks: npt.NDArray[np.bool_] = (logits[:, 0] > 0).cpu().numpy()
        return masks


def _statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, from the checkpoint where it says so."""
    path = folder / "preprocessor_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tuple(values.get("image_mean") or IMAGENET_MEAN), tuple(values.get("image_std") or IMAGENET_STD)
