"""Grounder: frames of boxes, thresholds, packing of phrases, batches; with a stub and with a tiny network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grounding import prediction, predictor
from grounding.calibration import Calibration
from grounding.checkpoint import Checkpoint
from grounding.modeling import ImageFeatures, TextFeatures
from grounding.ontology import Ontology
from grounding.predictor import Grounder, _choose_dtype, _cpu_has_bf16
from grounding.preprocess import AspectInput, SquareInput
from grounding.types import MedicalImage

WORDS = ("heart", "left lung", "polyp", "liver", "white blood cell")
LEFT, LUNG, HEART, LIVER, POLYP = 2000, 2002, 2003, 2004, 2007  # see WORDS in conftest.py


class StubModel:
    """Answers each known token with given probabilities, one a query, and everything else with 0."""

    def __init__(self, boxes, probabilities):
        self.boxes, self.probabilities = torch.tensor(boxes), probabilities
        self.config = SimpleNamespace(
            image_size=32,
            box_threshold=0.3,
            labels=(),
            label_modalities=None,
            modality_id={"CT": 2, None: 0}.get,
            modality_prefix=False,
            modalities=[["CR"], ["CT"]],
        )
        self.encoded, self.texts, self.prompts, self.modalities = [], [], [], []
        self.presence = self.modality_logits = None

    def to(self, *args, **kwargs):
        return self

    def eval(self):
        return self

    def encode_image(self, pixels, mask):
        self.encoded.append(tuple(pixels.shape))
        self.pixel_mask = mask
        count = len(pixels)
        return ImageFeatures(
            torch.zeros(count, 1, 1),
            torch.ones(count, 1, dtype=torch.bool),
            torch.zeros(count, 1, 1),
            [(1, 1)],
            torch.ones(count, 1, 2),
            None if self.modality_logits is None else torch.tensor([self.modality_logits] * count),
        )

    def encode_text(self, ids, mask):
        self.texts.append(ids[0].tolist())
        attention = torch.eye(ids.shape[1], dtype=torch.bool)[None]
        return TextFeatures(ids[..., None].float(), mask.bool(), attention, torch.zeros_like(ids))

    def ground(self, features, text, modality_ids):
        ids = text.tokens[..., 0].long()
        assert features.tokens.shape[0] == ids.shape[0] == modality_ids.shape[0]
        self.prompts.append(ids)
        self.modalities.append(modality_ids.tolist())
        probability = torch.zeros(len(ids), len(self.boxes), ids.shape[1])
        for token, values in self.probabilities.items():
            probability += (ids == token)[:, None, :] * torch.tensor(values)[None, :, None]
        boxes = self.boxes.expand(len(ids), -1, -1)
        presence = None if self.presence is None else torch.zeros(ids.shape)
        for token, value in (self.presence or {}).items():
            presence += (ids == token) * torch.logit(torch.tensor(value))
        logits = torch.logit(probability)
        return SimpleNamespace(logits=logits, pred_boxes=boxes, presence_logits=presence)


@pytest.fixture
def grounder_of(tokenizer, tmp_path):
    def make(model, calibration=None, make_input=None):
        make_input = make_input or SquareInput(model.config.image_size)
        checkpoint = Checkpoint(model, make_input, tokenizer, calibration, tmp_path)
        return Grounder(checkpoint, "test", torch.device("cpu"), torch.float32)

    return make


def picture(height=50, width=200, modality=None, seed=0):
    values = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return MedicalImage.from_array(values, modality=modality)


TWO_BOXES = [[0.5, 0.5, 0.2, 0.4], [0.25, 0.5, 0.5, 1.0]]


# --- one image, by hand -------------------------------------------------------------------------------------


def test_boxes_are_xyxy_pixels_of_a_wide_original(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    regions = grounder_of(stub).ground(picture(50, 200), ["heart"])
    assert stub.encoded == [(1, 3, 32, 32)]
    assert regions.image_size == (50, 200)
    np.testing.assert_allclose(regions.boxes, [[0, 0, 100, 50], [80, 15, 120, 35]], atol=1e-4)
    np.testing.assert_allclose(regions.scores, [0.9, 0.6], atol=1e-6)
    assert regions.phrase_index.tolist() == [0, 0] and regions.asked == ("heart",)
    assert (regions.boxes.dtype, regions.scores.dtype, regions.phrase_index.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )


def test_boxes_are_cut_at_the_edges_of_the_original(grounder_of):
    stub = StubModel([[0.95, 0.1, 0.3, 0.4]], {HEART: [0.9]})
    regions = grounder_of(stub).ground(picture(100, 40), ["heart"])
    np.testing.assert_allclose(regions.boxes, [[32, 0, 40, 30]], atol=1e-4)


def test_regions_of_all_phrases_are_sorted_by_score(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.5, 0.9], LIVER: [0.7, 0.4]})
    regions = grounder_of(stub).ground(picture(), ["heart", "spleen", "liver"])
    np.testing.assert_allclose(regions.scores, [0.9, 0.7, 0.5, 0.4], atol=1e-6)
    assert regions.phrases == ("heart", "liver", "heart", "liver")
    assert regions.missing == ("spleen",)


def test_a_phrase_scores_the_mean_of_its_tokens(grounder_of):
    stub = StubModel([[0.5] * 4], {LEFT: [0.9], LUNG: [0.5]})
    assert grounder_of(stub).ground(picture(), ["left lung"]).scores.tolist() == pytest.approx([0.7])


def test_at_most_100_regions_and_the_best_of_them(grounder_of):
    scores = np.random.default_rng(0).permutation(np.linspace(0.31, 0.99, 150)).tolist()
    regions = grounder_of(StubModel([[0.5] * 4] * 150, {HEART: scores})).ground(picture(), ["heart"])
    np.testing.assert_allclose(regions.scores, sorted(scores, reverse=True)[:100], atol=1e-6)


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        (None, [0.9, 0.35]),  # the checkpoint's own 0.3
        (0.5, [0.9]),
        (0.2, [0.9, 0.35, 0.25]),
        (0.0, [0.9, 0.35, 0.25, 0.02]),  # everything above the floor of 0.01
        (0.95, []),
    ],
)
def test_threshold(grounder_of, threshold, kept):
    stub = StubModel([[0.5] * 4] * 5, {HEART: [0.02, 0.9, 0.005, 0.25, 0.35]})
    regions = grounder_of(stub).ground(picture(), ["heart"], box_threshold=threshold)
    assert regions.scores.tolist() == pytest.approx(kept)
    assert regions.boxes.shape == (len(kept), 4) and regions.asked == ("heart",)


def test_no_phrases_give_an_empty_result_without_a_forward(grounder_of):
    stub = StubModel(TWO_BOXES, {})
    regions = grounder_of(stub).ground(picture(50, 200), [])
    assert len(regions) == 0 and regions.asked == () and regions.image_size == (50, 200)
    assert stub.prompts == []


def test_a_phrase_without_letters_is_refused(grounder_of):
    with pytest.raises(ValueError, match="expected a phrase with letters"):
        grounder_of(StubModel(TWO_BOXES, {})).ground(picture(), ["heart", " "])


def test_many_phrases_are_spread_over_passes(grounder_of):
    letters = "abcdefghijklmnopqrstuvwxyz"
    phrases = [f"{a} {b}" for a in letters[:12] for b in letters]  # 312 phrases of two tokens and a full stop
    phrases[3], phrases[200] = "polyp", "heart"
    stub = StubModel(TWO_BOXES, {POLYP: [0.8, 0.1], HEART: [0.1, 0.9]})
    regions = grounder_of(stub).ground(picture(modality="CT"), phrases)
    assert regions.phrase_index.tolist() == [200, 3]
    assert regions.phrases == ("heart", "polyp")
    assert regions.asked == tuple(phrases)
    # Between [CLS] and [SEP], 254 tokens hold 84 phrases of 3, with 2 left for a shorter one.
    (prompts,) = stub.prompts
    assert [(row == 1012).sum().item() for row in prompts] == [85, 85, 84, 58]
    assert stub.modalities == [[2, 2, 2, 2]]


def test_phrases_a_pass_can_be_limited(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.7, 0.1]})
    grounder = grounder_of(stub)
    grounder.phrases_per_pass = 1
    assert grounder.ground(picture(), ["liver", "spleen", "heart"]).phrases == ("heart", "liver", "heart")
    assert [row.tolist()[1] for row in stub.prompts[0]] == [HEART, LIVER, 2005]


def test_many_passes_of_one_image_share_forwards_of_at_most_eight(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    grounder = grounder_of(stub)
    grounder.phrases_per_pass = 1
    regions = grounder.ground(picture(), [*"abcdefghi", "heart"])
    assert [len(rows) for rows in stub.prompts] == [8, 2]
    assert regions.phrase_index.tolist() == [9, 9]


def test_a_phrase_asked_twice_is_answered_twice(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.7, 0.1]})
    regions = grounder_of(stub).ground(picture(), ["Heart", "liver", "heart"])
    assert stub.texts == [[101, HEART, 1012, LIVER, 1012, 102]]
    assert regions.phrase_index.tolist() == [0, 2, 1, 0, 2]
    np.testing.assert_allclose(regions.scores, [0.9, 0.9, 0.7, 0.6, 0.6], atol=1e-6)
    assert (regions.boxes[0] == regions.boxes[1]).all()


def test_text_is_encoded_once_a_prompt_and_the_last_answer_is_kept(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.7, 0.1]})
    grounder = grounder_of(stub)
    first, second = grounder.set_image(picture()), grounder.set_image(picture(seed=1))
    first.ground(["heart", "liver"])
    assert len(first.ground(["liver", "heart"], box_threshold=0.65)) == 2
    assert first.presence(["liver", "heart"]).tolist() == pytest.approx([0.7, 0.9])
    second.ground(["heart", "liver"])
    assert (len(stub.texts), len(stub.prompts)) == (1, 2)


def test_presence_is_the_greatest_score_unless_the_network_has_its_own(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LEFT: [0.4, 0.2], LUNG: [0.2, 0.1]})
    grounder = grounder_of(stub)
    presence = grounder.set_image(picture()).presence(["spleen", "left lung", "heart", "left lung"])
    assert presence.dtype == np.float32
    assert presence.tolist() == pytest.approx([0, 0.3, 0.9, 0.3], abs=1e-6)
    stub.presence = {HEART: 0.75, LEFT: 0.3, LUNG: 0.1}
    presence = grounder.set_image(picture()).presence(["heart", "left lung"])
    assert presence.tolist() == pytest.approx([0.75, 0.2])
    assert grounder.set_image(picture()).presence([]).shape == (0,)


# --- calibration and suppression ----------------------------------------------------------------------------


def test_thresholds_a_phrase_come_from_the_calibration_unless_the_call_says_otherwise(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.55, 0.45], LIVER: [0.55, 0.45], POLYP: [0.55, 0.15]})
    calibration = Calibration(thresholds={"heart": 0.5, "liver": 0.6}, default_threshold=0.1)
    grounder = grounder_of(stub, calibration)
    regions = grounder.ground(picture(), ["Heart", "liver", "polyp"])
    assert sorted(regions.phrases) == ["Heart", "polyp", "polyp"]
    assert len(grounder.ground(picture(), ["heart", "liver", "polyp"], box_threshold=0.4)) == 5


def test_scores_are_calibrated_and_thresholds_refer_to_them(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.9, 0.2]})  # odds 9 and 1/4; their roots are 3 and 1/2
    grounder = grounder_of(stub, Calibration(temperature=2.0, default_threshold=0.3))
    regions = grounder.ground(picture(), ["heart"])
    np.testing.assert_allclose(regions.scores, [3 / 4, 1 / 3], atol=1e-6)
    assert len(grounder.ground(picture(), ["heart"], box_threshold=0.34)) == 1


def test_what_presence_denies_is_not_shown_unless_a_threshold_is_given(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.9, 0.2], LIVER: [0.8, 0.1]})
    stub.presence = {HEART: 0.4, LIVER: 0.6}
    grounder = grounder_of(stub, Calibration(default_threshold=0.3, presence_threshold=0.5))
    asked = ["heart", "liver"]
    assert grounder.ground(picture(), asked).phrases == ("liver",)
    assert grounder.ground(picture(), asked, box_threshold=0.3).phrases == ("heart", "liver")
    assert len(grounder.ground(picture(), asked, box_threshold=0.0)) == 4
    assert (grounder.threshold("heart"), grounder.presence_threshold) == (0.3, 0.5)
    grounder.calibration = None
    assert grounder.ground(picture(), asked).phrases == ("heart", "liver")
    assert (grounder.threshold("heart"), grounder.presence_threshold) == (0.3, 0.0)


def test_a_calibration_changes_neither_presence_nor_which_boxes_there_are(grounder_of):
    stub = StubModel([[0.5] * 4] * 3, {HEART: [0.9, 0.02, 0.005]})
    grounder = grounder_of(stub, Calibration(bias=-3.0))  # 0.02 becomes 0.001, below the floor of raw scores
    image = grounder.set_image(picture())
    regions = image.ground(["heart"], box_threshold=0.0)
    assert len(regions) == 2 and regions.scores[1] < 0.01
    assert image.presence(["heart"]).tolist() == pytest.approx([0.9])
    grounder.calibration = None
    assert image.ground(["heart"], box_threshold=0.0).scores.tolist() == pytest.approx([0.9, 0.02])


def test_suppression_drops_repeats_of_the_same_phrase_only(grounder_of):
    boxes = [[0.5, 0.5, 0.4, 0.4], [0.51, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]]
    stub = StubModel(boxes, {HEART: [0.8, 0.9, 0.5], LIVER: [0.7, 0.1, 0.1]})
    grounder = grounder_of(stub)
    regions = grounder.ground(picture(), ["heart", "liver"], nms_iou=0.5)
    np.testing.assert_allclose(regions.scores, [0.9, 0.7, 0.5], atol=1e-6)
    assert regions.phrases == ("heart", "liver", "heart")
    (batch,) = grounder.ground_batch([picture()], [["heart", "liver"]], nms_iou=0.5)
    assert len(batch) == 3
    assert len(grounder.ground(picture(), ["heart", "liver"])) == 4
    grounder.calibration = Calibration(default_threshold=0.4, nms_iou=0.5)
    assert len(grounder.ground(picture(), ["heart", "liver"])) == 3  # by default what the calibration says
    assert len(grounder.ground(picture(), ["heart", "liver"], nms_iou=1.0)) == 4


def test_a_phrase_longer_than_a_prompt_is_refused(grounder_of):
    with pytest.raises(ValueError, match="the limit is 256"):
        grounder_of(StubModel(TWO_BOXES, {})).ground(picture(), ["heart", "left " * 260])


def test_an_image_set_once_is_encoded_once(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.8, 0.1]})
    grounded = grounder_of(stub).set_image(picture())
    assert grounded.ground(["heart"]).phrases == ("heart", "heart")
    assert grounded.ground(["liver"]).phrases == ("liver",)
    assert len(stub.encoded) == 1 and len(stub.prompts) == 2


# --- batches ------------------------------------------------------------------------------------------------


def test_batches_are_grounded_eight_images_at_a_time(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.8, 0.1]})
    images = [picture(40 + i, 60, modality="CT" if i % 2 else None) for i in range(10)]
    phrases = [["heart"] if i % 3 else ["spleen", "liver"] for i in range(10)]
    results = grounder_of(stub).ground_batch(images, phrases)
    assert [shape[0] for shape in stub.encoded] == [8, 2]
    assert [len(ids) for ids in stub.prompts] == [8, 2]
    assert stub.modalities == [[0, 2] * 4, [0, 2]]
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        assert result.image_size == image.size
        assert result.phrases == (("heart", "heart") if index % 3 else ("liver",))
        assert result.asked == tuple(phrases[index])


def test_batch_with_no_phrases_and_with_too_many_for_one_pass(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    many = [*(f"{a} {b}" for a in "abcdef" for b in "abcdefghijklmnopqrstuvwxyz"), "heart"]
    results = grounder_of(stub).ground_batch([picture()] * 4, [["heart"], [], many, ["spleen"]])
    assert [len(ids) for ids in stub.prompts] == [4]  # images 1, 3 (two passes) and 4 together
    assert [r.phrase_index.tolist() for r in results] == [[0, 0], [], [156, 156], []]
    assert [len(r.asked) for r in results] == [1, 0, 157, 1]


def test_images_of_one_size_are_not_masked_and_others_are_padded_together(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    grounder = grounder_of(stub, make_input=AspectInput(20, 40))
    regions = grounder.ground_batch([picture(20, 40), picture(20, 20)], [["heart"]] * 2)
    assert stub.encoded == [(2, 3, 20, 40)]
    assert stub.pixel_mask[0].all() and stub.pixel_mask[1, :, 20:].sum() == 0
    assert regions[1].boxes[0].tolist() == pytest.approx([0, 0, 10, 20], abs=1e-4)
    grounder.ground(picture(20, 40), ["heart"])
    assert stub.pixel_mask is None


def test_images_of_a_batch_know_what_they_were_asked(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9], LIVER: [0.8, 0.1]})
    phrases = [["heart", "liver"], [], ["spleen"]]
    images = list(grounder_of(stub).ask_batch([picture()] * 3, phrases))
    assert [len(ids) for ids in stub.prompts] == [2]
    presence = [image.presence(asked).tolist() for image, asked in zip(images, phrases, strict=True)]
    assert presence[0] == pytest.approx([0.9, 0.8]) and presence[1:] == [[], [0.0]]
    assert images[0].ground(["heart", "liver"]).phrases == ("heart", "liver", "heart")
    assert [len(ids) for ids in stub.prompts] == [2]  # nothing was asked again


def test_empty_batch_and_uneven_batch(grounder_of):
    grounder = grounder_of(StubModel(TWO_BOXES, {}))
    assert grounder.ground_batch([], []) == []
    with pytest.raises(ValueError, match="expected phrases for 2 images, got them for 1"):
        grounder.ground_batch([picture(), picture()], [["heart"]])


# --- kind of image ------------------------------------------------------------------------------------------


def test_prompts_open_with_the_kind_of_image_where_the_configuration_says_so(grounder_of, tokenizer):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    stub.config.modality_prefix = True
    grounder = grounder_of(stub)
    ct, unknown = grounder.ground_batch([picture(modality="CT"), picture()], [["heart"], ["heart"]])
    word = tokenizer("ct", add_special_tokens=False)["input_ids"]
    assert stub.prompts[0][0].tolist() == [101, *word, 1012, HEART, 1012, 102]
    assert stub.prompts[0][1].tolist()[:4] == [101, HEART, 1012, 102]
    assert ct.phrases == unknown.phrases == ("heart", "heart")
    grounder.phrases_per_pass = 1  # the word is no phrase
    assert grounder.ground(picture(modality="CT"), ["heart", "liver"]).phrases == ("heart", "heart")
    assert [row[1 : 1 + len(word)].tolist() for row in stub.prompts[1]] == [word] * 2


@pytest.mark.parametrize(
    ("modality", "logits", "row"),
    [
        (None, [0.0, 3.0], 2),  # inferred
        (None, [0.0, 0.0], 0),  # a head that was not trained is at a loss
        (None, None, 0),
        ("CR", [0.0, 3.0], 0),  # stated, and unknown to this stub
        ("CT", [3.0, 0.0], 2),  # what the image says goes first
    ],
)
def test_an_unknown_kind_of_image_is_inferred(grounder_of, modality, logits, row):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    stub.modality_logits = logits
    stub.config.modality_id = lambda code: {"CT": 2}.get(code, 0)
    stub.config.modality_prefix = True
    image = grounder_of(stub).set_image(picture(modality=modality))
    image.ground(["heart"])
    assert (image.modality_id, stub.modalities) == (row, [[row]])
    assert (len(stub.prompts[0][0]) > 4) == (row == 2)  # the word follows what was inferred


def test_what_the_network_takes_an_image_for_whatever_the_image_says(grounder_of):
    stub = StubModel(TWO_BOXES, {HEART: [0.6, 0.9]})
    grounder = grounder_of(stub)
    assert grounder.set_image(picture()).modality_probabilities() == {}  # no head
    stub.modality_logits = [0.0, float(np.log(3.0))]
    told = grounder.set_image(picture(modality="CR")).modality_probabilities()
    assert told == pytest.approx({("CR",): 0.25, ("CT",): 0.75})


def test_a_new_network_infers_nothing(grounder_of, make_tiny_model):
    model = make_tiny_model()
    assert grounder_of(model).set_image(picture()).modality_id == 0
    with torch.no_grad():
        model.modality_head.bias[1] = 9.0
    assert grounder_of(model).set_image(picture()).modality_id == 2
    assert grounder_of(model).set_image(picture(modality="DX")).modality_id == 1


# --- with a network -----------------------------------------------------------------------------------------


@pytest.fixture
def grounder(grounder_of, tiny_model):
    return grounder_of(tiny_model)


def assert_same(first, second):
    assert first.asked == second.asked and first.image_size == second.image_size
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
    np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-4 * max(first.image_size))
    assert first.phrase_index.tolist() == second.phrase_index.tolist()


def test_batch_equals_single_calls(grounder):
    images = [picture(60, 90, seed=1), picture(90, 50, "CT", seed=2), picture(64, 64, "US", seed=3)]
    phrases = [["heart"], ["left lung", "spleen", "white blood cell"], ["polyp", "liver"]]
    together = grounder.ground_batch(images, phrases, box_threshold=0.0)
    assert all(len(regions) for regions in together)
    for image, asked, regions in zip(images, phrases, together, strict=True):
        assert_same(regions, grounder.ground(image, asked, box_threshold=0.0))


def test_set_image_then_ask_equals_ground(grounder):
    image = picture(60, 90)
    grounded = grounder.set_image(image)
    for phrases in (["heart"], ["left lung", "spleen"]):
        assert_same(
            grounded.ground(phrases, box_threshold=0.0), grounder.ground(image, phrases, box_threshold=0.0)
        )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orders=st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).flatmap(
        lambda words: st.tuples(st.permutations(words), st.permutations(words))
    ),
    per_pass=st.sampled_from([None, 2]),
)
def test_the_order_of_phrases_changes_nothing_bit_for_bit(grounder, monkeypatch, orders, per_pass):
    monkeypatch.setattr(prediction, "SCORE_FLOOR", 0.0)
    grounder.phrases_per_pass = per_pass
    image = picture(60, 90)
    one, other = (grounder.ground(image, phrases, box_threshold=0.0) for phrases in orders)
    for phrase in orders[0]:
        mine, theirs = (regions[np.array(regions.phrases) == phrase] for regions in (one, other))
        assert len(mine)
        assert np.array_equal(mine.scores, theirs.scores) and np.array_equal(mine.boxes, theirs.boxes)
    assert np.array_equal(one.scores, other.scores) and one.phrases == other.phrases


def test_what_was_asked_before_changes_nothing_bit_for_bit(grounder_of, tiny_model):
    images, phrases = [picture(60, 90), picture(70, 90, seed=1)], ["heart", "left lung"]
    fresh, used = grounder_of(tiny_model), grounder_of(tiny_model)
    used.ground_batch(images, [["white blood cell", "polyp"], phrases])
    one, other = (grounder.ground(images[0], phrases, box_threshold=0.0) for grounder in (fresh, used))
    assert np.array_equal(one.scores, other.scores) and np.array_equal(one.boxes, other.boxes)


def test_the_labels_it_states_are_the_ones_it_knows(grounder_of, make_tiny_model):
    model = make_tiny_model()
    assert grounder_of(model).labels == ()
    assert grounder_of(model).ontology is Ontology.load()
    model.config.labels = ["spleen", "left lung"]
    model.config.label_modalities = {"spleen": ["CT"], "left lung": ["CR", "DX"]}
    grounder = grounder_of(model)
    assert grounder.labels == grounder.ontology.names == ("spleen", "left lung")
    assert grounder.ontology.labels_for("CT") == ("spleen",)


def test_bfloat16_gives_valid_regions(grounder_of, tiny_model):
    grounder = grounder_of(tiny_model)
    grounder.dtype = torch.bfloat16
    regions = grounder.ground(picture(), ["heart"], box_threshold=0.0)
    assert len(regions) and np.isfinite(regions.boxes).all()


def test_its_fingerprint_changes_with_files_and_calibration(grounder_of, tiny_model, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    grounder = grounder_of(tiny_model)
    seen = [grounder.fingerprint]
    (tmp_path / "README.md").write_text("a card")
    assert grounder.fingerprint == seen[0]
    grounder.calibration = Calibration(temperature=2.0)
    seen.append(grounder.fingerprint)
    (tmp_path / "model.safetensors").write_bytes(b"2")
    seen.append(grounder.fingerprint)
    assert len(set(seen)) == 3


# --- loading ------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_loaded_under_its_name(monkeypatch, tokenizer, tmp_path):
    checkpoint = Checkpoint(StubModel(TWO_BOXES, {}), SquareInput(32), tokenizer, None, tmp_path)
    monkeypatch.setattr(predictor, "open_checkpoint", {"nano": checkpoint}.__getitem__)
    grounder = Grounder.from_pretrained(device="cpu", dtype="float32")
    assert (grounder.name, grounder.box_threshold, grounder.device.type) == ("nano", 0.3, "cpu")


def test_dtype_by_name(monkeypatch):
    cpu = torch.device("cpu")
    assert _choose_dtype("float32", cpu) == torch.float32
    assert _choose_dtype("bfloat16", cpu) == torch.bfloat16
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(predictor, "_cpu_has_bf16", lambda native=native: native)
        assert _choose_dtype("auto", cpu) == expected
    with pytest.raises(ValueError, match="expected dtype 'auto', 'float32' or 'bfloat16', got 'int8'"):
        _choose_dtype("int8", cpu)


@pytest.mark.parametrize("present", [(), ("_is_avx512_bf16_supported",), ("_is_amx_tile_supported",)])
def test_bfloat16_is_looked_for_where_torch_can_say(monkeypatch, present):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
        if name in present:
            monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
    assert _cpu_has_bf16() is bool(present)
