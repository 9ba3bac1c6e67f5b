"""What `medglip doctor` tells: whether this installation can answer a question, and what to do if not.

Looks only, changes nothing, downloads nothing. It loads torch to see the device, and no model.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

DISTRIBUTION: Final = "med-glip-agent"
NEEDED_BYTES: Final = 1_000_000_000  # downloads and converted base weights together, with room

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at, in a word or two.
        status: "problem" means that something will not work, "warning" that it may not, or slowly.
        detail: what was found.
        remedy: what to do; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def check() -> list[Check]:
    """Look at this installation; return one entry for everything looked at, in a fixed order."""
    return [
        _check_python(),
        *_check_packages(),
        _check_device(),
        *_check_siblings(),
        *_check_checkpoints(),
        *_check_base_weights(),
        _check_disk(),
    ]


def render(checks: Sequence[Check]) -> str:
    """Return the checks as plain text, one a line, remedies indented below."""
    width = max(len(entry.name) for entry in checks)
    lines = []
    for entry in checks:
        lines.append(f"{entry.status:<8}{entry.name:<{width}}  {entry.detail}")
        if entry.remedy:
            lines.append(f"{'':<8}{'':<{width}}  -> {entry.remedy}")
    count = sum(entry.status == "problem" for entry in checks)
    lines.append("no problem found" if count == 0 else f"{count} problem{'s' if count > 1 else ''} found")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the checks; return 1 when one is a problem, else 0."""
    checks = check()
    print(render(checks))
    return int(any(entry.status == "problem" for entry in checks))


def _check_python() -> Check:
    """Say which Python runs; pip refuses to install the project into one that is too old."""
    return Check("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _check_packages() -> Iterator[Check]:
    """Compare each dependency of the project with what is installed; extras are left out."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        yield Check(
            "packages", "warning", f"{DISTRIBUTION} is not installed, only on the path", "make install"
        )
        return
    versions = {}
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check(requirement.name, "problem", f"expected {requirement}, got none", "make install")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            remedy = f"pip install -c constraints.txt '{requirement}'"
            yield Check(requirement.name, "problem", f"expected {requirement}, got {version}", remedy)
        versions[requirement.name] = version
    shown = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "transformers", "peft") if name in versions
    )
    yield Check("packages", "ok", f"{len(versions)} dependencies looked at, among them {shown}")


def _check_device() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library does not load
        return Check(
            "device", "problem", f"torch does not import: {error}", "reinstall torch, or make clean app"
        )
    if torch.cuda.is_available():
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float32: no bfloat16"
        return Check("device", "ok", f"{torch.cuda.get_device_name()}, {precision}")
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, and named so since torch 2.6
    precision = "bfloat16 in hardware" if supported is not None and supported() else "no bfloat16: slower"
    return Check("device", "ok", f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()}, {precision}")


def _check_siblings() -> Iterator[Check]:
    from . import check_siblings

    try:
        check_siblings()
    except ImportError as error:
        yield Check("packages of ours", "problem", str(error), "see above")
        return
    folders = {name: _folder(name) for name in ("grounding", "llm", "medglip_agent")}
    parents = {str(folder.parent) for folder in folders.values() if folder is not None}
    if len(parents) == 1:
        yield Check("packages of ours", "ok", f"all in {parents.pop()}")
    else:
        remedy = "use one of them: uninstall the other, or start from its folder"
        yield Check(
            "packages of ours", "warning", f"from several places: {', '.join(sorted(parents))}", remedy
        )


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _check_checkpoints() -> Iterator[Check]:
    """Look for the trained checkpoints that the packages carry."""
    for package in ("grounding", "llm"):
        folder = (_folder(package) or Path(package)) / "checkpoints" / "nano"
        weights = sorted(folder.glob("*.safetensors"))
        if weights and (folder / "config.json").is_file():
            size = sum(path.stat().st_size for path in weights) / 1e6
            yield Check(f"{package} nano", "ok", f"{size:.1f} MB in {folder}")
        else:
            remedy = f"git checkout -- {package}/checkpoints, or train one: docs/training.md"
            detail = f"expected config.json and *.safetensors in {folder}, got none"
            yield Check(f"{package} nano", "problem", detail, remedy)


def _check_base_weights() -> Iterator[Check]:
    from grounding.base_weights import NAMES, cache_dir, damaged_files, is_cached

    for name in NAMES:
        if not is_cached(name):
            yield Check(name, "problem", f"not in {cache_dir()}", f"medglip fetch {name}")
        elif damaged := damaged_files(name):
            folder = cache_dir() / name
            yield Check(
                name,
                "problem",
                f"changed since: {', '.join(damaged)}",
                f"delete {folder}, then medglip fetch",
            )
        else:
            yield Check(name, "ok", f"hashes right in {cache_dir() / name}")


def _check_disk() -> Check:
    from grounding.base_weights import NAMES, cache_dir, is_cached

    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES and not all(is_cached(name) for name in NAMES):
        remedy = "free some, or set MEDGLIP_CACHE to a folder on another disk"
        return Check("disk", "problem", f"{free / 1e9:.1f} GB free at {existing}; needs 1 GB", remedy)
    return Check("disk", "ok", f"{free / 1e9:.1f} GB free at {existing}")


if __name__ == "__main__":
    raise SystemExit(main())
