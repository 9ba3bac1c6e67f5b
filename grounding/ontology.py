"""The label tree: which structures can be grounded, what people call them, and where they are seen.

Owns the reading of free text and of raw labels against `labels.yaml`. Knows no model, no image and no pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, Final, cast

import yaml

from .label_spellings import Spellings, Term, parse_spellings
from .label_text import (
    ARTICLES,
    SIDES,
    Side,
    phrase_forms,
    sides_around,
    spelling_key,
    split_humps,
    split_sides,
    tokenize,
)
from .label_tree import Granularity, Label, LabelTree, parse_tree

__all__ = ["Granularity", "Label", "Ontology", "Side", "parse_ontology"]

RADIOLOGY_MODALITIES: Final = ("CR", "DX", "CT", "MR")


class Ontology:
    """The labels, their order in the body, and the spellings that lead to them."""

    def __init__(
        self, tree: LabelTree, spellings: Spellings, known: Mapping[str, Label] | None = None
    ) -> None:
        """See :func:`parse_ontology` and :meth:`known_to`."""
        self._tree, self._spellings = tree, spellings
        self._known = tree.labels if known is None else known
        self._longest = max(map(len, spellings.terms), default=0)

    @classmethod
    def load(cls) -> Ontology:
        """Return the ontology of the package's `labels.yaml` (read once a process).

        Raises:
            ValueError: the file contradicts itself; see :func:`parse_ontology`.
        """
        return _load()

    def known_to(
        self, labels: Sequence[str], modalities: Mapping[str, Collection[str]] | None = None
    ) -> Ontology:
        """Return the ontology as a model knows it: `names`, modalities and readings are of its labels only.

        What a text names beyond them is read as the nearest broader label, a lesion as the nearest lesion;
        where there is none, it is left out (of "liver cyst", the liver stays). The tree stays whole.

        Args:
            labels: what the model was trained on, in its order; empty = not stated, so everything. What is no
                label of the tree is left out.
            modalities: label -> DICOM codes of the images it was trained on; a label without an entry keeps
                the tree's.
        """
        if not labels:
            return self
        trained = modalities or {}
        known = {name: self._tree.labels[name] for name in labels if name in self._tree.labels}
        for name in known.keys() & trained.keys():
            known[name] = replace(known[name], modalities=tuple(trained[name]))
        return Ontology(self._tree, self._spellings, known)

    @property
    def tree(self) -> LabelTree:
        """Every label, whether it is known or not."""
        return self._tree

    @property
    def spellings(self) -> Spellings:
        """What leads to the labels of the tree."""
        return self._spellings

    # ---- the tree --------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every label that is known, in the order of the file or of the model."""
        return tuple(self._known)

    @property
    def classes(self) -> tuple[str, ...]:
        """The groups that labels belong to, such as "urinary organs"; they are no labels themselves."""
        return tuple(self._tree.region_of)

    @property
    def regions(self) -> tuple[str, ...]:
        """The body regions at the top of the tree."""
        return tuple(dict.fromkeys(self._tree.region_of.values()))

    def label(self, name: str) -> Label:
        """Return the label called `name` (a label's own name, not a synonym).

        Raises:
            KeyError: there is no such label; the message names the nearest ones.
        """
        if label := self._known.get(name) or self._tree.labels.get(name):
            return label
        near = self.suggest(name)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see `Ontology.load().names`"
        raise KeyError(f"no label {name!r} in the ontology; {hint}")

    def suggest(self, name: str, count: int = 3) -> tuple[str, ...]:
        """Return up to `count` label names whose name or a spelling is nearest to `name`."""
        if exact := self.mentions(name):
            return exact[:count]
        spellings = {" ".join(key): terms[-1] for key, terms in self._spellings.terms.items()}
        near = difflib.get_close_matches(" ".join(tokenize(name)), spellings, n=count, cutoff=0.6)
        return tuple(dict.fromkeys(label for key in near for label in spellings[key].labels))[:count]

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return what is broader than the label `name`, nearest first, up to class and body region.

        A label of one side has its unsided form above it, and the same side of whatever that lies in:
        "left upper lung lobe" has "upper lung lobe", "left lung", "lung", "lungs and airways", "thorax".

        Raises:
            KeyError: there is no such label.
        """
        label = self.label(name)
        entry = self._tree.entry_of[name]
        above = [entry.name] if entry.name != name else []
        for word in self._tree.chain(entry.word):
            broader = self._tree.entries.get(word)
            if broader is None:
                above.append(word)
                continue
            if label.side in broader.sides:
                above.append(broader.sided(label.side))
            above.append(broader.name)
        return tuple(dict.fromkeys(above))

    def children(self, name: str) -> tuple[str, ...]:
        """Return the nodes directly under a label, a class or a body region.

        Raises:
            KeyError: there is no such node.
        """
        if name in self.regions:
            return tuple(c for c, region in self._tree.region_of.items() if region == name)
        if name not in self._tree.region_of:
            self.label(name)
        return tuple(label.name for label in self._tree.labels.values() if label.parent == name)

    def nearest(self, name: str, known: Collection[str]) -> str | None:
        """Return the label `name` if it is `known`, else its nearest known ancestor, else None.

        Raises:
            KeyError: there is no such label.
        """
        return next((node for node in (name, *self.ancestors(name)) if node in known), None)

    def labels_for(self, modality: str | None) -> tuple[str, ...]:
        """Return the names of the labels seen in `modality` (DICOM code); all of them for None."""
        return tuple(
            n for n, label in self._known.items() if modality is None or modality in label.modalities
        )

    def radiology_labels(self) -> tuple[str, ...]:
        """Return the labels of X-ray, CT and MR: what a grey picture of unknown origin may show."""
        return tuple(
            n for n, label in self._known.items() if set(label.modalities) & set(RADIOLOGY_MODALITIES)
        )

    # ---- spellings -------------------------------------------------------------------------------------

    def phrases(self, name: str, modality: str | None = None) -> tuple[str, ...]:
        """Return natural ways to ask for a label, the plain name first, in a fixed order, each once.

        Args:
            name: a label.
            modality: DICOM code of the image; adds forms such as "left kidney on CT".

        Raises:
            KeyError: there is no such label.
        """
        label = self.label(name)
        return phrase_forms((name, *label.synonyms), label.organ, label.side, modality)

    def canonical(self, raw: str, modality: str | None = None) -> Label | None:
        """Return the label that a data set means by `raw`, or None: never a guess.

        Case, underscores, the order of words and the place and spelling of the side do not matter. A side
        that the tree does not have ("left liver") makes the label unknown; of a lesion it is left out.

        Args:
            raw: a label as a data set writes it, e.g. "LUNG-UPPER-LOBE-LEFT", "Rt kidney", "hepatic_tumor".
            modality: DICOM code of the image; "mass" means something only with it.
        """
        for spelling in (raw, split_humps(raw)):
            rest, sides = split_sides(spelling)
            readings = (
                self._spellings.raw.get(spelling_key(spelling), {}).get(None),
                self._spellings.raw.get(tuple(sorted((*rest, *sides))), {}).get(None),
                self._spellings.raw.get(rest, {}).get(next(iter(sides))) if len(sides) == 1 else None,
                self._spellings.by_modality.get(rest, {}).get(modality or ""),
            )
            for name in readings:
                if name is not None:
                    return self.label(name)
        return None

    def mentions(self, text: str, modality: str | None = None) -> tuple[str, ...]:
        """Return the labels that `text` names, in the order of their first mention, each once.

        Whole words, case ignored, the longest spelling first. "lungs" gives both lungs, "left lung" one;
        words such as "lesion" count only when `modality` is given.

        Args:
            text: a question, an answer or a phrase.
            modality: DICOM code of the image, or None when unknown.
        """
        tokens = tokenize(text)
        found: list[str] = []
        position, last_end = 0, 0
        while position < len(tokens):
            term, length = self._match(tokens, position, modality)
            if term is None:
                position += 1
                continue
            end = position + length
            found += self._read(term, sides_around(tokens, last_end, position, end), modality)
            position = last_end = end
        return tuple(dict.fromkeys(found))

    def resolve(self, phrase: str, modality: str | None = None) -> tuple[str, ...]:
        """Return the labels that `phrase` as a whole stands for: "the lungs" gives both lungs.

        A phrase that says more than a label ("opacity in the left lung") gives none.
        """
        tokens = [token for token in tokenize(phrase) if token not in ARTICLES]
        rest = [token for token in tokens if token not in SIDES]
        for words in (tokens, rest):
            term, length = self._match(words, 0, modality)
            if term is not None and length == len(words) and (term.sides or words == tokens):
                return self.mentions(phrase, modality)
        return ()

    def _match(self, tokens: Sequence[str], position: int, modality: str | None) -> tuple[Term | None, int]:
        """The term that begins at `position` and its length in tokens, the longest first."""
        for length in range(min(self._longest, len(tokens) - position), 0, -1):
            terms = self._spellings.terms.get(tuple(tokens[position : position + length]), ())
            for term in terms:
                if self._read(term, (), modality):
                    return term, length
            if any(term.blocks for term in terms):
                return terms[-1], length
        return None, 0

    def _read(self, term: Term, sides: Collection[Side], modality: str | None) -> tuple[str, ...]:
        names = term.of_sides(sides)
        if term.vague:
            return tuple(n for n in names if n in self._known and modality in self._known[n].modalities)
        if term.group:
            return tuple(n for n in names if n in self._known)
        return tuple(known for name in names for known in self.as_known(name, sides))

    def as_known(self, name: str, sides: Collection[Side] = ()) -> tuple[str, ...]:
        """Return the label `name` if it is known, else what is nearest above it; () where nothing is.

        A lesion is never read as the organ it lies in. A pair that is known by its sides only gives both, or
        the `sides` asked for.

        Raises:
            KeyError: the tree has no such label.
        """
        if name in self._known:
            return (name,)
        label = self._tree.labels[name]
        wanted = {label.side} if label.side else sides
        for node in self.ancestors(name):
            entry = self._tree.entry_of.get(node)
            if entry is None or (label.granularity == "lesion" and entry.granularity != "lesion"):
                break
            pair = [entry.sided(side) for side in entry.sides if not wanted or side in wanted]
            for near in [node], pair if node == entry.word else []:
                if known := tuple(n for n in near if n in self._known):
                    return known
        return ()


@cache
def _load() -> Ontology:
    text = resources.files(__package__).joinpath("labels.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was compiled
    return parse_ontology(cast("dict[str, Any]", loader(text).get_single_data()))


def parse_ontology(data: Mapping[str, Any]) -> Ontology:
    """Build an ontology from the mapping that `labels.yaml` holds.

    Raises:
        ValueError: the tree has a cycle, an unknown parent, granularity, modality, side or field, a spelling
            stands for two things, or a group names no label; the message says which.
    """
    tree = parse_tree(data["regions"])
    return Ontology(tree, parse_spellings(tree, data))
