"""The kind of image as a word at the head of the prompt: ``[CLS] ct . liver . spleen . [SEP]``.

The word is a phrase that owns no positive token: it tells the network what it looks at and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .prompts import Prompt, build_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .modeling import MedGLIPConfig

PREFIXES = {
    "CR": "x-ray",
    "DX": "x-ray",
    "CT": "ct",
    "MR": "mri",
    "US": "ultrasound",
    "ES": "endoscopy",
    "DMS": "dermoscopy",
    "OP": "fundus photograph",
    "SM": "microscopy",
}


def modality_prefix(config: MedGLIPConfig, modality_id: int) -> str | None:
    """The word for a row of the modality embedding; None where it is unknown or prefixes are off."""
    if not config.modality_prefix or modality_id == 0:
        return None
    code: str = config.modalities[modality_id - 1][0]
    return PREFIXES.get(code, code.lower())


def build_modality_prompt(
    tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str], config: MedGLIPConfig, modality_id: int
) -> Prompt:
    """A prompt that opens with the modality's word where ``config.modality_prefix`` asks for it.

    The spans are those of ``phrases``: the prefix has none.

    Raises:
        ValueError: As :func:`grounding.prompts.build_prompt`.
    """
    prefix = modality_prefix(config, modality_id)
    if prefix is None:
        return build_prompt(tokenizer, phrases)
    prompt = build_prompt(tokenizer, [prefix, *phrases])
    return Prompt(prompt.input_ids, prompt.token_spans[1:])
