"""Write the instruction data of a data folder: one file a source, ready for a mixture or another trainer.

    python -m medglip_agent.instructions --data-dir DATA --out runs/instructions

Only training parts are read: the splits ``train`` of grounding sets and chest X-ray labels, SLAKE's questions
without its images, and phantoms where a folder of them is given. Knows no template: `llm.data` writes the
questions, `grounding.data` reads the boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from grounding.data.coco import read_coco
from llm.data.box_questions import ORIENTED_SETS, BoxQuestionConfig, box_questions
from llm.data.boxed import BoxedImage, boxed_images
from llm.data.captions import grounded_descriptions, region_captions
from llm.data.exports import export_sharegpt, export_swift
from llm.data.instructions import Ground, Instruction, as_text, write_instructions
from llm.data.nih_cxr import read_nih_cxr
from llm.data.nih_text import nih_questions, nih_reports
from llm.data.slake import read_slake

EXPORTS: Final[dict[str, Callable[[Sequence[Instruction], Path], int]]] = {
    "swift": export_swift,
    "llamafactory": export_sharegpt,
}
PER_QUESTION: Final = 400
"""The most questions that ask the same of one set, in training."""


def training_sources(
    data_dir: Path, *, ground: Ground | None = None, phantoms: Path | None = None, seed: int = 0
) -> dict[str, tuple[Instruction, ...]]:
    """Every source of instruction data that a folder holds, by name; what is not there is left out.

    Args:
        data_dir: Folder with grounding/, classification/nih_cxr, vqa/slake_text.
        ground: Finds the lungs for the reports; None writes them without regions.
        phantoms: Folder of phantom sets, whose orientation is known where they are slices or X-rays.
        seed: Of choices and wordings.
    """
    folders = sorted(path.parent for path in (data_dir / "grounding").glob("*/train.json"))
    images = [image for folder in folders for image in boxed_images(read_coco(folder, "train"))]
    sources = boxed_sources(images, "", ORIENTED_SETS, seed)
    if phantoms is not None:
        drawn = sorted(path.parent for path in phantoms.glob("*/train.json"))
        images = [image for folder in drawn for image in boxed_images(read_coco(folder, "train"))]
        oriented = frozenset({"phantom_cr", "phantom_ct", "phantom_mr"})
        sources |= boxed_sources(images, "phantom_", oriented, seed)
    if (nih := data_dir / "classification" / "nih_cxr").is_dir():
        xrays = read_nih_cxr(nih, "train").examples
        sources["nih_questions"] = nih_questions(xrays, seed=seed)
        sources["nih_reports"] = nih_reports(xrays, ground, seed=seed)
    if (slake := data_dir / "vqa" / "slake_text").is_dir():
        sources["slake_text"] = as_text(read_slake(slake, "train", images=False), "slake")
    return {name: items for name, items in sources.items() if items}


def boxed_sources(
    images: Sequence[BoxedImage], prefix: str, oriented: frozenset[str], seed: int
) -> dict[str, tuple[Instruction, ...]]:
    """What is made of true boxes: questions, captions, descriptions."""
    config = BoxQuestionConfig(per_question=PER_QUESTION, oriented=oriented, seed=seed)
    return {
        f"{prefix}boxes": box_questions(images, config),
        f"{prefix}captions": region_captions(images, seed=seed),
        f"{prefix}findings": grounded_descriptions(images, seed=seed),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write one file a source."""
    parser = argparse.ArgumentParser(prog="python -m medglip_agent.instructions", description=main.__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with grounding/, vqa/, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder for <source>.jsonl")
    parser.add_argument("--phantoms", type=Path, help="folder of phantom sets (`medglip data phantoms`)")
    parser.add_argument("--grounder", help="checkpoint that finds the lungs for chest X-ray reports")
    parser.add_argument("--export", choices=EXPORTS, help="also write <out>/<export>/<source>.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    args = parser.parse_args(argv)
    ground: Ground | None = None
    if args.grounder:
        from grounding.predictor import Grounder

        ground = Grounder.from_pretrained(args.grounder, device=args.device).ground
    sources = training_sources(args.data_dir, ground=ground, phantoms=args.phantoms, seed=args.seed)
    if not sources:
        layout = "grounding/*/train.json, classification/nih_cxr, vqa/slake_text"
        parser.error(f"{args.data_dir} holds none of {layout}; see the page on training data in docs/")
    for name, items in sources.items():
        print(f"{args.out / name}.jsonl: {write_instructions(args.out / f'{name}.jsonl', items)}")
        if args.export:
            EXPORTS[args.export](items, args.out / args.export / f"{name}.jsonl")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
