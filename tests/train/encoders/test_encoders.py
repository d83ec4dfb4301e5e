"""Encoders: deterministic, on the unit sphere, and each for its own content."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from remine.data.errors import InputError
from remine.data.items.inputs import omission_lines
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import BUCKETS, GRAMS, GramTransform, build_encoder

SMALL = EncoderConfig(width=8)
CASES = [("image", (1, 16, 16)), ("text", (GRAMS,)), ("vector", (12,))]


def location(row):
    return f"items.csv, row {row + 1}"


def some_inputs(content, shape, m=5, seed=0):
    rng = np.random.default_rng(seed)
    if content == "vector":
        return torch.from_numpy(rng.standard_normal((m, *shape)).astype(np.float32))
    if content == "text":
        words = ["a", "bc", "Def", "ghij", "klmno"]
        texts = [" ".join(rng.choice(words, 4)) for _ in range(m)]
        return torch.from_numpy(GramTransform()(texts, location))
    return torch.from_numpy(rng.integers(0, 256, (m, *shape)).astype(np.uint8))


@pytest.mark.parametrize(("content", "shape"), CASES)
def test_the_seed_decides_the_weights(content, shape):
    config = EncoderConfig(width=8, dimensions=7)  # linear, too, draws its rotation
    torch.manual_seed(1)
    first = build_encoder(config, content, shape, seed=3).state_dict()
    torch.manual_seed(2)
    repetition = build_encoder(config, content, shape, seed=3).state_dict()
    other_seed = build_encoder(config, content, shape, seed=4).state_dict()
    assert first.keys() == repetition.keys()
    assert all(torch.equal(first[name], repetition[name]) for name in first)
    assert not all(torch.equal(first[name], other_seed[name]) for name in first)


@pytest.mark.parametrize(("content", "shape"), CASES)
def test_the_global_generator_is_left_alone(content, shape):
    before = torch.random.get_rng_state()
    build_encoder(EncoderConfig(width=8, dimensions=7), content, shape, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("content", "shape"), CASES)
@pytest.mark.parametrize(("dimensions", "d"), [(0, None), (5, 5), (100, 100)])
def test_outputs_are_unit_vectors_of_the_wished_size(content, shape, dimensions, d):
    encoder = build_encoder(EncoderConfig(width=8, dimensions=dimensions), content, shape)
    out = encoder(some_inputs(content, shape))
    assert out.dtype == torch.float32
    assert out.shape == (5, d or (12 if content == "vector" else 64))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    "shape",
    [(1, 32, 32), (3, 64, 48), (3, 48, 64), (1, 105, 105), (3, 5, 7), (1, 90, 2), (1, 1, 1)],
)
def test_convolutions_take_pictures_of_any_shape(shape):
    encoder = build_encoder(SMALL, "image", shape).train()
    pictures = some_inputs("image", shape, m=4)
    out = encoder(pictures)
    assert out.shape == (4, 64)
    out[:, 0].sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in encoder.parameters())
    # Different pictures are told apart from the start.
    assert torch.pdist(encoder.eval()(pictures).detach()).min() > 1e-4


def test_paths_are_pictures_too():
    first, second = (build_encoder(SMALL, content, (1, 16, 16)) for content in ("image", "path"))
    pictures = some_inputs("image", (1, 16, 16))
    assert torch.equal(first(pictures), second(pictures))


def test_in_use_a_picture_does_not_depend_on_its_batch():
    encoder = build_encoder(SMALL, "image", (1, 16, 16)).eval()
    pictures = some_inputs("image", (1, 16, 16), m=9)
    torch.testing.assert_close(encoder(pictures)[:2], encoder(pictures[:2]), atol=1e-5, rtol=0)


def test_linear_starts_as_the_identity():
    vectors = some_inputs("vector", (12,))
    encoder = build_encoder(EncoderConfig(), "vector", (12,))
    torch.testing.assert_close(encoder(vectors), functional.normalize(vectors))


@pytest.mark.parametrize("dimensions", [5, 30])
def test_linear_starts_as_a_rotation(dimensions):
    (weight,) = build_encoder(EncoderConfig(dimensions=dimensions), "vector", (12,)).parameters()
    assert weight.shape == (dimensions, 12)
    gram = weight @ weight.T if dimensions < 12 else weight.T @ weight
    torch.testing.assert_close(gram, torch.eye(min(dimensions, 12)), atol=1e-5, rtol=0)


def test_empty_places_of_a_text_count_for_nothing():
    body = build_encoder(EncoderConfig(), "text", (GRAMS,)).body
    numbers = torch.zeros(1, GRAMS, dtype=torch.int32)
    numbers[0, :3] = torch.tensor([4, 9, 4])
    mean = (2 * body.grams.weight[4] + body.grams.weight[9]) / 3
    torch.testing.assert_close(body(numbers), body.layers(mean[None]))


def test_texts_become_the_same_numbers_for_ever():
    # 1 + CRC-32 % 32767 of <ab>, <c>, then of the trigrams <ab, ab>, <c>; checkpoints rely on it.
    out = GramTransform()(["Ab  c", "été"], location)
    assert out.dtype == np.int32
    assert out.shape == (2, GRAMS)
    assert out[0, :6].tolist() == [13738, 6959, 14922, 11913, 6959, 0]
    assert out[1, :5].tolist() == [10345, 17556, 30328, 11123, 0]
    assert not out[:, 5:].any()


def test_case_and_spaces_do_not_matter_but_words_do():
    grams = GramTransform()(["Where is my card", " where IS\tmy\ncard "], location)
    np.testing.assert_array_equal(grams[0], grams[1])
    other_grams = GramTransform()(["where is my cash"], location)
    assert 0 < (other_grams[0] != grams[0]).sum() < 10


def test_a_long_text_is_cut():
    out = GramTransform()(["word " * 1000, "x"], location)
    assert out.shape == (2, GRAMS)
    assert out[0].all()
    assert out.min() >= 0
    assert out.max() < BUCKETS


def test_texts_that_are_cut_are_counted():
    transform = GramTransform()
    fitting = " ".join(f"{number:02d}" for number in range(GRAMS // 3))  # a word, two trigrams
    transform([fitting, "x"], location)
    assert omission_lines(transform) == []
    transform([f"{fitting} x", "word " * 1000, "x"], location)
    assert omission_lines(transform) == [
        "2 of 5 texts: cut to their first 256 grams (all words, then the trigrams of each)"
    ]


@pytest.mark.parametrize("empty", ["", " \t\n"])
def test_an_empty_text_is_refused_with_its_row(empty):
    with pytest.raises(InputError, match=r"^items.csv, row 2: the text is empty$"):
        GramTransform()(["fine", empty], location)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("conv", "text"),
        ("conv", "vector"),
        ("ngram", "image"),
        ("ngram", "vector"),
        ("linear", "path"),
        ("linear", "text"),
    ],
)
def test_an_encoder_of_another_content_is_refused(name, content):
    with pytest.raises(InputError, match=f"^encoder.name is '{name}', .* items of {content}$"):
        build_encoder(EncoderConfig(name=name), content, (1, 16, 16))


@pytest.mark.parametrize(("content", "shape"), CASES)
def test_the_fitting_encoder_may_be_named(content, shape):
    name = {"image": "conv", "text": "ngram", "vector": "linear"}[content]
    encoder = build_encoder(EncoderConfig(name=name, width=8), content, shape)
    inputs = some_inputs(content, shape)
    assert torch.equal(encoder(inputs), build_encoder(SMALL, content, shape)(inputs))
