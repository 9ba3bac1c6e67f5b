"""What the tasks on chest X-ray reports share: the findings section of each study, from one frontal image.

References are as written (`raw`), or cleaned and cut in the manner of R2Gen (Chen et al. 2020; `r2gen`), only
for comparison with tables made that way. Texts of the references are not written beside the predictions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.box_conditions import shuffle_alike
from benchmarks.metrics.meteor import meteor_exact
from benchmarks.metrics.overlap import report_tokens, rouge_l
from benchmarks.tasks.base import Sample, SplitTask
from grounding.types import Regions
from llm.data.reports import ReportExample
from llm.data.vqa import VQAExample

PROMPT = "Write the findings section of the radiology report of this chest X-ray."

_LIST_NUMBER = re.compile(r"(?:^|(?<=\s))\d+\.\s")
_MARKS = re.compile(r"""[.,?;*!%^&_+():\[\]{}"'\\]""")


class ReportTask(SplitTask[ReportExample]):
    """Findings of a study; intervals are clustered by patient where the set says who is one."""

    train_split = "train"
    r2gen_words: ClassVar[int]
    """Where `r2gen` cuts a reference."""
    headline = "label_micro_14"
    cluster = "patient"
    max_new_tokens = 256
    stores_reference = False

    def __init__(self, data_dir: str | Path, split: str, *, references: str = "raw") -> None:
        """Remember where to read; files are read on first use.

        Args:
            data_dir: the data folder.
            split: one of `splits`.
            references: "raw" or "r2gen".

        Raises:
            ValueError: the split is unknown.
        """
        super().__init__(Path(data_dir) / "reports", split)
        self.references = references

    def predict_regions(self, grounder: Any, samples: Sequence[Sample], path: Path) -> None:
        """What the agent would look for in the image."""
        from medglip_agent.evidence import write_evidence

        asked = [VQAExample(s.sample_id, s.image_path, s.prompt, "-", "OPEN") for s in samples]
        write_evidence(grounder, asked, path)

    def shuffle_regions(
        self, samples: Sequence[Sample], regions: Mapping[str, Regions], seed: int
    ) -> dict[str, Regions]:
        """Regions of another patient's image."""
        return shuffle_alike(samples, regions, seed)

    def words(self, text: str) -> list[str]:
        """The words that are compared, in the mode of the references."""
        return r2gen_text(text).split() if self.references == "r2gen" else report_tokens(text)

    def scores(self, prediction: str, sample: Sample) -> dict[str, float]:
        """What a single report can be given: ROUGE-L and METEOR on equal words; an empty one scores 0."""
        said, true = self.words(prediction), self.words(sample.reference)
        return {"rouge_l": rouge_l(said, [true]), "meteor_exact": meteor_exact(said, [true])}

    def to_sample(self, example: ReportExample) -> Sample:
        """The study's first image and its findings."""
        text = example.findings
        if self.references == "r2gen":
            text = " ".join(r2gen_text(text).split()[: self.r2gen_words])
        return Sample(
            sample_id=example.study_id,
            image_path=example.image_paths[0],
            prompt=PROMPT,
            reference=text,
            cluster=example.patient or example.study_id,
            groups={},
        )


def r2gen_text(text: str) -> str:
    """Lower case, list numbers and marks taken out, sentences joined by " . "."""
    plain = _LIST_NUMBER.sub(". ", text.lower().replace("_", " "))
    sentences = [" ".join(_MARKS.sub("", part).split()) for part in re.split(r"\.(?:\s+|$)", plain)]
    return "".join(f"{sentence} . " for sentence in sentences if sentence).strip()
