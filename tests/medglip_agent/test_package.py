"""Importing the package is light, and siblings of another distribution are named with a remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import medglip_agent

ROOT = Path(medglip_agent.__file__).resolve().parent.parent


def _python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{code}"
    return subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)


def test_import_and_help_load_no_heavy_library() -> None:
    code = (
        "import medglip_agent.cli, sys\n"
        "try: medglip_agent.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'transformers', 'gradio', 'PIL', 'numpy'} & set(sys.modules))"
    )
    done = _python(code, ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("set()\n")
    assert "Research use only" in done.stdout


def test_a_shadowing_distribution_is_named(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    done = _python("import medglip_agent", tmp_path, ROOT)
    assert "expected 'llm' to be Med-GLIP Agent's package" in done.stderr
    assert f"{tmp_path / 'llm'}" in done.stderr and "uninstall that one" in done.stderr


def test_unknown_attribute() -> None:
    assert not hasattr(medglip_agent, "nothing")
    assert medglip_agent.MedGLIPAgent.__name__ == "MedGLIPAgent"
