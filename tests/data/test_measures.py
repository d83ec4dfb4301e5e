"""The shared measures, each against a plain loop."""

import numpy as np
import pytest

from remine.data.measures import mean_overlap, row_distances, spread, triplet_kinds
from remine.data.types import EASY, HARD, SEMI_HARD, unit


def vectors_of(n, d=8, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_spread_is_the_mean_distance_of_pairs(n):
    vectors = vectors_of(n)
    exact = vectors.astype(np.float64)
    pairs = [((exact[i] - exact[j]) ** 2).sum() for i in range(n) for j in range(n) if i != j]
    assert spread(vectors) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_spread_of_a_collapsed_embedding_is_zero():
    assert spread(np.repeat(vectors_of(1), 10, axis=0)) == pytest.approx(0, abs=1e-6)


def test_overlap_is_the_mean_share_of_common_neighbours():
    rng = np.random.default_rng(0)
    before, after = (np.array([rng.permutation(9)[:4] for _ in range(20)]) for _ in range(2))
    shares = [len(set(a) & set(b)) / 4 for a, b in zip(before, after, strict=True)]
    assert mean_overlap(before, after) == pytest.approx(np.mean(shares))
    assert mean_overlap(before, before[:, ::-1]) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kinds_are_decided_in_the_dtype_of_the_distances(dtype):
    d_ap = np.array([0.5, 0.5, 0.5, 0.5], dtype)
    limit = dtype(0.5) + dtype(0.2)  # exclusive
    d_an = np.array([0.5, np.nextafter(dtype(0.5), dtype(1)), np.nextafter(limit, dtype(0)), limit])
    kinds = triplet_kinds(d_ap, d_an.astype(dtype), 0.2)
    assert kinds.tolist() == [HARD, SEMI_HARD, SEMI_HARD, EASY]
    assert kinds.dtype == np.int8


def test_row_distances_are_summed_in_order_and_rounded_once():
    a, b = vectors_of(50, d=65), vectors_of(50, d=65, seed=1)
    for x, y, distance in zip(a, b, row_distances(a, b), strict=True):
        total = 0.0
        for i, j in zip(x.tolist(), y.tolist(), strict=True):
            total += (i - j) * (i - j)
        assert distance == np.float32(total)
    assert row_distances(a, b).dtype == np.float32
