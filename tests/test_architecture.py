"""The rules of the house, read from the source with `ast`: nothing here imports the project.

Imports run one way (grounding <- llm <- medglip_agent <- benchmarks, app.py); libraries have their
place; code never runs data (no pickle, no eval); no module hides one of the standard library.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("grounding", "llm", "medglip_agent", "benchmarks")

# package -> the packages of ours that it may import
MAY_IMPORT = {
    "grounding": set(),
    "llm": {"grounding"},
    "medglip_agent": {"grounding", "llm"},
    "benchmarks": {"grounding", "llm", "medglip_agent"},
    "app": {"grounding", "llm", "medglip_agent"},
}
# all of grounding that llm sees
LLM_SEES = {"types", "boxes", "images", "base_weights", "backbone", "packaged", "weights_hash"}
# library -> the files that may import it
HOMES = {
    "gradio": r"app\.py|medglip_agent/web/.*|benchmarks/run_latency\.py",  # which weighs it
    "langchain_core": r"medglip_agent/.*",
    "pydicom": r"grounding/(images|dicom|nifti|windowing|probe)\.py|medglip_agent/exports/dicom_\w+\.py",
    "highdicom": r"medglip_agent/exports/dicom_\w+\.py",
    "fhir": r"medglip_agent/exports/fhir\.py",
    "nibabel": r"grounding/(images|nifti)\.py",
    "starlette": r"medglip_agent/(serve/\w+|mcp_server)\.py",
    "uvicorn": r"medglip_agent/serve/run\.py",
    "mcp": r"medglip_agent/mcp_server\.py",
    "ray": r"grounding/data/.*|benchmarks/.*",
    "torchvision": r"",
    "timm": r"",
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "misc.py", "common.py"}


@dataclass(frozen=True)
class Import:
    """One import statement: the absolute dotted name, and where it stands."""

    module: str
    names: tuple[str, ...]
    relative: bool
    line: int

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def source_files() -> list[Path]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    app = ROOT / "app.py"
    return [*files, app] if app.exists() else files


def relative_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(tree: ast.AST, path: Path) -> Iterator[Import]:
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), False, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            if node.level:
                parents = package[: len(package) - node.level + 1]
                module = ".".join([*parents, *([node.module] if node.module else [])])
                yield Import(module, names, True, node.lineno)
            else:
                yield Import(node.module or "", names, False, node.lineno)


def read(path: Path) -> tuple[str, ast.AST, list[Import]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return relative_name(path), tree, list(imports_of(tree, path))


SOURCES = [read(path) for path in source_files()]
IMPORTS = [(name, item) for name, _, items in SOURCES for item in items]


def package_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def told(name: str, item: Import) -> str:
    return f"{name}:{item.line} imports {item.module}"


def test_imports_run_one_way():
    wrong = [
        f"{told(name, item)}; {package_of(name)} may import {sorted(MAY_IMPORT[package_of(name)])}"
        for name, item in IMPORTS
        if item.top in {*PACKAGES, "app"} - {package_of(name)} - MAY_IMPORT[package_of(name)]
    ]
    assert not wrong


def test_llm_sees_only_the_ground_floor_of_grounding():
    """`from grounding import X` hides which module X comes from, so it counts as wrong too."""
    wrong = [
        told(name, item)
        for name, item in IMPORTS
        if name.startswith("llm/")
        and item.top == "grounding"
        and [*item.module.split("."), ""][1] not in LLM_SEES
    ]
    assert not wrong, f"llm sees only {sorted(LLM_SEES)} of grounding"


def test_imports_inside_a_package_are_relative():
    """Except in benchmarks, whose files also run as scripts."""
    wrong = [
        told(name, item)
        for name, item in IMPORTS
        if package_of(name) != "benchmarks" and item.top == package_of(name) and not item.relative
    ]
    assert not wrong, "write them as `from .module import name`"


def test_scripts_import_absolutely():
    """A script that runs as a file has no package to be relative to."""
    scripts = re.compile(r"benchmarks/run_\w+\.py|app\.py")
    assert not [told(name, item) for name, item in IMPORTS if scripts.fullmatch(name) and item.relative]


def test_libraries_stay_in_their_place():
    wrong = [
        told(name, item)
        for name, item in IMPORTS
        if item.top in HOMES and not re.fullmatch(HOMES[item.top], name)
    ]
    assert not wrong, f"see HOMES in {Path(__file__).name}"


def test_data_never_runs_as_code():
    wrong = [told(name, item) for name, item in IMPORTS if item.top in FORBIDDEN_MODULES]
    wrong += [
        f"{name}:{node.lineno} {forbidden_call(node)}"
        for name, tree, _ in SOURCES
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and forbidden_call(node)
    ]
    assert not wrong


def forbidden_call(node: ast.Call) -> str | None:
    """Return what is wrong with a call, or None."""
    called = ast.unparse(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if called in ("eval", "exec", "compile", "__import__", "os.system"):
        return f"calls {called}"
    if called == "torch.load" and not is_constant(given.get("weights_only"), True):
        return "calls torch.load without weights_only=True"
    if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        return f"calls {called}; use yaml.safe_load"
    if called in ("np.load", "numpy.load") and "allow_pickle" in given:
        return "calls numpy.load with allow_pickle"
    if is_constant(given.get("trust_remote_code"), True):
        return "trusts remote code"
    if is_constant(given.get("shell"), True):
        return "calls a shell"
    if is_constant(given.get("share"), True):
        return "shares the app publicly"
    return None


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("torch.load(f)", "torch.load without"),
        ("torch.load(f, weights_only=False)", "torch.load without"),
        ("torch.load(f, weights_only=True)", None),
        ("eval('1')", "calls eval"),
        ("model.eval()", None),
        ("re.compile('a')", None),
        ("torch.compile(model)", None),
        ("yaml.load(f)", "safe_load"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "remote code"),
        ("subprocess.run(x, shell=True)", "shell"),
    ],
)
def test_forbidden_call_knows_what_it_looks_for(code, found):
    call = ast.parse(code).body[0].value
    reason = forbidden_call(call)
    assert reason is None if found is None else found in reason


def test_no_star_imports():
    assert not [told(name, item) for name, item in IMPORTS if "*" in item.names]


def test_file_names_say_what_they_hold():
    vague = [name for name, _, _ in SOURCES if Path(name).name in FORBIDDEN_NAMES]
    assert not vague, "name the concept, as boxes.py or windowing.py do"


def test_no_script_sits_beside_a_twin_of_the_standard_library():
    """A file run as a script puts its own folder first on sys.path, and a twin there hides the library's."""
    beside_scripts = [Path(name) for name, _, _ in SOURCES if package_of(name) in ("benchmarks", "app")]
    assert not [path for path in beside_scripts if path.stem in sys.stdlib_module_names]


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert listed == found, "pyproject.toml lists the packages one by one"


