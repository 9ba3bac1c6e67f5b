"""One run as one HTML file: figures, plots, comparisons, right and wrong answers, how it was made.

    python -m benchmarks.page runs/d
    python -m benchmarks.page runs/d --data-dir DATA

Questions, reports and grounding alike; the page is written to page.html in the run's folder and needs nothing
else. With --data-dir it shows images of the data set: such a page is kept as the data is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gallery import COUNT
from benchmarks.markup import Html, document, facts, section, tag
from benchmarks.page_answers import answer_sections, report_sections
from benchmarks.page_grounding import grounding_sections
from benchmarks.run_folder import RunFolder, read_run
from benchmarks.runner import exit_code

IMAGES = "This page shows images of the data set: it must not be published or committed."
TEXTS = "This page shows texts of the data set: it must not be published or committed."
_SECTIONS = {"vqa": answer_sections, "report": report_sections, "grounding": grounding_sections}
_KINDS = {"vqa": "Questions", "report": "Reports", "grounding": "Grounding"}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page of a run; prints where it is."""
    parser = argparse.ArgumentParser(description="A run as one self-contained HTML page.")
    parser.add_argument("run", type=Path, help="output folder of run_vqa, run_report or run_grounding")
    parser.add_argument("--data-dir", type=Path, help="data folder of the run, for images in the gallery")
    parser.add_argument("--regions", type=Path, help="regions.jsonl that the run was given")
    parser.add_argument("--count", type=int, default=COUNT, help="right and wrong answers each")
    parser.add_argument("--out", type=Path, help="default: page.html in the run's folder")
    args = parser.parse_args(argv)
    run = read_run(args.run)
    path = args.out or args.run / "page.html"
    text = build_page(run, data_dir=args.data_dir, regions=args.regions, count=args.count)
    path.write_text(text, encoding="utf-8")
    print(path)
    return 0


def build_page(
    run: RunFolder, *, data_dir: Path | None = None, regions: Path | None = None, count: int = COUNT
) -> str:
    """The page of a run.

    Args:
        run: what is shown.
        data_dir: where its images are; None for a page without them.
        regions: the run's regions.jsonl where it is not in its folder.
        count: right and wrong answers each.

    Raises:
        ValueError: `data_dir` is not the data of the run.
    """
    sections = _SECTIONS[run.kind](run, data_dir, regions, count)
    warning = IMAGES if data_dir is not None else TEXTS if run.kind == "report" else ""
    kind = f"Med-GLIP Agent · {_KINDS[run.kind]}"
    return document(f"{run.data.name}: {run.model}", kind, *sections, made_by(run), warning=warning)


def made_by(run: RunFolder) -> Html:
    """Settings, hashes, versions and command, of the manifest."""
    manifest = run.manifest
    settings = [(name, _value(value)) for name, value in run.settings.items() if value is not None]
    measured = [(name, f"{value:g}") for name, value in manifest.get("measured", {}).items()]
    about = [("command", tag("code", " ".join(manifest["command"]))), ("commit", manifest["commit"] or "-")]
    return section(
        "How it was made",
        facts([*about, *measured]),
        tag("details", tag("summary", "Settings and hashes"), facts(settings)),
        tag("details", tag("summary", "Versions"), facts(manifest["versions"].items())),
    )


def _value(value: object) -> Html:
    """A setting as it stands in the manifest."""
    return tag("code", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(exit_code(main))
