"""Text from a prompt with an image and regions: one interface for nano and every other model.

Owns loading, batching and confidence; knows nothing of grounding, agents or benchmarks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, TextIteratorStreamer

from .nano import register
from .nano.checkpoint import SHIPPED, is_nano_checkpoint, load_nano
from .nano.modeling import NanoVLMForConditionalGeneration
from .prompt import NANO_STYLE, TEXT_STYLE, PromptRenderer
from .types import Generation, SpatialPrompt

_CACHED_IMAGES = 512


class VisionLanguageModel:
    """A loaded model that answers `SpatialPrompt`s. Not safe for two threads at once on one instance."""

    def __init__(self, model: PreTrainedModel, processor: Any, *, name: str) -> None:
        """Wrap a model and its processor; use `from_pretrained`."""
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self._is_nano = isinstance(model, NanoVLMForConditionalGeneration)
        self._render = PromptRenderer(processor, NANO_STYLE if self._is_nano else TEXT_STYLE)
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "nano",
        *,
        adapter: str | Path | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> VisionLanguageModel:
        """Load a model.

        Args:
            name_or_path: ``"nano"`` (shipped), a nano checkpoint folder, a transformers folder, or a hub id.
            adapter: A peft adapter folder for a model that is not nano; it is merged.
            device: ``"auto"`` takes CUDA where it is.
            dtype: ``"auto"`` is bfloat16.

        Raises:
            FileNotFoundError: A checkpoint or adapter is absent; the message names the remedy.
        """
        register()
        target = _device(device)
        kind = (
            torch.bfloat16 if dtype == "auto" else getattr(torch, dtype) if isinstance(dtype, str) else dtype
        )
        folder = SHIPPED if str(name_or_path) == "nano" else Path(name_or_path)
        if str(name_or_path) == "nano" or is_nano_checkpoint(folder):
            if adapter is not None:
                raise ValueError(
                    "a nano checkpoint already holds its adapter; pass its folder as name_or_path instead"
                )
            model, processor = load_nano(folder, dtype=kind)
            return cls(model.to(target), processor, name=str(name_or_path))
        processor = AutoProcessor.from_pretrained(name_or_path)
        model = AutoModelForImageTextToText.from_pretrained(name_or_path, dtype=kind)
        if adapter is not None:
            model = _merge_adapter(model, Path(adapter))
        return cls(model.to(target), processor, name=str(name_or_path))

    @torch.inference_mode()
    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Greedy replies to a batch of prompts, one image each.

        The confidence is the geometric mean of the probabilities of the reply's tokens, its end included.
        """
        if not prompts:
            return []
        return self._generate(self._inputs(prompts), max_new_tokens, None)

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Generator[str, None, Generation]:
        """The pieces of a greedy reply as they come; returns the whole, with its confidence.

        An error of the model is raised here.
        """
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        results: list[Generation] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                with torch.inference_mode():
                    results.extend(self._generate(self._inputs([prompt]), max_new_tokens, streamer))
            except Exception as error:
                errors.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def _generate(
        self, inputs: dict[str, Tensor], max_new_tokens: int, streamer: TextIteratorStreamer | None
    ) -> list[Generation]:
        """Greedy replies to prepared inputs, and their confidences."""
        output = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            streamer=streamer,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        tokens = output.sequences[:, inputs["input_ids"].shape[1] :]
        logits = torch.stack(output.logits, dim=1).float()
        log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        used = self._used(tokens)
        confidence = ((log_probs * used).sum(1) / used.sum(1)).exp().clamp(0, 1).tolist()
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [Generation(text.strip(), value) for text, value in zip(texts, confidence, strict=True)]

    def _inputs(self, prompts: Sequence[SpatialPrompt]) -> dict[str, Tensor]:
        """Padded token ids and the images, as features for nano (cached by image) or as pixels."""
        texts = [self._render(p.text, p.regions) for p in prompts]
        if self._is_nano:
            inputs = self.processor(text=texts, padding=True, return_tensors="pt")
            inputs["vision_features"] = torch.cat([self._vision_features(p) for p in prompts])
        else:
            images = [[Image.fromarray(p.image.pixels)] for p in prompts]
            inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        dtype = self.model.dtype
        return {
            k: v.to(self.model.device, dtype if v.is_floating_point() else None) for k, v in inputs.items()
        }

    def _vision_features(self, prompt: SpatialPrompt) -> Tensor:
        """Nano's features of the prompt's image, (1, image tokens, vision size); computed once an image."""
        key = prompt.image.source_id
        if key not in self._features:
            inputs = self.processor(images=Image.fromarray(prompt.image.pixels), return_tensors="pt")
            pixels = inputs["pixel_values"].to(self.model.device)
            self._features[key] = self.model.vision_features(pixels)
            if len(self._features) > _CACHED_IMAGES:
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]

    def _used(self, tokens: Tensor) -> Tensor:
        """1.0 for the reply's tokens (N, T) up to and with the first end token, 0.0 after it."""
        ends = self.model.generation_config.eos_token_id
        is_end = torch.isin(tokens, torch.tensor(ends if ends is not None else -1, device=tokens.device))
        return (is_end.long().cumsum(1) - is_end.long() == 0).float()


def _device(device: str) -> torch.device:
    """The device to use; ``"auto"`` takes CUDA where it is."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Load a peft adapter and fold it into the weights."""
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise FileNotFoundError(
            f"no peft adapter in {folder} (expected adapter_config.json); name the folder that holds one"
        )
    return PeftModel.from_pretrained(model, folder).merge_and_unload()
