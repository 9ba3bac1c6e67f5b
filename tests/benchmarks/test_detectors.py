"""Adapters of peers, with tiny random models written by the test: boxes and phrases come out by index."""

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPTextConfig,
    CLIPTokenizer,
    GroundingDinoConfig,
    OmDetTurboConfig,
    Owlv2Config,
    SwinConfig,
)

from benchmarks.detectors import FAMILIES as ADAPTERS
from benchmarks.detectors import GrounderDetector, ZeroShotDetector, open_grounder
from grounding.calibration import Calibration
from grounding.types import MedicalImage, Regions

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PHRASES = ["left lung", "heart", "liver"]


def bert_tokenizer():
    vocabulary = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizerFast(vocab=vocabulary | {piece: 2000 + k for k, piece in enumerate(pieces)})


def clip_tokenizer():
    """Padding is 0, as in OWL-ViT's own vocabulary: its network takes a first token of 0 for no phrase."""
    pieces = ["!", "<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    vocabulary = {piece: k for k, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!", model_max_length=16)


def swin(**changes):
    return SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        out_features=["stage2", "stage3", "stage4"], **changes,
    )  # fmt: skip


def grounding_dino():
    parts = {}
    for part in ("encoder", "decoder"):
        parts |= {f"{part}_layers": 2, f"{part}_ffn_dim": 32, f"{part}_attention_heads": 2}
        parts |= {f"{part}_n_points": 2}
    config = GroundingDinoConfig(
        backbone_config=swin(), d_model=32, num_queries=12, num_feature_levels=4, **parts,
        text_config=BertConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
    )  # fmt: skip
    processor = transformers.GroundingDinoImageProcessorPil(size={"height": 128, "width": 128}, do_pad=False)
    return transformers.GroundingDinoForObjectDetection(config), processor, bert_tokenizer()


def owlv2():
    small = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    config = Owlv2Config(
        text_config={**small, "vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config={**small, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    processor = transformers.Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    return transformers.Owlv2ForObjectDetection(config), processor, clip_tokenizer()


def omdet():
    text = CLIPTextConfig(
        vocab_size=60, hidden_size=64, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = OmDetTurboConfig(
        backbone_config=swin(), apply_layernorm_after_vision_backbone=False, text_config=text, image_size=64,
        text_projection_in_dim=64, text_projection_out_dim=64, class_embed_dim=64, task_encoder_hidden_dim=32,
        encoder_hidden_dim=32, vision_features_channels=[32, 32, 32], encoder_in_channels=[32, 64, 128],
        encoder_attention_heads=2, encoder_dim_feedforward=32, decoder_hidden_dim=32, decoder_num_heads=2,
        decoder_num_layers=1, decoder_dim_feedforward=32, decoder_num_points=2, num_queries=12,
    )  # fmt: skip
    processor = transformers.DetrImageProcessorPil(size={"height": 64, "width": 64}, do_pad=False)
    return transformers.OmDetTurboForObjectDetection(config), processor, clip_tokenizer()


FAMILIES = {"grounding-dino": grounding_dino, "owlv2": owlv2, "omdet-turbo": omdet}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    torch.manual_seed(0)
    for part in FAMILIES[request.param]():
        part.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    return MedicalImage(pixels)


def test_a_saved_model_answers_by_phrase(folder, image):
    detector = ZeroShotDetector.from_pretrained(str(folder), device="cpu")
    assert detector.name == folder.name
    assert len(detector.fingerprint) == 64
    assert 0 < detector.threshold.score("heart") < 1 and detector.threshold.presence == 0
    first, alone, none = detector.detect([image, image, image], [PHRASES, PHRASES[:1], []])
    assert (first.regions.asked, alone.regions.asked) == (tuple(PHRASES), ("left lung",))
    assert first.regions.image_size == (80, 120)
    assert len(first.regions) == min(100, 3 * len(alone.regions))  # every query with every phrase
    assert (np.diff(first.regions.scores) <= 0).all()
    assert first.presence.max() == first.regions.scores.max()
    assert len(none.regions) == 0


def test_boxes_are_the_librarys_own(image):
    """OWLv2 pads to a square, which is where a frame goes wrong first."""
    torch.manual_seed(0)
    model, image_processor, tokenizer = owlv2()
    with torch.no_grad():  # far from the start, where all phrases look alike
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    processor = transformers.Owlv2Processor(image_processor, tokenizer)
    detector = ZeroShotDetector(model.eval(), image_processor, tokenizer, ADAPTERS["owlv2"], "tiny", "0")
    ours = detector.detect([image], [PHRASES])[0].regions
    inputs = processor(images=image.pixels, text=[PHRASES], return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    theirs = processor.post_process_grounded_object_detection(output, threshold=0.0, target_sizes=[(80, 120)])
    best = int(theirs[0]["scores"].argmax())
    expected = theirs[0]["boxes"][best].clamp(min=0).minimum(torch.tensor([120, 80, 120, 80]))
    assert ours.boxes[0] == pytest.approx(expected.numpy(), abs=1e-3)
    assert ours.scores[0] == pytest.approx(float(theirs[0]["scores"][best]), abs=1e-5)
    assert ours.phrase_index[0] == int(theirs[0]["labels"][best])


def test_another_kind_of_model_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"grounding-dino.*got 'bert'"):
        ZeroShotDetector.from_pretrained(str(tmp_path))


class OneBox:
    """A grounder as far as the adapter sees it."""

    dtype, phrases_per_pass, presence_threshold = torch.float32, None, 0.2
    fingerprint = "f"

    def threshold(self, phrase):
        return {"heart": 0.4}.get(phrase, 0.5)

    def ask_batch(self, images, phrases_per_image):
        return (OneAnswer(image) for image in images)


class OneAnswer:
    def __init__(self, image):
        self.image = image

    def ground(self, phrases, *, box_threshold=None, nms_iou=None):
        assert box_threshold == 0.0
        return Regions([[1, 2, 3, 4]], [0.2], [0], tuple(phrases), self.image.size)

    def presence(self, phrases):
        return np.full(len(phrases), 0.7, dtype=np.float32)


def test_our_grounder_keeps_every_box_and_its_own_thresholds(image):
    detector = GrounderDetector(OneBox(), "nano")
    assert (detector.threshold.score("heart"), detector.threshold.score("liver")) == (0.4, 0.5)
    assert detector.threshold.presence == 0.2
    (found,) = detector.detect([image], [["heart"]])
    assert found.regions.scores.tolist() == pytest.approx([0.2])
    assert found.presence.tolist() == pytest.approx([0.7])


def test_its_fingerprint_knows_whatever_changes_answers():
    grounders = [OneBox() for _ in range(4)]
    grounders[1].fingerprint, grounders[2].dtype, grounders[3].phrases_per_pass = "g", torch.bfloat16, 1
    assert len({GrounderDetector(each, "nano").fingerprint for each in grounders}) == 4


def test_opening_it_heeds_calibration_and_phrases_a_pass(monkeypatch):
    opened = OneBox()
    opened.calibration = Calibration()
    monkeypatch.setattr("grounding.predictor.Grounder.from_pretrained", lambda *a, **k: opened)
    assert open_grounder("runs/nano").name == "nano" and opened.calibration == Calibration()
    assert open_grounder("nano", calibrated=False, phrases_per_pass=4).name == "nano-4-a-pass"
    assert (opened.calibration, opened.phrases_per_pass) == (None, 4)
