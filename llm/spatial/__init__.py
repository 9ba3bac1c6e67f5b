"""Boxes that a language model can read and write: one small class a family, and the regions of a prompt.

Importing it loads neither torch nor a tokenizer.
"""

from .base import BoxFormat, SpatialTextError
from .crops import CropPanel, crop_panel
from .escape import escape_text
from .florence import FlorenceBoxes
from .gemma import GemmaBoxes
from .kosmos import KosmosBoxes
from .overlay import draw_marks, parse_marks
from .paligemma import PaliGemmaBoxes
from .parsed import FoundBox, Parsed, Unread
from .placement import Placement
from .prompt import (
    NANO_STYLE,
    STYLES,
    TEXT_STYLE,
    PromptStyle,
    choose_regions,
    mentions,
    region_block,
    score_bucket,
    show_regions,
)
from .qwen import Qwen3Boxes, Qwen25Boxes
from .text import TextBoxes
from .tokens import LocTokens

__all__ = [
    "NANO_STYLE",
    "STYLES",
    "TEXT_STYLE",
    "BoxFormat",
    "CropPanel",
    "FlorenceBoxes",
    "FoundBox",
    "GemmaBoxes",
    "KosmosBoxes",
    "LocTokens",
    "PaliGemmaBoxes",
    "Parsed",
    "Placement",
    "PromptStyle",
    "Qwen3Boxes",
    "Qwen25Boxes",
    "SpatialTextError",
    "TextBoxes",
    "Unread",
    "choose_regions",
    "crop_panel",
    "draw_marks",
    "escape_text",
    "mentions",
    "parse_marks",
    "region_block",
    "score_bucket",
    "show_regions",
]
