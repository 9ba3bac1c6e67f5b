"""Our arithmetic beside that of each family's own processor in transformers."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llm.spatial import FlorenceBoxes, KosmosBoxes, PaliGemmaBoxes, Qwen3Boxes, Qwen25Boxes
from llm.spatial.placement import smart_resized

RNG = np.random.default_rng(0)


def some_boxes(count: int) -> list[tuple[np.ndarray, tuple[int, int]]]:
    cases = []
    for _ in range(count):
        height, width = (int(v) for v in RNG.integers(2, 4000, 2))
        corners = np.sort(RNG.random((2, 2)), axis=0) * [width, height]
        cases.append((corners.reshape(4), (height, width)))
    return cases


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000), st.sampled_from([28, 32]), st.integers(1, 40))
def test_qwen_resizes_as_its_processor(height: int, width: int, factor: int, scale: int) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    limits = {"factor": factor, "min_pixels": 4 * factor**2, "max_pixels": scale * 100 * factor**2}
    try:
        expected = smart_resize(height, width, **limits)
    except ValueError:
        with pytest.raises(ValueError, match="200 to 1"):
            smart_resized((height, width), **limits)
    else:
        assert smart_resized((height, width), **limits).canvas_size == expected


def test_qwen_takes_its_limits_from_the_processor() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 100 * 28 * 28})
    boxes = Qwen25Boxes.from_processor(SimpleNamespace(image_processor=images))
    for width, height in ((300, 100), (1000, 700), (20, 40)):
        made = images(Image.new("RGB", (width, height)), return_tensors="np")
        _, rows, columns = made["image_grid_thw"][0].tolist()
        grid = boxes.grid((height, width))
        assert grid.placement.canvas_size == (rows * 14, columns * 14)
        assert grid.last == (columns * 14, rows * 14)
    assert Qwen3Boxes().grid((5, 7)).last == (1000, 1000)


def test_florence_quantises_and_reads_as_its_processor() -> None:
    import torch
    from transformers.models.florence2.processing_florence2 import Florence2PostProcessor

    theirs = Florence2PostProcessor({}, SimpleNamespace(all_special_tokens=[]))
    for box, (height, width) in some_boxes(100):
        text = FlorenceBoxes().encode(box, (height, width))
        bins = theirs.quantize(torch.tensor(box)[None], size=(width, height))[0].tolist()
        assert text == "".join(f"<loc_{k}>" for k in bins)
        (read,) = theirs.parse_description_with_bboxes_from_text_and_spans(
            f"left lung{text}", (width, height)
        )
        (found,) = FlorenceBoxes().parse(f"left lung{text}", (height, width)).boxes
        assert read["cat_name"] == found.label == "left lung"
        assert np.abs(np.array(read["bbox"]) - found.box).max() <= 1  # they cut to whole pixels


def test_kosmos_writes_and_reads_as_its_processor() -> None:
    from transformers.models.kosmos2 import processing_kosmos2 as theirs

    fake = SimpleNamespace(num_patch_index_tokens=1024)
    fake._convert_bbox_to_patch_index_tokens = lambda box: (
        theirs.Kosmos2Processor._convert_bbox_to_patch_index_tokens(fake, box)
    )
    for box, (height, width) in [*some_boxes(100), (np.array([0, 1, 100, 2.5]), (100, 100))]:
        relative = tuple((box / [width, height, width, height]).tolist())
        written = theirs.Kosmos2Processor._insert_patch_index_tokens(fake, "<phrase> a</phrase>", [relative])
        text = KosmosBoxes().encode(box, (height, width))
        assert written == f"<phrase> a</phrase>{text}"
        first, last = theirs.coordinate_to_patch_index(relative, 32)
        expected = np.array(theirs.patch_index_to_coordinate(first, last, 32)) * [
            width,
            height,
            width,
            height,
        ]
        found = KosmosBoxes().decode(text, (height, width))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_kosmos_and_its_processor_read_the_same_entities() -> None:
    from transformers.models.kosmos2.processing_kosmos2 import clean_text_and_extract_entities_with_bboxes

    text = (
        "<grounding> An image of<phrase> a snowman</phrase>"
        "<object><patch_index_0044><patch_index_0863></object> by<phrase> a fire</phrase>"
        "<object><patch_index_0005><patch_index_0911></object>."
    )
    _, entities = clean_text_and_extract_entities_with_bboxes(text)
    parsed = KosmosBoxes().parse(text, (1000, 1000))
    assert [found.label for found in parsed.boxes] == [name for name, _, _ in entities]
    for found, (_, _, boxes) in zip(parsed.boxes, entities, strict=True):
        np.testing.assert_allclose(found.box, np.array(boxes[0]) * 1000)


def test_kosmos_sees_a_square_without_padding_or_crop() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = CLIPImageProcessorPil(use_square_size=True).size
    assert (size["height"], size["width"]) == (224, 224)


def test_paligemma_has_exactly_our_tokens() -> None:
    from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

    assert tuple(t for t in EXTRA_TOKENS if t.startswith("<loc")) == PaliGemmaBoxes().tokens


def test_gemma_resizes_to_a_square_without_padding() -> None:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    made = Gemma3ImageProcessorPil()(Image.new("RGB", (300, 100), "white"), return_tensors="np")
    assert made["pixel_values"].shape == (1, 3, 224, 224)
    assert made["pixel_values"].min() == made["pixel_values"].max() == 1.0
