"""The overlap of neighbourhoods between two versions, against sets in a loop."""

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.index.overlap import neighbour_overlap


def embeddings_of(vectors):
    n = len(vectors)
    return Embeddings(ids=np.arange(n), label_codes=np.zeros(n, np.int32), vectors=unit(vectors))


def by_loops(before, after, depth):
    shares = []
    for i in range(len(before)):
        neighbours = []
        for one in (before, after):
            distances = ((one.vectors.astype(np.float64) - one.vectors[i]) ** 2).sum(axis=1)
            distances[i] = np.inf
            neighbours.append(set(np.argsort(distances)[:depth].tolist()))
        shares.append(len(neighbours[0] & neighbours[1]) / depth)
    return np.mean(shares)


def test_the_share_of_neighbours_that_stay():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((80, 6)).astype(np.float32)
    changes = first + 0.5 * rng.standard_normal((80, 6)).astype(np.float32)
    before, after = embeddings_of(first), embeddings_of(changes)
    for depth in (1, 10):
        share, sampled = neighbour_overlap(before, after, depth=depth)
        assert share == pytest.approx(by_loops(before, after, depth))
        assert 0.1 < share < 0.9
        assert sampled == 80
    assert neighbour_overlap(before, before)[0] == 1
    part, sampled = neighbour_overlap(before, after, sample=50, seed=3)
    assert sampled == 50
    assert part == pytest.approx(by_loops(before, after, 10), abs=0.15)


def test_an_item_is_not_its_own_neighbour_among_duplicates():
    matches = embeddings_of(np.ones((30, 4), np.float32))
    share, _ = neighbour_overlap(matches, matches)
    assert share == 1  # the same ten of the duplicates, whichever they are
    subset = embeddings_of(np.eye(4, dtype=np.float32))
    assert neighbour_overlap(subset, subset) == (1.0, 4)
