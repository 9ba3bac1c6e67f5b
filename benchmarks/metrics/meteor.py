"""METEOR (Denkowski and Lavie 2014) where its program is installed, and an approximation under its own name.

The real one needs Java and the jar, word lists, WordNet and paraphrase tables that the `pycocoevalcap`
package carries. `meteor_exact` has none of that data: it matches equal words only and weighs all words alike,
which is the real program with `-m exact -w 1.0 -p "0.85 0.2 0.6 0.5"`, up to the alignments that the two beam
searches keep (0.03 on a text, 0.002 on a mean). It is not METEOR, and is never called so.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from .overlap import Tokens

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6  # METEOR 1.5's for English: recall's weight, and the two of fragmentation
BEAM = 40  # partial alignments kept, METEOR's default


class _Alignment(NamedTuple):
    """Partial: chunks so far, sum of the shifts, place of the last word in the reference, places used."""

    chunks: int
    shift: int
    last: int
    used: int


def meteor_is_installed() -> bool:
    """Whether the real METEOR can run here: Java and the `pycocoevalcap` package."""
    return shutil.which("java") is not None and importlib.util.find_spec("pycocoevalcap") is not None


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> tuple[float, list[float]]:
    """The real METEOR 1.5 of the corpus and of each text, by its own program.

    Raises:
        RuntimeError: the program or Java is absent; `meteor_exact` is an approximation that needs neither.
    """
    if not meteor_is_installed():
        raise RuntimeError(
            "METEOR needs Java and its data, and one of them is absent; install a Java runtime and"
            " `pip install pycocoevalcap`, or report meteor_exact under that name"
        )
    from pycocoevalcap.meteor.meteor import Meteor

    truths = {str(k): [" ".join(true) for true in texts] for k, texts in enumerate(references)}
    said = {str(k): [" ".join(words)] for k, words in enumerate(candidates)}
    corpus, each = Meteor().compute_score(truths, said)
    return float(corpus), [float(score) for score in each]


def meteor_exact(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """The best score over the references, in [0, 1], by equal words only.

    F of precision and recall with recall weighing more, times 1 - 0.6 (chunks / matches)^0.2, where the
    alignment has the fewest runs of words that follow each other in both texts.
    """
    return max((_score(candidate, true) for true in references), default=0.0)


def _score(said: Tokens, true: Tokens) -> float:
    matches = (Counter(said) & Counter(true)).total()
    if not matches:
        return 0.0
    precision, recall = matches / len(said), matches / len(true)
    f = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    chunks = _fewest_chunks(said, true)
    whole = chunks == 1 and matches == len(said) == len(true)
    return f * (1 - (0.0 if whole else GAMMA * (chunks / matches) ** BETA))


def _fewest_chunks(said: Tokens, true: Tokens) -> int:
    """Runs in the alignment of all shared words that has the fewest, by beam search over the words said."""
    places: dict[str, list[int]] = {}
    for k, word in enumerate(true):
        places.setdefault(word, []).append(k)
    surplus = Counter(said) - Counter(true)  # occurrences that no place is left for
    beam = [(_Alignment(0, 0, -2, 0), dict(surplus))]
    for k, word in enumerate(said):
        if word not in places:
            beam = [(state._replace(last=-2), spare) for state, spare in beam]
            continue
        grown: dict[tuple[int, int], tuple[_Alignment, dict[str, int]]] = {}
        for state, spare in beam:
            for option in _continuations(state, spare, word, k, places[word]):
                key = (option[0].last, option[0].used)
                if key not in grown or option[0] < grown[key][0]:
                    grown[key] = option
        beam = sorted(grown.values(), key=lambda option: option[0])[:BEAM]
    return min(state.chunks for state, _ in beam)


def _continuations(
    state: _Alignment, spare: dict[str, int], word: str, k: int, places: Sequence[int]
) -> list[tuple[_Alignment, dict[str, int]]]:
    """The word at each place that is free, or left out where it is said more often than in the reference."""
    options = []
    for place in places:
        if not state.used >> place & 1:
            chunks = state.chunks + (place != state.last + 1)
            options.append(
                (
                    _Alignment(chunks, state.shift + abs(place - k), place, state.used | 1 << place),
                    spare,
                )
            )
    if spare.get(word, 0):
        options.append((state._replace(last=-2), spare | {word: spare[word] - 1}))
    return options
