"""Fixtures and markers that every test folder shares. Tests are offline: no model hub, no statistics."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when the libraries are imported, so set before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--network", action="store_true", help="also run the tests marked network")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Playwright keeps an event loop running in this thread once started: tests with their own come first.
    items.sort(key=lambda item: "browser" in item.path.parts)
    for item in items:
        for marker in ("slow", "network"):
            if item.get_closest_marker(marker) and not config.getoption(f"--{marker}"):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: runs with --{marker}"))
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="gpu: no CUDA device here"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets (grounding/, vqa/, reports/, ...), or a skip with the reason."""
    folder = os.environ.get("MEDGLIP_DATA")
    if not folder:
        pytest.skip("real data: set MEDGLIP_DATA to the data folder")
    if not Path(folder).is_dir():
        pytest.skip(f"real data: MEDGLIP_DATA={folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def base_weights() -> Path:
    """The cache folder with all base weights in it, or a skip with the reason. Never downloads."""
    from grounding.base_weights import NAMES, cache_dir, is_cached

    absent = [name for name in NAMES if not is_cached(name)]
    if absent:
        pytest.skip(f"base weights absent: {', '.join(absent)}; run `medglip fetch`")
    return cache_dir()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
