"""The labeller's reading of sentences and reports, and floors of its quality on both."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics.chexpert_rules import MENTIONS, OBSERVATIONS
from benchmarks.metrics.label_check import check_labeller, check_sentences, read_hard_sentences
from benchmarks.metrics.label_f1 import label_f1
from benchmarks.metrics.labeller import label_report, label_sentence

HARD = Path(__file__).parent / "hard_sentences.yaml"


@pytest.mark.parametrize(
    ("sentence", "labels"),
    [
        ("No pleural effusion or pneumothorax.", {"Pleural Effusion": "absent", "Pneumothorax": "absent"}),
        ("No pneumothorax, but a small effusion.", {"Pneumothorax": "absent", "Pleural Effusion": "present"}),
        ("A small effusion is not excluded.", {"Pleural Effusion": "uncertain"}),
        ("No change in the effusion.", {"Pleural Effusion": "present"}),
        ("The effusion has resolved.", {"Pleural Effusion": "absent"}),
        ("Pericardial effusion.", {}),
        ("Rule out pneumonia.", {}),
        ("Heart size is normal.", {"Cardiomegaly": "absent"}),
        ("The heart is enlarged and the mediastinum is normal.",
         {"Cardiomegaly": "present", "Enlarged Cardiomediastinum": "absent"}),
        ("No focal consolidation, large effusion, or pneumothorax.",
         {"Consolidation": "absent", "Pleural Effusion": "absent", "Pneumothorax": "absent"}),
        ("Nodular opacity in the right apex.", {"Lung Lesion": "present"}),  # a lesion, no opacity beside it
        ("", {}),
    ],
)  # fmt: skip
def test_a_sentence(sentence, labels):
    assert label_sentence(sentence) == labels


def test_a_report_keeps_the_strongest_state():
    """Uncertain in one sentence, present in the next, absent in the last."""
    labels = label_report("Possible effusion. There is an effusion. No effusion.")
    assert labels == {"Pleural Effusion": "present"}


def test_no_finding_follows_from_the_others():
    assert label_report("Normal chest. Catheter in place.")["No Finding"] == "present"
    assert "No Finding" not in label_report("Possible edema.")
    assert label_report("") == {}, "a silent model has nothing right"


def test_the_table_names_every_observation_but_no_finding():
    assert set(MENTIONS) == set(OBSERVATIONS) - {"No Finding"}


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet="no effusion,.;?~ or\n12", max_size=60))
def test_any_text_gets_known_labels(text):
    assert set(label_report(text)) <= set(OBSERVATIONS)


def test_hard_sentences_are_many_and_distinct():
    texts = [text for text, _ in read_hard_sentences(HARD)]
    assert len(set(texts)) == len(texts) >= 200


@pytest.mark.parametrize("half", [0, 1])
def test_the_labeller_reads_hard_sentences(half):
    """Floors well under the figures of docs/scoring.md: a rule that breaks many sentences fails here."""
    result = check_sentences(read_hard_sentences(HARD)[half::2])
    assert min(result["precision"], result["recall"]) > 0.9


@pytest.mark.slow
def test_the_labeller_agrees_with_the_tags_of_real_reports(data_dir):
    result = check_labeller(HARD, data_dir / "reports" / "iu_xray_reports.jsonl.gz")
    assert result["reports"]["held apart"]["micro f1"]["positive"] > 0.85


def test_label_f1_by_hand():
    """Edema: right once of two said and one true, 2/3. Fracture: missed. The other twelve: F1 0."""
    said = [{"Edema": "present"}, {"Edema": "uncertain"}, {"Fracture": "absent"}]
    true = [{"Edema": "present"}, {}, {"Fracture": "present"}]
    scores = label_f1(said, true)
    assert scores["f1/Edema"] == pytest.approx(2 / 3)
    assert scores["f1/Fracture"] == 0
    assert scores["micro_14"] == pytest.approx(2 * 1 / (2 + 2))
    assert scores["macro_14"] == pytest.approx(2 / 3 / 14)
    assert scores["micro_5"] == pytest.approx(2 / 3)
    assert scores["macro_5"] == pytest.approx(2 / 3 / 5)
    strict = label_f1(said, true, uncertain="negative")
    assert strict["f1/Edema"] == 1


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="positive or negative"):
        label_f1([], [], uncertain="ignore")