def test_every_source_folder_is_a_package():
    folders = {(ROOT / name).parent for name, _, _ in SOURCES} - {ROOT}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_tests_have_no_packages():
    """With `__init__.py`, tests/grounding would hide grounding."""
    assert not [relative_name(path) for path in (ROOT / "tests").rglob("__init__.py")]


def test_no_model_file_is_too_large():
    """45 MB a file, 100 MB in all: what a repository can carry."""
    files = [path for package in PACKAGES for path in (ROOT / package).glob("checkpoints/*/*")]
    sizes = {relative_name(path): path.stat().st_size for path in files}
    assert not {name: size for name, size in sizes.items() if size > 45e6}
    assert sum(sizes.values()) <= 100e6
    assert not [name for name in sizes if name.endswith((".bin", ".pth", ".pt", ".pkl"))], "safetensors only"


def test_pinned_dependencies_satisfy_the_project():
    """Each dependency of the project has its tested version in constraints.txt, without a build tag."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        canonical(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"]]
    for own in [name for name in wanted if name.startswith(project["name"])]:  # extras that dev has too
        wanted.remove(own)
        wanted += [name for extra in re.findall(r"[\w-]+", own.partition("[")[2]) for name in extras[extra]]
    assert not {canonical(re.split(r"[<>=!~\[; ]", name)[0]) for name in wanted} - pins
    assert "+cpu" not in (ROOT / "constraints.txt").read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
