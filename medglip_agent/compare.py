"""What changed between a prior image and the current one, as far as boxes show it.

Pairs the regions of two images structure by structure and states size and place change with tolerances. The
images are not registered and no disease is judged: another position, zoom or breath changes boxes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from grounding.ontology import Ontology
from grounding.types import GroundedRegion, MedicalImage, Regions

from .citations import cite
from .describe import Measurement, Scale, inside_picture, measure_box, place, sentence_case, sentences
from .evidence import MAX_PER_LABEL
from .request import Box

Status = Literal["unchanged", "changed", "new", "gone"]

# Lesions and cells are many: two of them are the same one only where they lie about as near, in parts of the
# picture, as positions of a patient differ.
_SAME_PLACE: Final = 0.15
_MANY: Final = ("lesion", "cell")
_LIMITS: Final = (
    "This compares boxes only: position, zoom and breathing change them too, a structure just below the "
    "score threshold counts as not found, and no disease is judged."
)


@dataclass(frozen=True)
class Tolerances:
    """Within what a structure counts as unchanged; two boxes of one thing by a detector differ about so much.

    Attributes:
        area_percent: change of the box's area, in percent of the prior area.
        shift_percent: change of the box's centre, in percent of the picture's width and height.
    """

    area_percent: float = 20.0
    shift_percent: float = 5.0

    def __str__(self) -> str:
        """Write them out."""
        return f"{self.area_percent:.0f} % of area and {self.shift_percent:.0f} % of the picture in place"


@dataclass(frozen=True)
class Change:
    """One structure in two images.

    Attributes:
        phrase: its label.
        status: "new" and "gone" mean found in one image only, not that it is so in the patient.
        place: third of the picture where it lies, or lay before where it is gone.
        current: index (0-based) of its current region; None = gone.
        prior: index (0-based) of its prior region; None = new.
        area_percent: change of the box's area against the prior one: of mm2 where both spacings are known and
            of one kind, else of the box's share of the picture; None where it is not in both.
        shift_percent: (right, down), movement of the centre in percent of the picture; None as above.
        sizes: (prior, current) size of the box; None as above.
    """

    phrase: str
    status: Status
    place: str
    current: int | None
    prior: int | None
    area_percent: float | None = None
    shift_percent: tuple[float, float] | None = None
    sizes: tuple[Measurement, Measurement] | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What changed.

    Attributes:
        regions: of the current image, boxes xyxy in its pixels; `regions.asked` is what was looked for.
        prior_regions: of the prior image, boxes xyxy in its pixels.
        changes: one a structure, in the order asked.
        absent: asked, and found in neither image.
        tolerances: what "unchanged" means.
        in_mm: sizes were compared in mm; else as shares of the picture.
        notes: what makes the two images hard to compare; may be empty.
    """

    regions: Regions
    prior_regions: Regions
    changes: tuple[Change, ...]
    absent: tuple[str, ...]
    tolerances: Tolerances
    in_mm: bool
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line a structure, citing current regions, then how it was compared and what it cannot show."""
        lines = [_line(change) for change in self.changes]
        absent = f"Found in neither image: {', '.join(self.absent)}." if self.absent else ""
        measured = "mm" if self.in_mm else "shares of the picture"
        how = f"Areas are compared in {measured}; unchanged means within {self.tolerances}."
        return sentences(*lines, absent, *self.notes, how, _LIMITS)


def compare_regions(
    current: MedicalImage,
    regions: Regions,
    prior: MedicalImage,
    prior_regions: Regions,
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Compare what was found in two images.

    Args:
        current: the picture now.
        regions: found in it.
        prior: the earlier picture.
        prior_regions: found in it, for the same phrases.
        tolerances: None for the defaults.

    Raises:
        ValueError: other phrases were asked of the one image than of the other.
    """
    if set(regions.asked) != set(prior_regions.asked):
        raise ValueError(f"expected the same phrases twice, got {regions.asked} and {prior_regions.asked}")
    allowed = tolerances or Tolerances()
    pairs = _Pairing(current, prior)
    changes: list[Change] = []
    for phrase in regions.asked:
        now, before = _surest(regions, phrase), _surest(prior_regions, phrase)
        for region, earlier in pairs.match(phrase, now, before):
            changes.append(pairs.change(phrase, region, earlier, allowed))
    both = {*regions.phrases, *prior_regions.phrases}
    absent = tuple(phrase for phrase in regions.asked if phrase not in both)
    notes = _notes(current, prior)
    return Comparison(regions, prior_regions, tuple(changes), absent, allowed, pairs.in_mm, notes)


_Pair = tuple[GroundedRegion | None, GroundedRegion | None]


