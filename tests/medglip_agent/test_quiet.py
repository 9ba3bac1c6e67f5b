"""What nobody who asks a question can act on is not told; everything else still is."""

import logging
import warnings

import pytest

from medglip_agent.quiet import quiet_libraries


@pytest.fixture(autouse=True)
def undone():
    level = logging.getLogger("bitsandbytes").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    logging.getLogger("bitsandbytes").setLevel(level)


def test_the_renamed_property_is_silent_and_other_warnings_are_not():
    quiet_libraries()
    warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed in v6.", FutureWarning, 2)
    with pytest.raises(FutureWarning, match="something else"):
        warnings.warn("something else", FutureWarning, 2)


def test_a_missing_kernel_is_silent_and_errors_are_not(caplog):
    quiet_libraries()
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward")
    logger.error("a real fault")
    assert caplog.messages == ["a real fault"]
