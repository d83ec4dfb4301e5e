"""What is drawn by chance: evenly, by the weights it says, and all that there is to draw."""

from typing import Any

import numpy as np
import pytest

from remine.data.types import unit
from remine.mining import MiningConfig, mine
from remine.mining.arguments import make_problem
from remine.mining.engines.engines import ExactEngine
from remine.mining.miner import mine_block
from remine.mining.strategies.negatives import RANDOM_LIST


def drawn(vectors, times, **values: Any):
    """How often each row is drawn as a negative for row 0, whose only positive is row 1.

    Each draw is that of another query which lies where row 0 does.
    """
    queries = np.tile(vectors[:1], (times, 1))
    answers = {query: [1] for query in range(times)}
    triplets = mine(
        vectors[1:],
        ids=np.arange(1, len(vectors)),
        queries=queries,
        positives=answers,
        config=MiningConfig(**values),
    ).triplets
    rows = np.stack([triplets.anchor_id, triplets.negative_id])
    assert len(np.unique(rows, axis=1).T) == len(triplets)  # none twice
    return np.bincount(triplets.negative_id, minlength=len(vectors))


def on_a_line(count, nearest=0.1, farthest=0.9, d_ap=0.0):
    """Item 0, its positive at distance d_ap, and negatives at growing distances."""
    squares = np.concatenate([[0, d_ap], np.linspace(nearest, farthest, count)])
    cosine = 1 - squares / 2
    return np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("strategy", "count", "even"),
    [
        ("uniform", 40, slice(2, None)),
        ("rank_band", 40, slice(2 + 10, 2 + 30)),
        ("random_semi_hard", 40, slice(2, None)),
        (
            "random_semi_hard",
            RANDOM_LIST + 36,
            slice(2, None),
        ),  # more than the list of a window holds
    ],
)
def test_draws_are_even_and_from_the_whole_window(strategy, count, even):
    inside = len(range(count + 2)[even])
    times = inside * 50
    counts = drawn(on_a_line(count), times, negatives=(strategy,), band=(10, 30), margin=1.0)
    assert counts.sum() == counts[even].sum() == times
    assert counts[even].min() >= 20  # 50 on average, with a deviation of 7
    assert counts[even].max() <= 85
    half = counts[even][: inside // 2].sum() / times  # near ones as often as far ones
    assert half == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(times))


