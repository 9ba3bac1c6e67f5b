"""Hashes of pictures that look alike, and the search against plain comparison of all pairs."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.data.engine import perceptual_hash as module
from grounding.data.engine.perceptual_hash import first_seen, perceptual_hash
from grounding.data.records import encode_png


def blobs(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (14, 14), dtype=np.uint8))
    return coarse.resize((200, 160), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_reencoded_and_resized_pictures_stay_near_and_others_do_not():
    hashes = [perceptual_hash(encode_png(np.asarray(blobs(seed)))) for seed in range(12)]
    for seed, own in enumerate(hashes):
        assert distance(own, perceptual_hash(jpeg(blobs(seed), 60))) <= 2
        assert distance(own, perceptual_hash(jpeg(blobs(seed).resize((133, 106)), 80))) <= 8
        assert min(distance(own, other) for other in hashes if other != own) > 8


def test_a_mirrored_picture_is_another_one():
    mirrored = blobs(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(perceptual_hash(jpeg(blobs(1), 90)), perceptual_hash(jpeg(mirrored, 90))) > 8


def test_grey_and_colour_of_one_picture_agree():
    colour = encode_png(np.asarray(blobs(3).convert("RGB")))
    assert perceptual_hash(colour) == perceptual_hash(encode_png(np.asarray(blobs(3))))


def plain(hashes: list[int], bits: int) -> list[int]:
    kept: list[int] = []
    original = []
    for place, value in enumerate(hashes):
        near = [earlier for earlier in kept if distance(value, hashes[earlier]) <= bits]
        original.append(near[0] if near else place)
        kept += [] if near else [place]
    return original


def test_first_seen_by_hand():
    # 0b0111 is 1 bit from 0b0011, which repeats 0b0001 and so keeps nobody out
    hashes = np.array([0b0001, 0b0011, 0b0111, 0b0001, 0b1111 << 60], dtype=np.uint64)
    assert first_seen(hashes, 1).tolist() == [0, 0, 2, 0, 4]
    assert first_seen(hashes, 0).tolist() == [0, 1, 2, 0, 4]
    assert first_seen(np.empty(0, dtype=np.uint64), 2).tolist() == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 255), st.just(5)), max_size=60),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_banding_finds_what_comparing_all_pairs_finds(values, bits, flips):
    near = [value ^ (1 << (17 * place % 64)) for place, value in enumerate(values[:flips])]
    hashes = values + near
    assert first_seen(np.array(hashes, dtype=np.uint64), bits).tolist() == plain(hashes, bits)


@pytest.mark.parametrize("bits", [1, 2])
def test_crowded_bands_are_cut_again(monkeypatch, bits):
    monkeypatch.setattr(module, "_CROWD", 4)
    rng = np.random.default_rng(bits)
    hashes = rng.integers(0, 2**10, 150, dtype=np.uint64) << np.uint64(20)
    assert first_seen(hashes, bits).tolist() == plain(hashes.tolist(), bits)


def test_too_many_bits_are_refused():
    with pytest.raises(ValueError, match="0 to 4 bits"):
        first_seen(np.zeros(1, dtype=np.uint64), 9)
