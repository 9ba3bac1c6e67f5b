"""Text from a prompt with an image and regions: one interface for nano and every other model.

Owns batching, confidence and streams of models in this process, and `load_model`, the one call that gives any
model, a served one too. Knows nothing of grounding, agents or benchmarks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StoppingCriteriaList

from .confidence import Certainty, load_calibration
from .config import ModelConfig, read_config
from .families import Family, family_of, style_named
from .inputs import ChatInputs
from .loading import device_of, dtype_name, dtype_of, load_adapter, load_checkpoint
from .lora import add_spatial_tokens, saved_style
from .nano import register
from .nano.checkpoint import SHIPPED, is_nano_checkpoint, load_nano
from .nano.modeling import NanoVLMForConditionalGeneration
from .nano.precision import parts_in_float32, use_bfloat16_products
from .prefixes import PrefixStore
from .replies import PieceStream, StopTexts, cut_stream, read_replies
from .server import ServedModel
from .spatial import PromptStyle
from .types import Generation, SpatialPrompt

_CACHED_IMAGES = 512


class LanguageModel(Protocol):
    """What every model offers, wherever it runs."""

    name: str
    certainty: Certainty

    def generate(self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16) -> list[Generation]:
        """Greedy replies to a batch of prompts, one image each, in their order."""
        ...

    def stream(self, prompt: SpatialPrompt, *, max_new_tokens: int = 64) -> Generator[str, None, Generation]:
        """The pieces of a greedy reply as they come; returns the whole, with its confidence."""
        ...


def load_model(source: str | Path | ModelConfig = "nano", *, device: str = "auto") -> LanguageModel:
    """Load any model: shipped, from a folder or the hub, quantised, with an adapter, or behind a server.

    Args:
        source: A `ModelConfig`, the path of its YAML form (``*.yaml``), or only the model's name.
        device: Outranks that of the configuration unless it is ``"auto"``.

    Raises:
        FileNotFoundError: A checkpoint or adapter is absent; the message names the remedy.
        ValueError: The configuration is wrong; the message names the field.
    """
    if not isinstance(source, ModelConfig):
        if not str(source).endswith((".yaml", ".yml")):
            return VisionLanguageModel.from_pretrained(source, device=device)
        source = read_config(ModelConfig, source)
    if device != "auto":
        source = replace(source, device=device)
    return ServedModel(source) if source.server else VisionLanguageModel.from_config(source)


class VisionLanguageModel:
    """A loaded model that answers `SpatialPrompt`s. Not safe for two threads at once on one instance."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        *,
        name: str,
        family: Family | None = None,
        style: PromptStyle | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        """Wrap a model and its processor; use `from_pretrained` or `load_model`.

        Args:
            model: A network, or a peft model around one.
            processor: Its processor.
            name: What the model is called in results.
            family: Its particulars; None finds them by the model's configuration.
            style: How regions are shown to it; None takes the family's own.
            config: Says how much is read at a time and kept; None takes the defaults.

        Its `new_tokens` are the ids that `from_config` added for the style, () otherwise; its `certainty` is
        raw unless a calibration lies beside the checkpoint. Who changes the weights clears its `prefixes`.
        """
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self.family = family or family_of(model.config)
        self.new_tokens: tuple[int, ...] = ()
        self.certainty = Certainty()
        ends = model.generation_config.eos_token_id
        self.inputs = ChatInputs(
            processor,
            self.family,
            style or style_named(self.family.style, processor),
            end_tokens=ends if isinstance(ends, list) else [] if ends is None else [ends],
        )
        self._config = config or ModelConfig()
        self.prefixes = PrefixStore(model, self.family, self._config.pictures)
        self._is_nano = isinstance(model, NanoVLMForConditionalGeneration)
        self._features: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "nano",
        *,
        adapter: str | Path | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> VisionLanguageModel:
        """Load a model into this process; `load_model` offers more (quantised, behind a server).

        Args:
            name_or_path: ``"nano"`` (shipped), a nano checkpoint folder, a transformers folder, or a hub id.
            adapter: A peft adapter (folder or hub id) for a model that is not nano; it is merged.
            device: ``"auto"`` takes CUDA where it is.
            dtype: See `ModelConfig`.

        Raises:
            FileNotFoundError: A checkpoint or adapter is absent; the message names the remedy.
        """
        config = ModelConfig(
            model=str(name_or_path),
            adapter=None if adapter is None else str(adapter),
            device=device,
            dtype=str(dtype).removeprefix("torch."),
        )
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: ModelConfig) -> VisionLanguageModel:
        """Load the model that a configuration names into this process.

        Raises:
            FileNotFoundError: A checkpoint or adapter is absent; the message names the remedy.
            ValueError: An adapter, a style or quantisation is asked for nano, which takes none of them.
        """
        register()
        folder = SHIPPED if config.model == "nano" else Path(config.model)
        if config.model == "nano" or is_nano_checkpoint(folder):
            if config.adapter or config.style or config.quantization != "none":
                raise ValueError(
                    "a nano checkpoint already holds its adapter, reads its own tokens only and is small as"
                    " it is; pass its folder as the model, without adapter, style and quantization"
                )
            device = device_of(config.device)
            dtype = dtype_name(config, nano=True)
            mixed = dtype == "mixed"
            model, processor = load_nano(folder, dtype=dtype_of("float32" if mixed else dtype))
            if mixed:
                layers = model.language_model.model.layers
                use_bfloat16_products(model, but=parts_in_float32(model.get_output_embeddings(), layers))
            nano = cls(model.to(device), processor, name=config.model, config=config)
            nano.certainty = Certainty(load_calibration(folder), config.abstain_below)
            return nano
        model, processor, family = load_checkpoint(config)
        learned = saved_style(config.adapter) if config.adapter else None
        style = style_named(config.style or learned or family.style, processor)
        tokens = style.box_format.tokens if style.box_format else ()
        added = add_spatial_tokens(model, processor.tokenizer, tokens)
        if config.adapter is not None:
            merge = config.merge_adapter and config.quantization == "none"
            model = load_adapter(model, config.adapter, merge=merge)
        loaded = cls(model, processor, name=config.model, family=family, style=style, config=config)
        loaded.new_tokens = tuple(added)
        calibration = load_calibration(Path(config.adapter or config.model))
        loaded.certainty = Certainty(calibration, config.abstain_below)
        return loaded

    def generate(
        self, prompts: Sequence[SpatialPrompt], *, max_new_tokens: int = 16, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Greedy replies to a batch of prompts, one image each, in their order.

        Of each picture that is not known yet one prompt is read whole; the others, and later calls, read only
        what differs from it. The confidence is the geometric mean of the probabilities of the reply's tokens,
        its end included.

        Args:
            prompts: Of any images and lengths; at most `ModelConfig.batch` are read at a time.
            max_new_tokens: The longest reply, in tokens.
            stop: Texts that end a reply; they are not part of it.
        """
        replies: dict[int, Generation] = {}
        keys = [self.inputs.picture_key(prompt) for prompt in prompts]
        lengths = [len(self.inputs.text(prompt)) for prompt in prompts]
        with torch.inference_mode():
            for rows in self.prefixes.batches(keys, lengths, self._config.batch):
                batch = self._reply([prompts[row] for row in rows], max_new_tokens, stop)
                replies |= zip(rows, batch, strict=True)
        return [replies[row] for row in range(len(prompts))]

    def stream(
        self, prompt: SpatialPrompt, *, max_new_tokens: int = 64, stop: Sequence[str] = ()
    ) -> Generator[str, None, Generation]:
        """The pieces of a greedy reply as they come; returns the whole, with its confidence.

        An error of the model is raised here. Closing the generator early ends the generation.
        """
        streamer = PieceStream(self.processor.tokenizer)
        results: list[Generation] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                with torch.inference_mode():
                    results.extend(self._reply([prompt], max_new_tokens, stop, streamer))
            except Exception as error:
                errors.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from cut_stream((piece for piece in streamer if piece), stop)
        finally:
            streamer.leave()
            thread.join()
            self.prefixes.trim()
        if errors:
            raise errors[0]
        return results[0]

    def _reply(
        self,
        prompts: Sequence[SpatialPrompt],
        max_new_tokens: int,
        stop: Sequence[str],
        streamer: PieceStream | None = None,
    ) -> list[Generation]:
        """Greedy replies to one batch, from what is known of its pictures where all of them are known."""
        keys = [self.inputs.picture_key(prompt) for prompt in prompts]
        inputs, cache = self._prepared(prompts, keys, max_new_tokens)
        length = inputs["input_ids"].shape[1]
        stopper = StopTexts(stop, self.processor.tokenizer, length)
        output = self.model.generate(
            **inputs,
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([stopper] if stop else []),
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        if cache is not None:
            self.prefixes.keep(keys, inputs, cache)
        ends = self.model.generation_config.eos_token_id
        return read_replies(output, self.processor.tokenizer, ends, stopper)

    def _prepared(
        self, prompts: Sequence[SpatialPrompt], keys: Sequence[str], max_new_tokens: int
    ) -> tuple[dict[str, Tensor], DynamicCache | None]:
        """What to give the network, and the cache that it continues; None where prompts cannot be shared."""
        known = self.prefixes.active and all(key in self.prefixes for key in keys)
        inputs = self._inputs(prompts, pictures=not known)
        longest = 2 * inputs["input_ids"].shape[1] + max_new_tokens  # with the padding that resuming adds
        fits = self.prefixes.fits(longest)
        if known and fits:
            resumed = self.prefixes.resume(keys, inputs, self.processor.tokenizer.pad_token_id)
            if resumed is not None:
                return resumed
        return (self._inputs(prompts) if known else inputs), (DynamicCache() if fits else None)

    def _inputs(self, prompts: Sequence[SpatialPrompt], *, pictures: bool = True) -> dict[str, Tensor]:
        """Padded token ids and the images, as features for nano (cached by image) or as pixels.

        Without `pictures` nano's features are left out; other processors need the pixels to write the ids.
        """
        if self._is_nano:
            texts = [self.inputs.text(p) for p in prompts]
            inputs = dict(self.processor(text=texts, padding=True, return_tensors="pt"))
            if pictures:
                inputs["vision_features"] = torch.cat([self._vision_features(p) for p in prompts])
        else:
            inputs = self.inputs.prompts(prompts)
        return self.on_device(inputs)

    def on_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch on the model's device, pixels in its dtype."""
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