@pytest.mark.parametrize("per_pair", [5, RANDOM_LIST - 1, RANDOM_LIST, 90, 200])
def test_all_of_a_window_are_drawn_where_that_many_are_wished(per_pair):
    vectors = on_a_line(120, 0.1, 0.9, d_ap=0.2)
    config = {"negatives": ("random_semi_hard",), "per_pair": per_pair, "margin": 0.5}
    counts = drawn(vectors, 1, **config)
    distances = ((vectors - vectors[0]).astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    d_ap = distances[1]
    inside = np.flatnonzero((distances > d_ap) & (distances < d_ap + np.float32(0.5)))
    assert counts.sum() == min(per_pair, len(inside))
    assert set(np.flatnonzero(counts)) <= set(inside.tolist())


@pytest.mark.parametrize("skips", [1, 30, 80])
def test_skipped_ranks_are_not_drawn_from_a_large_window(skips):
    counts = drawn(
        on_a_line(200), 3000, negatives=("random_semi_hard",), skip_ranks=skips, margin=1.0
    )
    assert not counts[2 : 2 + skips].any()
    assert counts[2 + skips : 2 + skips + 20].sum() > 100  # 20 of at most 199
    assert counts.sum() == 3000


def test_equals_that_fill_the_list_of_a_window_are_not_all_skipped():
    vectors = np.array([[1, 0], [1, 0], *[[0, 1]] * 100], np.float32)
    counts = drawn(vectors, 50, negatives=("random_semi_hard",), skip_ranks=2, margin=4.0)
    assert counts.sum() == 50


def test_skipping_counts_the_ranks_below_the_window():
    # 50 negatives are closer than the positive: of 60 skipped ranks 10 lie in the window.
    vectors = on_a_line(200, 0.01, 2.0, d_ap=0.505)
    counts = drawn(vectors, 2000, negatives=("random_semi_hard",), skip_ranks=60, margin=2.0)
    assert np.flatnonzero(counts)[0] >= 2 + 60
    assert np.flatnonzero(counts)[0] < 2 + 60 + 10


@pytest.mark.parametrize("strategy", ["uniform", "rank_band", "distance_weighted"])
def test_pairs_and_seeds_draw_differently(strategy):
    rng = np.random.default_rng(0)
    problem = make_problem(
        unit(rng.normal(size=(300, 32)).astype(np.float32)), [0, 1] * 150, None, None, None
    )
    config = MiningConfig(negatives=(strategy,), max_positives=4, band=(0, 100))
    one, two = (
        mine_block(ExactEngine(problem=problem), slice(300), config, seed)[0].negative_id
        for seed in (0, 1)
    )
    assert (one == two).mean() < 0.1
    assert (one[:-1] == one[1:]).mean() < 0.1  # pairs of one anchor, mostly


# Four rings of negatives around item 0.
RINGS = np.array([0.7, 0.9, 1.1, 1.3])  # angles, distances 0.69 to 1.21


def on_rings(d):
    angles = np.repeat(RINGS, 25)
    side = unit(np.random.default_rng(0).normal(size=(100, d - 1)).astype(np.float32))
    negatives = np.concatenate([np.cos(angles)[:, None], np.sin(angles)[:, None] * side], axis=1)
    return np.concatenate([np.eye(d)[:1], np.eye(d)[:1], negatives]).astype(np.float32)


@pytest.mark.parametrize("d", [3, 4, 6])
def test_distance_weighted_draws_follow_the_inverse_density(d):
    counts = drawn(on_rings(d), 4000, negatives=("distance_weighted",), pool=2048)
    groups = counts[2:].reshape(4, 25).sum(axis=1)
    u = 2 * np.sin(RINGS / 2)
    # Wu et al.: q(u) = u^(d-2) (1 - u^2 / 4)^((d-3)/2)
    weights = 1 / (u ** (d - 2) * (1 - u * u / 4) ** ((d - 3) / 2))
    np.testing.assert_allclose(groups / groups.sum(), weights / weights.sum(), atol=0.03)
    assert counts[2:27].max() < 3 * counts[2:27].mean()  # even within a ring


def test_distance_weighted_clamps_near_ones_and_leaves_out_far_ones():
    # Distances 0.02 and 0.4 are both taken for 0.5; 1.5 is beyond the cutoff at 1.4.
    u = np.repeat([0.02, 0.4, 1.5], 30)
    angles = 2 * np.arcsin(u / 2)
    side = unit(np.random.default_rng(1).normal(size=(90, 7)).astype(np.float32))
    negatives = np.concatenate([np.cos(angles)[:, None], np.sin(angles)[:, None] * side], axis=1)
    vectors = np.concatenate([np.eye(8)[:1], np.eye(8)[:1], negatives]).astype(np.float32)
    counts = drawn(vectors, 3000, negatives=("distance_weighted",), pool=2048)
    neighbours, middle, rates = counts[2:].reshape(3, 30).sum(axis=1)
    assert rates == 0
    assert neighbours / 3000 == pytest.approx(0.5, abs=0.04)
    assert middle == 3000 - neighbours


def test_one_antipodal_negative_spoils_nothing():
    vectors = on_rings(16)
    vectors[50] = -vectors[0]
    counts = drawn(vectors, 200, negatives=("distance_weighted",), pool=2048)
    assert counts.sum() == 200
    assert counts[50] == 0


def test_the_pool_is_all_that_distance_weighted_looks_at():
    counts = drawn(on_rings(4), 1, negatives=("distance_weighted",), pool=16, per_pair=100)
    assert 5 <= counts.sum() <= 16