class _Pairing:
    """Which region of the one image is which of the other, and what changed in it."""

    def __init__(self, current: MedicalImage, prior: MedicalImage) -> None:
        self.current, self.prior = current, prior
        scales = Scale.of(current), Scale.of(prior)
        self.in_mm = all(scale.unit == "mm" for scale in scales)
        self.in_mm = self.in_mm and scales[0].at_detector == scales[1].at_detector

    def match(self, phrase: str, now: list[GroundedRegion], before: list[GroundedRegion]) -> Iterator[_Pair]:
        """Pair the nearest first; what finds no partner near enough is new or gone."""
        limit = _SAME_PLACE if _granularity(phrase) in _MANY else float("inf")
        distances = sorted(
            (float(np.hypot(*self._shift(region, earlier))), i, j)
            for i, region in enumerate(now)
            for j, earlier in enumerate(before)
        )
        partner: dict[int, int] = {}
        for distance, i, j in distances:
            if distance <= limit and i not in partner and j not in partner.values():
                partner[i] = j
        for i, region in enumerate(now):
            yield region, before[partner[i]] if i in partner else None
        for j, earlier in enumerate(before):
            if j not in partner.values():
                yield None, earlier

    def change(
        self, phrase: str, region: GroundedRegion | None, earlier: GroundedRegion | None, allowed: Tolerances
    ) -> Change:
        """State what changed from `earlier` to `region`."""
        if region is None:
            assert earlier is not None  # one of a pair is there
            return Change(phrase, "gone", place(earlier.box, self.prior), None, earlier.index)
        where = place(region.box, self.current)
        if earlier is None:
            return Change(phrase, "new", where, region.index, None)
        area = 100.0 * (self._area(region.box, self.current) / self._area(earlier.box, self.prior) - 1.0)
        right, down = (100.0 * part for part in self._shift(region, earlier))
        still = max(abs(right), abs(down)) <= allowed.shift_percent and abs(area) <= allowed.area_percent
        status: Status = "unchanged" if still else "changed"
        sizes = measure_box(earlier.box, self.prior), measure_box(region.box, self.current)
        return Change(phrase, status, where, region.index, earlier.index, area, (right, down), sizes)

    def _shift(self, region: GroundedRegion, earlier: GroundedRegion) -> tuple[float, float]:
        """Movement of the centre (right, down) in parts of the picture."""
        now, before = _centre(region.box, self.current), _centre(earlier.box, self.prior)
        return now[0] - before[0], now[1] - before[1]

    def _area(self, box: Box, image: MedicalImage) -> float:
        """Area in mm2, or as a share of the picture; never 0, so that a ratio exists."""
        x1, y1, x2, y2 = inside_picture(box, image).tolist()
        pixels = max(float((x2 - x1) * (y2 - y1)), 1.0)
        scale = Scale.of(image)
        return pixels * scale.col * scale.row if self.in_mm else pixels / (image.width * image.height)


def _surest(regions: Regions, phrase: str) -> list[GroundedRegion]:
    members = [region for region in regions if region.phrase == phrase]
    members.sort(key=lambda region: -region.score)
    return members[: MAX_PER_LABEL[_granularity(phrase)]]


def _granularity(phrase: str) -> str:
    """Of a label; any other phrase may name many things, as lesions do."""
    tree = Ontology.load()
    return tree.label(phrase).granularity if phrase in tree.names else "lesion"


def _centre(box: Box, image: MedicalImage) -> tuple[float, float]:
    x1, y1, x2, y2 = inside_picture(box, image).tolist()
    return (x1 + x2) / 2 / image.width, (y1 + y2) / 2 / image.height


def _line(change: Change) -> str:
    name = sentence_case(change.phrase)
    where = f"in the {change.place} of the picture"
    if change.current is None:
        return f"{name}: gone (found before {where}, not found now)."
    mark = cite([change.current])
    if change.shift_percent is None or change.sizes is None:
        return f"{name} {mark}: new (found now {where}, not found before)."
    right, down = change.shift_percent
    moved = f"{abs(right):.0f} % {'right' if right >= 0 else 'left'}"
    moved += f" and {abs(down):.0f} % {'down' if down >= 0 else 'up'}"
    before, now = change.sizes
    return (
        f"{name} {mark}: {change.status} (box area {change.area_percent:+.0f} %, {before} before, {now} now; "
        f"centre moved {moved} in the picture)."
    )


def _notes(current: MedicalImage, prior: MedicalImage) -> tuple[str, ...]:
    notes = []
    if current.modality != prior.modality:
        kinds = f"{prior.modality or 'unknown'} before, {current.modality or 'unknown'} now"
        notes.append(f"The images are of different kinds ({kinds}): sizes and places may not be comparable.")
    if current.orientation != prior.orientation:
        notes.append("The images differ in orientation, or one states none: places may not be comparable.")
    if current.source_id == prior.source_id:
        notes.append("Both images have the same pixels.")
    return tuple(notes)
