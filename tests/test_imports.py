"""What importing costs: heavy libraries load late, extras are not needed. Checked in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "gradio",
    "langchain_core",
    "pydicom",
    "nibabel",
    "matplotlib",
    "datasets",
)
EXTRAS = (
    "highdicom",
    "fhir",
    "ray",
    "mcp",
    "sacrebleu",
    "rouge_score",
    "torchvision",
    "timm",
    "skimage",
    "openai",
    "playwright",
)
LIGHT = (
    "grounding",
    "grounding.types",
    "grounding.boxes",
    "grounding.ontology",
    "grounding.base_weights",
    "llm",
    "llm.types",
    "llm.spatial",
    "medglip_agent",
    "medglip_agent.audit",
    "medglip_agent.cli",
    "medglip_agent.doctor",
    "medglip_agent.examples",
    "benchmarks",
)
CORE = (
    "grounding.predictor",
    "grounding.train",
    "grounding.evaluate",
    "grounding.dicom",
    "llm.generate",
    "llm.train",
    "medglip_agent.agent",
    "medglip_agent.exports",
    "medglip_agent.serve.application",
    "medglip_agent.tools",
    "medglip_agent.uploads",
    "benchmarks.run_vqa",
    "benchmarks.run_report",
    "benchmarks.run_grounding",
)


def run(code: str) -> str:
    """Run code in a fresh interpreter at the repository's root; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_light_modules_load_no_heavy_library():
    loaded = run(
        f"import importlib, sys\nfor name in {LIGHT!r}:\n    importlib.import_module(name)\n"
        f"    heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n    if heavy: print(name, heavy)"
    )
    assert loaded == "", "these should load them inside the function that needs them"


def test_importing_writes_nothing_and_prints_nothing():
    assert run(f"import importlib\nfor name in {LIGHT!r}: importlib.import_module(name)") == ""


@pytest.mark.slow
def test_core_imports_without_extras():
    """The finder of installed packages overlooks the extras, as on a machine without them."""
    code = (
        "import importlib, importlib.machinery, sys\n"
        "class Without(importlib.machinery.PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {EXTRAS!r}: return None\n"
        "        return super().find_spec(name, path, target)\n"
        "normal = importlib.machinery.PathFinder\n"
        "sys.meta_path = [Without if finder is normal else finder for finder in sys.meta_path]\n"
        f"for name in {CORE!r}: importlib.import_module(name)\n"
        f"print(sorted(set({EXTRAS!r}) & set(sys.modules)) or 'imported')"
    )
    assert run(code).splitlines()[-1] == "imported"


def test_lazy_packages_offer_what_they_promise():
    """Every name in `__all__` can be had, and an unknown one is an AttributeError."""
    code = (
        "import importlib\n"
        "for package in ('grounding', 'llm', 'medglip_agent'):\n"
        "    module = importlib.import_module(package)\n"
        "    for name in module.__all__: getattr(module, name)\n"
        "    assert not hasattr(module, 'no_such_name')\n"
    )
    assert run(code) == ""
