"""The command line of the data engine: `medglip data build | export | stats | show | check | ...`.

Owns arguments and what is printed; the work is done in `grounding/data/` and `llm/data/`. Heavy imports
happen only once a command runs. Mistakes are raised as ValueError or OSError; `cli.py` tells them in one
line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from grounding.data.exports.report import ExportReport
    from grounding.data.inspect.faults import Fault

ENGINES: Final = ("pool", "ray")
FORMATS: Final = ("coco", "odvg", "odvg-grounding", "yolo", "hf")


def add_data_commands(parser: argparse.ArgumentParser) -> None:
    """Attach the subcommands to the parser of `medglip data`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build a data set from the sources that a YAML file names")
    build.add_argument("config", type=Path, metavar="YAML")
    build.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="continues where it was stopped"
    )
    build.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    build.add_argument("--engine", choices=ENGINES, default="pool", help="ray: over many machines")
    build.add_argument("--quiet", action="store_true", help="no progress bar")
    build.set_defaults(run=_build)

    export = commands.add_parser("export", help="write a built data set in another format")
    export.add_argument("folder", type=Path, metavar="FOLDER")
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    export.add_argument("--split", help="only train, val or test")
    export.set_defaults(run=_export)

    stats = commands.add_parser("stats", help="count a built data set")
    stats.add_argument("folder", type=Path, metavar="FOLDER")
    stats.add_argument("--out", type=Path, metavar="PNG", help="write the plots")
    stats.add_argument("--labels", type=int, default=40, help="as many labels are listed (default: 40)")
    stats.add_argument("--json", action="store_true", help="print JSON instead of tables")
    stats.set_defaults(run=_stats)

    _add_show(commands.add_parser("show", help="draw pictures with their boxes and masks on one sheet"))

    check = commands.add_parser("check", help="look for faults; exit code 1 where there are errors")
    check.add_argument("folder", type=Path, metavar="FOLDER")
    check.add_argument("--pixels", action="store_true", help="also decode every picture")
    check.add_argument("--limit", type=int, default=5, help="faults told of each kind (default: 5)")
    check.add_argument("--json", action="store_true", help="print every fault, one JSON object a line")
    check.set_defaults(run=_check)

    phantoms = commands.add_parser("phantoms", help="draw phantoms as COCO folders, one a modality")
    phantoms.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    phantoms.add_argument("--count", type=int, default=100, help="of each modality (default: 100)")
    phantoms.add_argument("--modality", nargs="+", metavar="CODE", help="DICOM codes (default: all)")
    phantoms.set_defaults(run=_phantoms)

    labels = commands.add_parser("labels", help="say what raw labels stand for in the ontology")
    labels.add_argument("raw", nargs="+", metavar="RAW")
    labels.add_argument("--modality", metavar="CODE", help="of the image: decides words such as mass")
    labels.set_defaults(run=_labels)

    fetch = commands.add_parser("fetch", help="download an openly licensed set, or say where to apply")
    fetch.add_argument("name", nargs="?", metavar="NAME", help="which one (without: list them)")
    fetch.add_argument("--out", type=Path, metavar="FOLDER", help="its own folder (default: ./NAME)")
    fetch.set_defaults(run=_fetch)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--count", type=int, default=12, help="pictures (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    parser.add_argument("--label", help="only pictures with a region of this label")
    parser.add_argument("--modality", help="only this DICOM code")
    parser.add_argument("--split", help="only train, val or test")
    parser.add_argument("--dataset", help="only this source")
    parser.set_defaults(run=_show)


def _build(args: argparse.Namespace) -> int:
    from grounding.data.engine.builder import build
    from grounding.data.engine.config import load_build_config
    from grounding.data.records import UnitError

    config = load_build_config(args.config)
    workers = _at_least_1("--workers", args.workers)
    try:
        manifest = build(config, args.out, workers=workers, engine=args.engine, progress=not args.quiet)
    except (UnitError, RuntimeError, ImportError) as error:  # ImportError: Ray is not installed
        raise ValueError(str(error)) from error
    for source in manifest["sources"]:
        print(_account(source))
    counts = manifest["splits"]
    splits = ", ".join(f"{counts[split]['images']:,} {split}" for split in counts)
    print(f"{args.out}: {sum(split['images'] for split in counts.values()):,} images ({splits})")
    return 0


def _account(source: Mapping[str, Any]) -> str:
    """What became of one source, from the manifest: what came out, and what did not."""
    counts = source["counts"]
    line = f"{source['name']}: {counts['images_out']:,} images, {counts['regions_out']:,} regions"
    left_out = {"files": {"unreadable": counts["units_quarantined"]} if counts["units_quarantined"] else {}}
    left_out |= {kind: source[f"{kind}_dropped"] for kind in ("images", "regions")}
    for kind, reasons in left_out.items():
        if reasons:
            told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
            line += f"; {kind} left out: {told}"
    return line


def _export(args: argparse.Namespace) -> int:
    from grounding.data.exports.coco import export_coco
    from grounding.data.exports.hf import export_hf
    from grounding.data.exports.odvg import export_odvg
    from grounding.data.exports.yolo import export_yolo

    writers: dict[str, Callable[[Path, Path, str | None], ExportReport]] = {
        "coco": export_coco,
        "odvg": export_odvg,
        "odvg-grounding": partial(export_odvg, variant="grounding"),
        "yolo": export_yolo,
        "hf": export_hf,
    }
    print(writers[args.format](args.folder, args.out, args.split))
    return 0


def _stats(args: argparse.Namespace) -> int:
    from grounding.data.inspect.stats import collect, render
    from grounding.data.inspect.stats_plot import plot

    _expect_png(args.out)
    stats = collect(args.folder)
    if args.json:
        print(json.dumps(vars(stats), default=vars, indent=2, ensure_ascii=False))
    else:
        print(render(stats, _at_least_1("--labels", args.labels)))
    if args.out is not None:
        plot(stats, args.out)
    return 0


def _show(args: argparse.Namespace) -> int:
    from grounding.data.inspect.show import Filter, choose, contact_sheet

    _expect_png(args.out)
    modality = None if args.modality is None else args.modality.upper()
    wanted = Filter(args.label, modality, args.split, args.dataset)
    rows = choose(args.folder, _at_least_1("--count", args.count), args.seed, wanted)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows).save(args.out)
    print(f"{len(rows)} pictures: {args.out}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from grounding.data.inspect.check import check

    report = check(args.folder, pixels=args.pixels)
    if args.json:
        for fault in report.faults:
            print(json.dumps(vars(fault), ensure_ascii=False))
        return int(report.failed)
    for line in _fault_lines(report.faults, args.limit):
        print(line)
    counts = Counter(fault.severity for fault in report.faults)
    print(
        f"{report.images:,} images: {counts['error']:,} errors, {counts['warning']:,} warnings; "
        f"left and right are known in {report.oriented:,} images and were checked there"
    )
    return int(report.failed)


def _fault_lines(faults: Sequence[Fault], limit: int) -> list[str]:
    """The faults grouped by kind, errors first, `limit` of each told."""
    kinds = Counter((fault.severity, fault.kind) for fault in faults)
    lines = []
    for severity, kind in sorted(kinds, key=lambda item: (item[0], -kinds[item])):
        own = [fault for fault in faults if (fault.severity, fault.kind) == (severity, kind)]
        lines.append(f"{severity}: {kind} ({len(own):,})")
        lines += [f"  {fault.image_id}: {fault.what} -> {fault.remedy}" for fault in own[:limit]]
        if len(own) > limit:
            lines.append(f"  ... and {len(own) - limit:,} more")
    return lines


def _phantoms(args: argparse.Namespace) -> int:
    from grounding.data.phantoms import MODALITIES
    from grounding.data.phantoms.sets import write_phantom_sets

    count = _at_least_1("--count", args.count)
    codes = [code.upper() for code in args.modality or MODALITIES]
    if unknown := [code for code in codes if code not in MODALITIES]:
        raise ValueError(f"--modality must be among {', '.join(MODALITIES)}, got {', '.join(unknown)}")
    for folder in write_phantom_sets(args.out, count, codes):
        print(f"{count} phantoms: {folder}")
    return 0


def _labels(args: argparse.Namespace) -> int:
    from grounding.ontology import Ontology

    ontology = Ontology.load()
    modality = None if args.modality is None else args.modality.upper()
    for raw in args.raw:
        label = ontology.canonical(raw, modality)
        if label is None:
            near = ", ".join(ontology.suggest(raw))
            print(f"{raw}: unknown; nearest: {near or 'none'}")
            continue
        print(f"{raw}: {label.name} ({label.granularity})")
        print(f"  in      {' < '.join(ontology.ancestors(label.name))}")
        print(f"  side    {label.side or '-'}")
        print(f"  SNOMED  {label.snomed or '-'}")
        print(f"  asked   {', '.join(ontology.phrases(label.name, modality)[:6])}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from llm.data.fetch import FetchError, fetch_dataset
    from llm.data.sources import SOURCES

    if args.name is None:
        for name, source in SOURCES.items():
            way = "downloaded" if source.repository else "by hand: medglip data fetch says how"
            print(f"{name:<10}  {source.title}; {source.licence}; {way}")
        return 0
    try:
        print(f"{args.name}: {fetch_dataset(args.name, args.out or Path(args.name))}")
    except FetchError as error:
        if args.debug:
            raise
        print(f"medglip: {error}", file=sys.stderr)  # the way to get the set takes several lines
        return 2
    return 0


def _expect_png(path: Path | None) -> None:
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {path.name!r}")


def _at_least_1(option: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{option} must be at least 1, got {value}")
    return value
