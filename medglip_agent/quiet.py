"""What libraries say at loading that whoever asks a question can do nothing about. Knows no model."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Silence two messages in this process, for commands at their start.

    bitsandbytes misses a kernel that is an extra, whenever peft looks for it on some CPUs; peft asks
    transformers by a name that is going to change.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
