"""Key-value states of prompts that were read before, so that further questions on a picture start from them.

Owns which leading tokens of a prompt are known, the caches built from them and their upkeep. A prompt puts
the picture and its regions before the question, so those are what two questions on one picture share; how
far is found token by token. Knows transformers' caches; no text, no pixels, no prompts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from .families import Family

Tables = dict[str, Tensor]
"""The model's inputs; those that run along the prompt's tokens are (B, L) and integers."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prompt that was read.

    Attributes:
        tokens: Its ids, (L,).
        layers: Keys and values of each layer, (heads, L, size of a head).
        rope_delta: (1,), by how much the picture moves the positions of what follows it, in families that
            number positions by rows and columns; None elsewhere.
    """

    tokens: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]
    rope_delta: Tensor | None


def can_share(config: Any, family: Family) -> bool:
    """Whether a model's states of a prompt's beginning do not depend on its end and can be cut anywhere."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    cut_anywhere = kinds <= {"full_attention", "sliding_attention"} and not config.is_encoder_decoder
    return family.shares_prefixes and cut_anywhere and _image_token(config) is not None


class PrefixStore:
    """The last prompt of each of the latest pictures, by the pictures' keys."""

    def __init__(self, model: Any, family: Family, capacity: int) -> None:
        """Start empty.

        Args:
            model: The network, for its configuration and where it keeps its positions.
            family: Says whether its prompts can be shared.
            capacity: Pictures that stay when a call is done; with 0 calls share nothing with each other.
        """
        self.active = can_share(model.config, family)
        self._capacity = capacity
        self._image_token = _image_token(model.config)
        text = model.config.get_text_config()
        self._window: int | None = getattr(text, "sliding_window", None)
        self._positions = [module for module in model.modules() if "rope_deltas" in vars(module)]
        self._prefixes: OrderedDict[str, Prefix] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        """Whether a prompt on this picture is known."""
        return key in self._prefixes

    def fits(self, tokens: int) -> bool:
        """Whether sequences of this length can be shared: a sliding window must not have begun to slide."""
        return self.active and (self._window is None or tokens <= self._window)

    def batches(self, keys: Sequence[str], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
        """Which prompts to read together, at most `size`: rows of a batch at a time, while it is asked.

        Those of one picture stand together, and of a picture that is not known one is read before the others.
        Where nothing can be shared, those of like length stand together. So do pictures with prompts of like
        length, for little padding, but for the latest, which come last since they are to stay.

        Args:
            keys: The picture of each prompt.
            lengths: Roughly the length of each.
            size: Prompts at a time.
        """
        first = {key: row for row, key in reversed([*enumerate(keys)])}
        pictures = sorted(first, key=lambda key: first[key]) if self.active else []
        passing = pictures[: max(len(pictures) - self._capacity, 0)]
        passing.sort(key=lambda key: lengths[first[key]])
        place = {key: number for number, key in enumerate([*passing, *pictures[len(passing) :]])}
        order = sorted(range(len(keys)), key=lambda row: (place.get(keys[row], 0), lengths[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            new = {keys[row]: row for row in reversed(rows) if self.active and keys[row] not in self}
            readers = sorted(new.values(), key=lambda row: lengths[row])
            yield from filter(None, (readers, [row for row in rows if row not in readers]))
            self.trim()

    def resume(self, keys: Sequence[str], inputs: Tables, pad_id: int) -> tuple[Tables, DynamicCache] | None:
        """Inputs and cache that continue from what is known of each prompt; None where one starts anew.

        Each row becomes ``[padding, known tokens, padding, new tokens]``, both paddings masked, and the
        pictures are left out: they are among the known tokens. At least one token of a row is new.

        Args:
            keys: The picture of each row.
            inputs: Prompts padded on the left, ids and mask (B, L) among them.
            pad_id: What stands in the padding.
        """
        if any(key not in self for key in keys):
            return None
        found = [self._prefixes[key] for key in keys]
        used = inputs["attention_mask"].bool()
        rows = [ids[mask] for ids, mask in zip(inputs["input_ids"], used, strict=True)]
        known = [min(_shared(p.tokens, row), len(row) - 1) for p, row in zip(found, rows, strict=True)]
        if any(bool((row[n:] == self._image_token).any()) for n, row in zip(known, rows, strict=True)):
            return None
        for module in self._positions:
            module.rope_deltas = torch.stack([p.rope_delta for p in found if p.rope_delta is not None])
        return _rearranged(inputs, known, pad_id), _joined(found, known)

    def keep(self, keys: Sequence[str], inputs: Tables, cache: DynamicCache) -> None:
        """Remember the prompts of a batch whose states `cache` holds in its first L places."""
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            self.active = False
            return
        deltas = next((module.rope_deltas for module in self._positions), None)
        masks = inputs["attention_mask"].bool()
        for key, row in {key: row for row, key in enumerate(keys)}.items():
            places = masks[row].nonzero()[:, 0]
            layers = tuple((k[row][:, places], v[row][:, places]) for k, v, _ in cache)
            delta = None if deltas is None else deltas[row].clone()
            self._prefixes[key] = Prefix(inputs["input_ids"][row, places], layers, delta)
            self._prefixes.move_to_end(key)

    def trim(self) -> None:
        """Forget all but the latest pictures."""
        while len(self._prefixes) > self._capacity:
            self._prefixes.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, as after a change of the weights."""
        self._prefixes.clear()


def per_token(inputs: Tables) -> Tables:
    """The inputs that run along the prompt's tokens, without the pictures."""
    shape = inputs["attention_mask"].shape
    return {k: v for k, v in inputs.items() if v.shape == shape and not v.is_floating_point()}


def _image_token(config: Any) -> int | None:
    """The id that stands for a part of the picture."""
    token: int | None = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    return token


def _shared(a: Tensor, b: Tensor) -> int:
    """How many leading tokens two rows have in common."""
    length = min(len(a), len(b))
    differ = (a[:length] != b[:length]).nonzero()
    return int(differ[0, 0]) if len(differ) else length


def _rearranged(inputs: Tables, known: Sequence[int], pad_id: int) -> Tables:
    """Set the padding of each row before and behind its `known` tokens, so that the new ones end in line."""
    places = [mask.nonzero()[:, 0] for mask in inputs["attention_mask"]]
    before = max(known)
    width = before + max(len(place) - n for place, n in zip(places, known, strict=True))
    source = torch.full((len(known), width), -1, device=inputs["input_ids"].device)
    for row, (place, n) in enumerate(zip(places, known, strict=True)):
        source[row, before - n : before] = place[:n]
        source[row, width - (len(place) - n) :] = place[n:]
    fills = {"input_ids": pad_id}
    return {
        name: table.gather(1, source.clamp(min=0)).masked_fill(source < 0, fills.get(name, 0))
        for name, table in per_token(inputs).items()
    }


def _joined(found: Sequence[Prefix], known: Sequence[int]) -> DynamicCache:
    """One cache of a batch: the known tokens of each row, padded with zeros before them."""
    width = max(known)

    def stack(layer: int, part: int) -> Tensor:
        example = found[0].layers[layer][part]
        table = example.new_zeros(len(found), example.shape[0], width, example.shape[2])
        for row, (prefix, n) in enumerate(zip(found, known, strict=True)):
            table[row, :, width - n :] = prefix.layers[layer][part][:, :n]
        return table

    return DynamicCache([(stack(layer, 0), stack(layer, 1)) for layer in range(len(found[0].layers))])
