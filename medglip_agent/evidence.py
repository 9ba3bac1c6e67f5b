"""Evidence: the regions a question can rest on.

Decides which phrases are looked for (the labels that the grounder knows in this modality, and whatever the
question names), asks the grounder, and orders what came back. Knows no language model. Also a command that
writes the evidence of a VQA-RAD split, so that training and benchmarks read what the agent would see:

    python -m medglip_agent.evidence --data-dir DIR --split disjoint-test --out regions.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from grounding.boxes import box_iou
from grounding.guesses import with_guesses
from grounding.hierarchy import consistent
from grounding.ontology import Ontology
from grounding.types import MedicalImage, Regions

from .protocols import GrounderLike

if TYPE_CHECKING:
    from llm.data.vqa_rad import VQAExample

VQA_RAD_SPLITS: Final = ("official-train", "official-test", "disjoint-train", "disjoint-val", "disjoint-test")

# An organ is there once; of lesions and cells the surest few say enough to a small language model.
MAX_PER_LABEL: Final[Mapping[str, int]] = {"region": 1, "organ": 1, "substructure": 1, "lesion": 3, "cell": 3}
# ... unless the question names them, for it may ask how many: then as many as the longest prompt holds.
MAX_PER_NAMED: Final[Mapping[str, int]] = {**MAX_PER_LABEL, "lesion": 40, "cell": 40}

# A picture counts as coloured when more than this part of its pixels has visibly unequal channels:
# coloured marks and logos on grey pictures stay below it.
_COLOUR_FRACTION: Final = 0.05
_COLOUR_SPREAD: Final = 24


_SAME_IOU: Final = 0.7


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was found in an image with one question in mind.

    Attributes:
        prompted: what a language model is told: `regions`, and the best guess for what the question mentions
            and was not found (doubted regions, never shown as evidence).
        mentioned: the labels that the question names.
        in_organ: of each region, whether it lies in its organ; None for what is no lesion and for a lesion
            whose organ is not among the regions (see `grounding.hierarchy.consistent`).
    """

    prompted: Regions
    mentioned: tuple[str, ...]
    in_organ: tuple[bool | None, ...]

    @property
    def regions(self) -> Regions:
        """What the question mentions first, then the rest by falling score.

        Its `asked` is everything that was looked for. Boxes xyxy in pixels of the original image.
        """
        return self.prompted.found

    @property
    def asked(self) -> tuple[str, ...]:
        """Every phrase that was looked for, found or not."""
        return self.regions.asked

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels that the question names and that were not found."""
        found = set(self.regions.phrases)
        return tuple(label for label in self.mentioned if label not in found)


class ImageEvidence:
    """One image, encoded once; the vocabulary of its modality is grounded once, at the first question."""

    def __init__(
        self, grounder: GrounderLike, image: MedicalImage, *, box_threshold: float | None = None
    ) -> None:
        """Encode `image`. `box_threshold` None means the checkpoint's own."""
        self.image = image
        self._ontology = grounder.ontology
        self._threshold = box_threshold
        self._grounded = grounder.set_image(image)
        self._extras: dict[tuple[str, ...], Regions] = {}

    def ground(self, phrases: Sequence[str], *, box_threshold: float | None = None) -> Regions:
        """Return the regions of any phrases, in the vocabulary or not, by falling score.

        A box that nearly repeats a surer one of its phrase is left out: it is the same thing seen twice.
        """
        threshold = self._threshold if box_threshold is None else box_threshold
        return _distinct(self._grounded.ground(tuple(phrases), box_threshold=threshold).sorted())

    def _looked_for(self, phrases: tuple[str, ...]) -> Regions:
        """What is found of the phrases, and where the others would most likely be."""
        return with_guesses(self.ground(phrases), self._grounded.ground(phrases, box_threshold=0.0))

    def modality_probabilities(self) -> Mapping[tuple[str, ...], float]:
        """Return what the grounder takes the image for, whatever the image says; empty = it cannot tell."""
        return self._grounded.modality_probabilities()

    @cached_property
    def vocabulary(self) -> Regions:
        """The regions of every label that the grounder knows in the image's modality, and guesses."""
        labels = vocabulary_for(self.image, self._ontology)
        return self._looked_for(labels) if labels else Regions.empty(self.image.size)

    def gather(self, question: str) -> Evidence:
        """Return the evidence for `question`; it depends on the image and the question only."""
        mentioned = self._ontology.mentions(question, self.image.modality)
        regions = self.vocabulary
        if extra := tuple(label for label in mentioned if label not in regions.asked):
            if extra not in self._extras:
                self._extras[extra] = self._looked_for(extra)
            regions = _concatenate(regions, self._extras[extra])
        selected = _select(regions, mentioned, self._ontology)
        return Evidence(selected, mentioned, tuple(consistent(selected.found, self._ontology)))


def vocabulary_for(image: MedicalImage, ontology: Ontology) -> tuple[str, ...]:
    """Return the labels of `ontology` worth looking for in `image`.

    Those of its modality; where that is unknown, X-ray, CT and MR labels for a grey picture, else all.
    """
    if image.modality is not None:
        return ontology.labels_for(image.modality)
    return ontology.labels_for(None) if is_coloured(image.pixels) else ontology.radiology_labels()


def is_coloured(pixels: np.ndarray) -> bool:
    """Return whether the uint8 (H, W, 3) picture shows colour beyond small marks on it."""
    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return bool((spread > _COLOUR_SPREAD).mean() > _COLOUR_FRACTION)


