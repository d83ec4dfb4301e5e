"""The same bits from any tiling, threads, product, shards and order, and why: the slack."""

from dataclasses import fields

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import mining.miner
import mining.scan
from data.types import Triplets, unit
from mining import MiningConfig, mine
from mining.engines import Exact
from mining.miner import by_anchor, mine_block, mine_problem, mine_shards
from mining.scan import Found, Operand, Windows, half_slack, product_slack

CONFIG = MiningConfig(
    negatives=("semi_hard", "hard", "rank_band", "random_semi_hard"), per_pair=2, margin=1.0
)


@pytest.fixture(scope="module")
def problem(problem_of):
    """500 items, a third of them near one another and some exactly equal."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 40))
    vectors[300:] = vectors[300] + 1e-3 * rng.standard_normal((200, 40))
    vectors[480:] = vectors[0]
    return problem_of(unit(vectors.astype(np.float32)), rng.integers(0, 12, 500))


def as_bytes(triplets):
    columns = (getattr(triplets, field.name) for field in fields(Triplets))
    return [column.tobytes() for column in columns if column is not None]


@pytest.fixture(scope="module")
def wanted(problem):
    mined = mine_problem(problem, CONFIG)
    assert min(mined.stats.answered.values()) > 1000
    return as_bytes(mined.triplets)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("tile", [(512, 1), (1, 4096), (37, 23), (128, 499), (500, 500)])
def test_tiles_and_products_do_not_matter(problem, wanted, monkeypatch, tile, half):
    monkeypatch.setattr(mining.scan, "ANCHORS", tile[0])
    monkeypatch.setattr(mining.scan, "GALLERY", tile[1])
    monkeypatch.setattr(mining.scan, "fast_half", lambda: half)
    monkeypatch.setattr(mining.scan, "UNDECIDED", 2)
    assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_matter(problem, wanted, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("block", [1, 64, 333])
def test_blocks_of_anchors_do_not_matter(problem, wanted, monkeypatch, block):
    monkeypatch.setattr(mining.miner, "BLOCK", block)
    assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted


@pytest.mark.parametrize("cut", [7, 250, 499])
def test_shards_of_the_gallery_do_not_matter(problem, wanted, cut):
    starts = range(0, 500, cut)
    shards = [(first, problem.gallery[first : first + cut].copy()) for first in starts]
    triplets, stats = mine_shards(problem, shards, CONFIG)
    assert as_bytes(triplets) == wanted
    assert stats == mine_block(Exact(problem=problem), slice(500), CONFIG)[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 12))
def test_merging_is_what_one_list_would_be(distances, depth, cut):
    windows = Windows(
        starts=np.zeros(1, int),
        stops=np.ones(1, int),
        floor=np.zeros(1, np.float32),
        ceiling=np.full(1, 2.5, np.float32),
        depth=depth,
    )

    def listed(rows: range) -> Found:
        found = Found.nothing(windows)
        inside = sorted((distances[row], row) for row in rows if distances[row] < 2.5)[:depth]
        for place, (d, row) in enumerate(inside):
            found.distances[0, place], found.rows[0, place] = d, row
        return found

    rows = range(len(distances))
    merged = listed(rows[:cut]).merge(listed(rows[cut:]))
    np.testing.assert_array_equal(merged.rows, listed(rows).rows)
    np.testing.assert_array_equal(merged.distances, listed(rows).distances)


def test_the_order_of_the_input_does_not_matter(clustered):
    vectors, labels = clustered(300)
    ids = np.random.default_rng(1).choice(10_000, 300, replace=False)
    order = np.random.default_rng(2).permutation(300)
    one = mine(vectors, labels.tolist(), ids=ids, config=CONFIG).triplets
    two = mine(vectors[order], labels[order].tolist(), ids=ids[order], config=CONFIG).triplets
    assert as_bytes(one) == as_bytes(two)
    assert as_bytes(by_anchor(one)) == as_bytes(one)


@st.composite
def sides(draw):
    """Two sets of unit vectors whose products are hard to take."""
    d = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "positive", "sparse", "near", "wide"]))
    a, b = rng.normal(size=(8, d)), rng.normal(size=(9, d))
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    elif kind == "sparse":
        a[rng.random(a.shape) < 0.9], b[rng.random(b.shape) < 0.9] = 1e-9, 1e-9
    elif kind == "near":
        b = a[0] + 10.0 ** rng.uniform(-8, -1) * b
    elif kind == "wide":
        a, b = a * 10.0 ** rng.uniform(-6, 6, a.shape), b * 10.0 ** rng.uniform(-6, 6, b.shape)
    return unit(a.astype(np.float32)), unit(b.astype(np.float32))


@settings(max_examples=300, deadline=None)
@given(sides())
def test_products_err_by_less_than_the_slack(pair):
    a, b = pair
    wide = a.astype(np.float64)[:, None] - b.astype(np.float64)[None]
    exact = 1 - (wide**2).sum(axis=2).astype(np.float32) / np.float64(2)
    d = a.shape[1]
    fine = (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy()
    assert (np.abs(fine - exact) <= product_slack(d)).all()
    left, right = Operand.of(a, half=True), Operand.of(b, half=True)
    coarse = (left.vectors @ right.vectors.T).float().numpy()
    slack = half_slack(left.error, right.error.max(), d)
    assert (np.abs(coarse - exact) <= slack[:, None]).all()
