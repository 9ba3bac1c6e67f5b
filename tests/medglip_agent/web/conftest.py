"""The fakes of fakes.py as fixtures, and a loader that already holds an agent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from medglip_agent.web.loading import AgentLoader


def load_fakes() -> ModuleType:
    """Import fakes.py, which is no package."""
    spec = importlib.util.spec_from_file_location("medglip_fakes", Path(__file__).with_name("fakes.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def loader() -> AgentLoader:
    """A loader whose agent is there."""
    ready = AgentLoader(lambda say: load_fakes().make_agent())
    ready.start()
    ready.get(timeout=120)
    return ready
