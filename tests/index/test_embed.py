"""Embedding rows: the same as a bare loop, bit for bit."""

import numpy as np
import pytest
import torch

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.index.embed import embed_rows
from remine.train.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny networks on several threads would mostly wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (90, 1, 12, 12)).astype(np.uint8)


@pytest.fixture
def inputs(pictures, tmp_path):
    """The pictures in three shards of 40, 40 and 10."""
    paths = [tmp_path / f"{start:02d}.npy" for start in (0, 40, 80)]
    for path, start in zip(paths, (0, 40, 80), strict=True):
        np.save(path, pictures[start : start + 40])
    return Inputs(paths)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(EncoderConfig(width=8, dimensions=16), "image", (1, 12, 12)).eval()


def bare_loop(encoder, pictures, batch):
    with torch.inference_mode():
        parts = [
            encoder(torch.from_numpy(pictures[start : start + batch])).numpy()
            for start in range(0, len(pictures), batch)
        ]
    return np.concatenate(parts)


@pytest.mark.parametrize("batch", [13, 32, 90, 1000])
def test_equals_a_bare_loop(encoder, inputs, pictures, batch):
    vectors = embed_rows(encoder, inputs, range(90), batch)
    assert vectors.dtype == np.float32
    assert vectors.shape == (90, 16)
    np.testing.assert_array_equal(vectors, bare_loop(encoder, pictures, batch))


def test_units_of_whole_batches_give_the_same_bits(encoder, inputs):
    complete = embed_rows(encoder, inputs, range(90), 16)
    units = [range(32), range(32, 48), range(48, 90)]
    parts = [embed_rows(encoder, inputs, rows, 16) for rows in units]
    np.testing.assert_array_equal(np.concatenate(parts), complete)


def test_rows_are_those_asked_for(encoder, inputs, pictures):
    # From the middle of one shard into the next; a lone batch, so no boundaries to differ in.
    vectors = embed_rows(encoder, inputs, range(35, 45), 16)
    np.testing.assert_array_equal(vectors, bare_loop(encoder, pictures[35:45], 16))


class Weighted(torch.nn.Module):
    """Pixels times a learnable weight, which would ask for a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.graph = []

    def forward(self, block):
        vectors = block.float().flatten(1) * self.weight
        self.graph.append(vectors.requires_grad)
        return vectors


def test_no_gradient_is_kept(inputs):
    encoder = Weighted()
    embed_rows(encoder, inputs, range(90), 50)
    assert encoder.graph == [False, False]


def test_refuses_an_embedding_of_zeros(tmp_path):
    vectors = np.ones((90, 4), np.float32)
    vectors[41] = 0
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(InputError, match=r"embeddings of length 0 in rows 40"):
        embed_rows(torch.nn.Identity(), Inputs([tmp_path / "vectors.npy"]), range(90), 20)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_a_number_that_is_not_finite(tmp_path, bad):
    vectors = np.ones((90, 4), np.float32)
    vectors[83, 2] = bad
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(InputError, match=r"non-finite embeddings in rows 80"):
        embed_rows(torch.nn.Identity(), Inputs([tmp_path / "vectors.npy"]), range(90), 20)
