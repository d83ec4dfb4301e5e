"""The same bits from any tiling and any number of threads, and why: the bound on the products."""

from contextlib import contextmanager
from dataclasses import fields

import numba
import numpy as np
import pytest
import torch

import mining.exact
from data.types import Embeddings, Triplets, unit
from mining.config import MiningConfig
from mining.exact import mine_block, product_slack


@pytest.fixture(scope="module")
def gallery():
    """400 items, a third of them near one another and some exactly equal."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 48))
    vectors[260:] = vectors[260] + 1e-3 * rng.standard_normal((140, 48))
    vectors[380:] = vectors[0]
    return Embeddings(
        ids=np.arange(400) * 2,
        label_codes=rng.integers(0, 12, 400).astype(np.int32),
        vectors=unit(vectors.astype(np.float32)),
    )


@contextmanager
def threads(count):
    """So many threads in the compiled loops and in the products."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def mined_bytes(gallery):
    triplets, stats = mine_block(gallery, np.arange(len(gallery)), MiningConfig(margin=1.0), 0)
    assert min(stats.answered.values()) > 1000
    return [getattr(triplets, field.name).tobytes() for field in fields(Triplets)]


@pytest.fixture(scope="module")
def wanted(gallery):
    return mined_bytes(gallery)


@pytest.mark.parametrize("tiles", [(1024, 1), (1, 8192), (37, 23), (128, 399), (400, 400)])
def test_tiles_do_not_matter(gallery, wanted, monkeypatch, tiles):
    monkeypatch.setattr(mining.exact, "TILE_ANCHORS", tiles[0])
    monkeypatch.setattr(mining.exact, "TILE_GALLERY", tiles[1])
    with threads(1):  # many small tiles on several threads would mostly wait for one another
        assert mined_bytes(gallery) == wanted


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_do_not_matter(gallery, wanted, count):
    with threads(count):
        assert mined_bytes(gallery) == wanted


def test_the_order_of_the_gallery_does_not_matter(gallery, wanted):
    # Only the order of the anchors follows it.
    order = np.random.default_rng(1).permutation(400)
    triplets, _ = mine_block(gallery.take(order), np.argsort(order), MiningConfig(margin=1.0), 0)
    assert [getattr(triplets, field.name).tobytes() for field in fields(Triplets)] == wanted


def exact_squared(a, b):
    return ((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum(axis=-1)


@pytest.mark.parametrize("d", [2, 3, 16, 128, 1000])
@pytest.mark.parametrize("positive", [False, True])
def test_the_slack_bounds_the_error_of_the_product(d, positive):
    rng = np.random.default_rng(d)
    raw = rng.standard_normal((200, d))
    # Without signs nothing cancels, and the sum of |a_i b_i| is as large as it can be.
    vectors = unit((np.abs(raw) if positive else raw).astype(np.float32))
    scores = (torch.from_numpy(vectors) @ torch.from_numpy(vectors).T).numpy()
    exact = exact_squared(vectors[:, None], vectors[None])
    assert np.abs(2 - 2 * scores.astype(np.float64) - exact).max() <= product_slack(d)


def test_the_slack_holds_for_the_worst_order_too():
    # Half of the sum first and then many terms alike, one by one: every rounding errs the same way.
    shares = []
    for d in range(2900, 3100, 7):
        vectors = np.full((1, d), (0.5 / d) ** 0.5, np.float32)
        vectors[0, 0] = 0.5**0.5
        vectors = unit(vectors)
        scores = np.add.accumulate(vectors * vectors, axis=1, dtype=np.float32)[:, -1]
        shares.append(abs(2 - 2 * float(scores[0])) / product_slack(d))
    assert max(shares) <= 1
    assert max(shares) > 0.2  # a fifth of the slack would be too little


def test_the_slack_stays_small():
    assert product_slack(128) < 1e-4
    assert product_slack(4096) < 1e-3
