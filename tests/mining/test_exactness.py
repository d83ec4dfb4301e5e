"""The same bits from any tiling, threads, product, shards and order, and why: the slack."""

import subprocess
import sys
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import remine.mining.engines.engine_choice
import remine.mining.search.scan
from remine.data.measures import row_distances
from remine.data.types import HARD, Triplets, unit
from remine.mining import MiningConfig, mine
from remine.mining.config import NEGATIVES
from remine.mining.engines.engines import ExactEngine
from remine.mining.miner import mine_block, mine_problem, mine_shards, sort_by_anchor
from remine.mining.problem import Problem
from remine.mining.search.slack import Operand, half_slack, product_slack, undecided_share
from remine.mining.search.windows import WindowMatches, Windows
from remine.mining.strategies.negatives import plan_search

CONFIG = MiningConfig(
    negatives=NEGATIVES, max_positives=3, per_pair=2, margin=1.0, second_negative=True
)


@pytest.fixture(scope="module")
def problem(problem_of):
    """300 items, a third of them near one another and some exactly equal."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 40))
    vectors[200:] = vectors[200] + 1e-3 * rng.standard_normal((100, 40))
    vectors[290:] = vectors[0]
    return problem_of(unit(vectors.astype(np.float32)), rng.integers(0, 12, 300))


@pytest.fixture(scope="module")
def wanted(problem, as_bytes):
    mining_result = mine_problem(problem, CONFIG)
    assert min(mining_result.stats.answered.values()) > 500
    return as_bytes(mining_result.triplets)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("tile", [(512, 1), (1, 4096), (37, 23), (128, 299), (300, 300)])
def test_tiles_and_products_do_not_matter(problem, wanted, as_bytes, monkeypatch, tile, half):
    monkeypatch.setattr(remine.mining.search.scan, "ANCHORS", tile[0])
    monkeypatch.setattr(remine.mining.search.scan, "GALLERY", tile[1])
    monkeypatch.setattr(remine.mining.search.scan, "fast_half", lambda _device: half)
    monkeypatch.setattr(remine.mining.search.scan, "MAX_UNDECIDED", 2)
    assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_matter(problem, wanted, as_bytes, monkeypatch, threads, half):
    monkeypatch.setattr(remine.mining.search.scan, "ANCHORS", 64)  # or one thread would have all
    monkeypatch.setattr(remine.mining.search.scan, "fast_half", lambda _device: half)
    monkeypatch.setattr(remine.mining.search.scan, "MAX_UNDECIDED", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("block", [9, 64, 222])
def test_blocks_of_anchors_do_not_matter(problem, wanted, as_bytes, monkeypatch, block):
    monkeypatch.setattr(remine.mining.engines.engine_choice, "unit_anchors", lambda *_: block)
    assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(1, 299), max_size=5))
def test_any_anchors_are_answered_as_if_with_all(problem, wanted, as_bytes, cuts):
    parts = np.split(np.random.default_rng(0).permutation(300), sorted(cuts))
    mining_result = [
        mine_block(ExactEngine(problem=problem), np.sort(part), CONFIG)[0] for part in parts
    ]
    assert as_bytes(sort_by_anchor(Triplets.concatenate(mining_result))) == wanted


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(1, 299), max_size=6), st.randoms(use_true_random=False))
def test_shards_of_the_gallery_do_not_matter(problem, wanted, as_bytes, cuts, chance):
    edges = [0, *sorted(cuts), 300]
    parts = list(pairwise(edges))
    chance.shuffle(parts)
    shards = [(start, problem.gallery[start:stop].copy()) for start, stop in parts]
    triplets, stats = mine_shards(problem, shards, CONFIG)
    assert as_bytes(triplets) == wanted
    assert stats == mine_block(ExactEngine(problem=problem), slice(300), CONFIG)[1]


def test_an_empty_shard_adds_nothing(problem, wanted, as_bytes):
    shards = [(0, problem.gallery[:0]), (0, problem.gallery), (300, problem.gallery[:0])]
    assert as_bytes(mine_shards(problem, shards, CONFIG)[0]) == wanted


def test_a_shard_of_all_anchors_in_another_shard_than_their_own(problem, as_bytes):
    subset = problem.block(np.arange(200, 300))
    shards = [(0, problem.gallery[:200]), (200, problem.gallery[200:])]
    complete, _ = mine_block(ExactEngine(problem=problem), slice(200, 300), CONFIG)
    assert as_bytes(mine_shards(subset, shards, CONFIG)[0]) == as_bytes(complete)


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

    def listed(rows: range) -> WindowMatches:
        result = WindowMatches.empty(windows)
        result.closer[0] = sum(distances[row] <= 0 for row in rows)
        inside = sorted((distances[row], row) for row in rows if 0 < distances[row] < 2.5)[:depth]
        for place, (d, row) in enumerate(inside):
            result.distances[0, place], result.rows[0, place] = d, row
        return result

    rows = range(len(distances))
    one, two, pair = listed(rows[:cut]), listed(rows[cut:]), listed(rows)
    for merged in (one.merge(two), two.merge(one)):
        np.testing.assert_array_equal(merged.rows, pair.rows)
        np.testing.assert_array_equal(merged.distances, pair.distances)
        assert merged.closer == pair.closer


def test_the_order_of_the_input_does_not_matter(clusters, as_bytes):
    vectors, labels = clusters(300)
    ids = np.random.default_rng(1).choice(10_000, 300, replace=False) - 5000
    order = np.random.default_rng(2).permutation(300)
    one = mine(vectors, labels.tolist(), ids=ids, config=CONFIG).triplets
    two = mine(vectors[order], labels[order].tolist(), ids=ids[order], config=CONFIG).triplets
    assert as_bytes(one) == as_bytes(two)
    assert as_bytes(sort_by_anchor(one)) == as_bytes(one)


@st.composite
def sides(draw):
    """Two sets of unit vectors whose products are hard to take."""
    d = draw(st.integers(1, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "positive", "sparse", "near", "wide", "one", "edge"]))
    a, b = rng.normal(size=(8, d)), rng.normal(size=(9, d))
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    elif kind == "sparse":
        a[rng.random(a.shape) < 0.9], b[rng.random(b.shape) < 0.9] = 1e-9, 1e-9
    elif kind == "near":
        b = a[0] + 10.0 ** rng.uniform(-8, -1) * b
    elif kind == "wide":
        a, b = a * 10.0 ** rng.uniform(-6, 6, a.shape), b * 10.0 ** rng.uniform(-6, 6, b.shape)
    elif kind == "one":
        a, b = np.eye(8, d) + 1e-7 * np.abs(a), np.eye(9, d) + 1e-7 * np.abs(b)
    elif kind == "edge":  # each component as far from bfloat16 as can be, all to the same side
        a = np.tile(1 + 2.0 ** -rng.integers(7, 10, (8, 1)), d)
        b = np.tile(1 + 2.0 ** -rng.integers(7, 10, (9, 1)), d)
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
    in_a_row = np.zeros(fine.shape, np.float32)  # the worst order of summation
    for i in range(d):
        in_a_row += a[:, i : i + 1] * b[:, i]
    assert (np.abs(in_a_row - exact) <= product_slack(d)).all()
    remainder, right = Operand.of(a, half=True), Operand.of(b, half=True)
    coarse = (remainder.vectors @ right.vectors.T).float().numpy()
    slack = half_slack(remainder.error, right.error.max(), d)
    assert (np.abs(coarse - exact) <= slack[:, None]).all()


def test_rounding_the_sum_itself_is_in_the_slack():
    # Signs differ in h of 1024 places: exact in bfloat16, but 1 - h / 512 has one bit too many.
    vectors = np.full((9, 1024), 2.0**-5, np.float32)
    for h in range(1, 9):
        vectors[h, :h] *= -1
    side = Operand.of(vectors, half=True)
    assert not side.error.any()
    coarse = (side.vectors[:1] @ side.vectors.T).float().numpy()[0]
    off = np.abs(coarse - (1 - np.arange(9) / 512))
    assert off.max() == 2.0**-9
    assert off.max() <= half_slack(side.error, 0.0, 1024).min()


@pytest.mark.parametrize("d", [1, 2, 64, 400])
def test_the_slack_is_tight_enough_to_be_of_use(d):
    vectors = unit(np.random.default_rng(0).normal(size=(50, d)).astype(np.float32))
    side = Operand.of(vectors, half=True)
    assert half_slack(side.error, side.error.max(), d).max() < 0.015
    assert product_slack(d) < 2e-4
    assert Operand.of(vectors, half=False).error.max() == 0


def test_products_that_decide_little_are_not_taken_in_half(problem):
    neighbours = Problem(**{**vars(problem), "gallery": problem.gallery[200:290].copy()})
    windows = plan_search(problem, CONFIG, 0)[1].windows
    assert undecided_share(neighbours, windows) > undecided_share(problem, windows) > 0


def test_windows_must_fit_the_anchors(problem):
    windows = plan_search(problem, CONFIG, 0)[1].windows
    with pytest.raises(ValueError, match="9 anchors need as many starts"):
        remine.mining.search.scan.scan(
            problem.block(slice(9)), windows, WindowMatches.empty(windows)
        )


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:IVF4,Flat"])
def test_mining_leaves_torch_the_threads_it_had(engine):
    # A thread more would change the bits of what is trained next; in a process of its own, since
    # numba sets up its pool once.
    program = (
        "import torch\ntorch.set_num_threads(1)\nimport numpy as np\n"
        "from mining import MiningConfig, mine\nfrom mining.config import NEGATIVES\n"
        "vectors = np.random.default_rng(0).normal(size=(400, 8))\n"
        f"config = MiningConfig(negatives=NEGATIVES, engine={engine!r}, recall=0.5,"
        " recall_neighbours=0.5)\n"
        "mine(vectors, [i % 40 for i in range(400)], config=config)\n"
        "assert torch.get_num_threads() == 1, torch.get_num_threads()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def whole_number_vectors(n=1500):
    """Vectors of a few small whole numbers, which tie often."""
    vectors = np.random.default_rng(0).integers(-1, 2, size=(n, 8))
    vectors[:, 0] = np.where(np.abs(vectors).sum(axis=1), vectors[:, 0], 1)
    return vectors.astype(np.float32)


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:Flat"])
def test_equal_distances_are_hard_and_never_semi_hard(engine):
    vectors = whole_number_vectors()
    config = MiningConfig(negatives=("hard", "semi_hard"), per_pair=60, engine=engine)
    triplets = mine(vectors, np.arange(1500) // 4, config=config).triplets
    tie = triplets.d_ap == triplets.d_an
    assert tie.sum() > 100
    assert (triplets.kind[tie] == HARD).all()
    # The distances of rows with the same numbers are the same bits, wherever they are computed.
    unit_vectors = unit(vectors)
    a, p, n = (
        unit_vectors[ids]
        for ids in (triplets.anchor_id, triplets.positive_id, triplets.negative_id)
    )
    np.testing.assert_array_equal(row_distances(a, p), triplets.d_ap)
    np.testing.assert_array_equal(row_distances(a, n), triplets.d_an)
