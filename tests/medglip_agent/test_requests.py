"""The two files of written requests are whole: counts, codes, labels, and nothing shared between them."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from grounding.ontology import Ontology

SIZES = {"test": 320, "dev": 120}
INTENTS = {
    "ground", "ask", "report", "measure", "compare", "segment", "modality", "describe_region", "out_of_scope",
}  # fmt: skip
MODALITIES = {"CR", "DX", "CT", "MR", "US", "ES", "DMS", "OP", "SM"}
REQUIRED, OPTIONAL = {"id", "text", "modality", "intent", "phrases"}, {"history", "also", "notes"}
FILES = pytest.mark.parametrize("name", SIZES)


@functools.cache
def load(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((Path(__file__).parent / "requests" / f"{name}.yaml").read_text())["requests"]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


@FILES
def test_counts(name: str) -> None:
    requests = load(name)
    intents = Counter(request["intent"] for request in requests)
    assert len(requests) == SIZES[name]
    assert set(intents) == INTENTS
    assert {request["modality"] for request in requests} == MODALITIES | {None}
    assert name != "test" or min(intents.values()) >= 20


@FILES
def test_every_entry_is_well_formed(name: str) -> None:
    for request in load(name):
        where = request.get("id")
        assert REQUIRED <= set(request) <= REQUIRED | OPTIONAL, where
        also, history, phrases = request.get("also", []), request.get("history", []), request["phrases"]
        assert set(also) <= INTENTS - {request["intent"]}, where
        assert all(isinstance(text, str) for text in [request["text"], *history]), where
        assert len(set(phrases)) == len(phrases), where
        assert not phrases or request["intent"] not in {"modality", "out_of_scope"}, where


@FILES
def test_phrases_are_labels_or_the_words_of_the_user(name: str) -> None:
    tree = Ontology.load()
    labels = set(tree.names)
    for request in load(name):
        said = " ".join([request["text"], *request.get("history", [])]).lower()
        for phrase in set(request["phrases"]) - labels:
            assert phrase == phrase.lower() and phrase in said, request["id"]
            assert not tree.resolve(phrase), f"{request['id']}: {phrase} has a label"


def test_ids_and_texts_are_unique_and_not_shared() -> None:
    requests = load("test") + load("dev")
    texts = [
        " ".join(request["text"].casefold().split()).rstrip(".") or request["text"] for request in requests
    ]
    assert len({request["id"] for request in requests}) == len(requests)
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_dev_does_not_paraphrase_test() -> None:
    """No text of one file has more than 60 % of its words in common with a text of the other."""
    test, dev = ([(words(entry["text"]), entry["id"]) for entry in load(name)] for name in ("test", "dev"))
    close = [(a, b) for x, a in test for y, b in dev if x and len(x & y) > 0.6 * len(x | y)]
    assert close == []