def _distinct(regions: Regions) -> Regions:
    """Drop regions that overlap a surer one of the same phrase by more than _SAME_IOU; input is sorted."""
    if len(regions) < 2:
        return regions
    repeats = (box_iou(regions.boxes, regions.boxes) > _SAME_IOU) & (
        regions.phrase_index[:, None] == regions.phrase_index[None, :]
    )
    kept: list[int] = []
    for index in range(len(regions)):
        if not repeats[index, kept].any():
            kept.append(index)
    return regions[np.array(kept, dtype=np.int64)]


def _concatenate(first: Regions, second: Regions) -> Regions:
    """What was found of both, then the guesses of both; neither has masks."""
    order = np.argsort(np.concatenate([first.doubted, second.doubted]), kind="stable")
    index = np.concatenate([first.phrase_index, second.phrase_index + len(first.asked)])
    return Regions(
        boxes=np.concatenate([first.boxes, second.boxes])[order],
        scores=np.concatenate([first.scores, second.scores])[order],
        phrase_index=index[order],
        asked=first.asked + second.asked,
        image_size=first.image_size,
        doubted=np.concatenate([first.doubted, second.doubted])[order],
    )


def _select(regions: Regions, mentioned: Sequence[str], ontology: Ontology) -> Regions:
    """Keep the surest few of each label; what is mentioned comes first, in the question's order.

    Guesses are kept of what is mentioned, behind everything that was found.
    """
    phrases, doubted = regions.phrases, regions.doubted
    rank = {label: place for place, label in enumerate(mentioned)}
    kept: list[int] = []
    count: dict[str, int] = {}
    for index in np.argsort(-regions.scores, kind="stable").tolist():
        phrase = phrases[index]
        if doubted[index] and phrase not in rank:
            continue
        count[phrase] = count.get(phrase, 0) + 1
        most = MAX_PER_NAMED if phrase in rank else MAX_PER_LABEL
        if count[phrase] <= most[ontology.label(phrase).granularity]:
            kept.append(index)
    # stable: scores still fall within a label
    kept.sort(key=lambda index: (bool(doubted[index]), rank.get(phrases[index], len(rank))))
    return regions[np.array(kept, dtype=np.int64)]


# ---- the command -------------------------------------------------------------------------------------


def write_evidence(grounder: GrounderLike, examples: Sequence[VQAExample], out: Path) -> int:
    """Append the evidence of each example to `out` (JSON lines), each distinct image grounded once.

    A line is {"qid", "grounder", "grounder_sha256", "mentioned", "regions", "in_organ"}. Examples already in
    `out` are skipped, a last line cut short by an interruption is dropped.

    Returns:
        The number of lines written now.

    Raises:
        ValueError: `out` was written with another grounder, or before its weights or calibration changed.
    """
    from tqdm import tqdm

    writer = {"grounder": grounder.name, "grounder_sha256": grounder.fingerprint}
    done = _resume(out, writer)
    by_image: dict[Path, list[VQAExample]] = {}
    for example in examples:
        by_image.setdefault(example.image_path, []).append(example)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with out.open("a", encoding="utf-8") as file:
        for path, group in tqdm(by_image.items(), desc="images", unit="image"):
            todo = [example for example in group if example.qid not in done]
            if not todo:
                continue
            evidence_of = ImageEvidence(grounder, MedicalImage.open(path))
            for line in _lines(evidence_of, todo, writer):
                file.write(line + "\n")
                written += 1
            file.flush()
    return written


def _lines(
    evidence_of: ImageEvidence, examples: Sequence[VQAExample], writer: Mapping[str, str]
) -> Iterator[str]:
    for example in examples:
        evidence = evidence_of.gather(example.question)
        line = {
            "qid": example.qid,
            **writer,
            "mentioned": list(evidence.mentioned),
            "regions": evidence.prompted.to_dict(),
            "in_organ": evidence.in_organ,
        }
        yield json.dumps(line)


def _resume(out: Path, writer: Mapping[str, str]) -> set[str]:
    """Return the question ids in `out`, dropping a last line that was cut short."""
    if not out.exists():
        return set()
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    lines = [json.loads(line) for line in whole.splitlines()]
    for line in lines:
        if {key: line.get(key) for key in writer} != writer:
            raise ValueError(
                f"{out}: expected regions of grounder {writer['grounder']!r} as it is now, got those of "
                f"{line['grounder']!r} or from before its weights or calibration changed: "
                "choose another --out or delete the file"
            )
    if whole != text:
        out.write_text(whole, encoding="utf-8")
    return {line["qid"] for line in lines}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the evidence of one VQA-RAD split."""
    parser = argparse.ArgumentParser(prog="python -m medglip_agent.evidence", description=main.__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="data folder that holds vqa/vqa_rad")
    parser.add_argument("--split", required=True, choices=VQA_RAD_SPLITS)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; continued when it exists")
    parser.add_argument("--grounder", default="nano", help="checkpoint name or folder (default: nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    args = parser.parse_args(argv)

    from grounding.predictor import Grounder
    from llm.data.vqa_rad import read_vqa_rad

    examples = read_vqa_rad(args.data_dir / "vqa" / "vqa_rad", args.split)
    grounder = Grounder.from_pretrained(args.grounder, device=args.device)
    written = write_evidence(grounder, examples, args.out)
    print(f"{args.out}: {written} questions written, {len(examples) - written} were there")
    lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
    checked = [verdict for line in lines for verdict in line["in_organ"] if verdict is not None]
    print(f"{sum(checked)} of {len(checked)} lesions shown with their organ lie in it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
