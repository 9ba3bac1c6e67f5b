"""README, CONTRIBUTING and docs tell the truth: their Python runs, and what they name exists."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE_BY_COMMANDS = ("runs/", "out/", "checkpoint/", "~")  # and so absent from a fresh clone


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; "" for those without one."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for found, code in fenced if found == language]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (page, words) for every line of every shell block."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                words = without_launcher(shlex.split(line, comments=True))
                if words:
                    yield page.name, words


def without_launcher(words: list[str]) -> list[str]:
    """The same run in one process: no variables before the command, no torchrun or accelerate."""
    while words and "=" in words[0]:
        words = words[1:]
    if words[:1] == ["torchrun"] or words[:2] == ["accelerate", "launch"]:
        words = ["python", *words[words.index("-m") :]]
    return words


COMMANDS = list(commands())


def source_of(words: list[str]) -> Path:
    """Return the file that a command runs."""
    if words[:2] == ["medglip", "data"]:
        return ROOT / "medglip_agent" / "data_cli.py"
    if words[:2] in (["medglip", "serve"], ["medglip", "mcp"], ["medglip", "audit"]):
        return ROOT / "medglip_agent" / "serve_cli.py"
    if words[0] == "medglip":
        return ROOT / "medglip_agent" / "cli.py"
    if words[:2] == ["python", "-m"]:
        module = ROOT / words[2].replace(".", "/")
        return module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    return ROOT / words[1]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[" ".join(words) for _, words in COMMANDS])
def test_commands_name_what_exists(page, words):
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
            f"{page}: no such target"
        )
        return
    assert words[0] in ("medglip", "python"), f"{page}: how is {words[0]!r} checked?"
    source = source_of(words)
    assert source.is_file(), f"{page}: {source} is absent"
    code = source.read_text(encoding="utf-8")
    if source.parent.name in ("benchmarks", "evaluate"):  # share flags
        for shared in ("grounding/evaluate/command.py", "benchmarks/small_runs.py"):
            code += (ROOT / shared).read_text(encoding="utf-8")
    if "benchmarks.run_config" in code:  # flags are the fields of its dataclass
        from benchmarks.run_config import RunConfig

        names = [field.name.replace("_", "-") for field in dataclasses.fields(RunConfig)]
        code += " ".join(f'"--{name}"' for name in [*names, "config"])
    if words[0] == "medglip":
        command = words[2] if words[1] == "data" else words[1]
        assert f'add_parser("{command}"' in code, f"{page}: medglip has no {command}"
    unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in code]
    assert not unknown, f"{page}: {source.name} has no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_text_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    quoted = re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|yaml|toml|md|txt))`", text)
    absent = [
        name
        for name in {*links, *quoted}
        if not name.startswith(MADE_BY_COMMANDS)
        and not any(exists(base, name) for base in (ROOT, page.parent))
    ]
    assert not absent


def exists(base: Path, name: str) -> bool:
    """Whether `name` is there; a bare file or folder name may stand anywhere below a package."""
    if (base / name).exists():
        return True
    bare = "/" not in name.rstrip("/")
    return bare and any(base.glob(f"[glmb]*/**/{name.rstrip('/')}"))


def test_tree_in_readme_names_every_module():
    """The annotated tree names all first-level modules of the packages, and nothing that is not there."""
    tree = next(block for block in blocks(ROOT / "README.md", "") if "grounding/   " in block)
    named = tree_entries(tree)
    absent = sorted(name for name in named if not (ROOT / name).exists())
    assert not absent, "the tree names what is not there"
    for package in ("grounding", "llm", "medglip_agent"):
        modules = {f"{package}/{path.name}" for path in (ROOT / package).glob("*.py")}
        forgotten = modules - named - {f"{package}/__init__.py"} - SMALL_PRINT
        assert not forgotten, "the tree does not name these"


SMALL_PRINT = {
    "grounding/training_log.py",
    "grounding/config.py",
    "grounding/checkpoint.py",
    "llm/config.py",
}  # plumbing a newcomer can skip


def tree_entries(tree: str) -> set[str]:
    """Return the paths in the tree: several names may share a line; two spaces begin the note."""
    found, folder = set(), ""
    for line in tree.splitlines():
        if line.startswith(" " * 8):  # a folder within a folder: its parent is named
            continue
        indented = line.startswith("    ")
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not indented:
            folder = names[0] if names[0].endswith("/") else ""
        found |= {(folder if indented else "") + name for name in names}
    return found


PYTHON = [(page.name, code) for page in PAGES for code in blocks(page, "python")]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_blocks_run(page, code, base_weights, tmp_path):
    absent = [
        p for p in ("grounding", "llm") if not (ROOT / p / "checkpoints" / "nano" / "config.json").exists()
    ]
    if absent:
        pytest.skip(f"no trained checkpoint in {', '.join(absent)}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDGLIP_CACHE": str(base_weights)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page):
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")
