"""Pairs of an anchor and a positive, the cap on them, and distances."""

from collections import Counter

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.mining.config import MiningConfig
from remine.mining.problem import by_label
from remine.mining.search.scan_kernels import distance, exact_distances
from remine.mining.strategies.positives import Pairs
from remine.mining.strategies.positives import find_pairs as find


def gallery_of(codes, d=6, seed=0):
    """Random vectors of the given label codes, under ids with gaps."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(2**62, len(codes), replace=False))
    vectors = unit(rng.standard_normal((len(codes), d)).astype(np.float32))
    return Embeddings(ids=ids, label_codes=np.array(codes, np.int32), vectors=vectors)


def find_pairs(gallery: Embeddings, anchors: np.ndarray, limit: int, seed: int) -> Pairs:
    """The pairs of some anchors, at most `limit` each."""
    return find(by_label(gallery, anchors), MiningConfig(max_positives=limit), seed)


def as_rows(pairs, anchors):
    """(anchor row, positive row) of each pair, in order."""
    return list(zip(anchors[pairs.anchor].tolist(), pairs.positive.tolist(), strict=True))


def loop_pairs(gallery, anchors):
    """All pairs, by anchor, then by distance, then by id."""
    codes, vectors = gallery.label_codes, gallery.vectors.astype(np.float64)
    expected = []
    for anchor in anchors.tolist():
        result = []
        for row in range(len(gallery)):
            if row != anchor and codes[row] == codes[anchor]:
                d_ap = np.float32(((vectors[anchor] - vectors[row]) ** 2).sum())
                result.append((d_ap, gallery.ids[row], row))
        expected += [(anchor, row) for _, _, row in sorted(result)]
    return expected


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_once_in_order(seed):
    rng = np.random.default_rng(seed)
    # Codes with gaps, negative ones too, uneven classes; some anchors only, in any order.
    gallery = gallery_of(rng.choice([-3, 0, 1, 7, 1000, 2**31 - 1], 40), seed=seed)
    anchors = rng.permutation(40)[:25]
    pairs = find_pairs(gallery, anchors, 0, seed=0)
    assert as_rows(pairs, anchors) == loop_pairs(gallery, anchors)


def test_equal_distances_go_by_id():
    gallery = gallery_of([0] * 5)
    gallery.vectors[1:] = gallery.vectors[1]
    permutation = gallery.take(np.array([3, 0, 4, 2, 1]))
    pairs = find_pairs(permutation, np.array([1]), 0, seed=0)
    assert permutation.ids[pairs.positive].tolist() == gallery.ids[1:].tolist()


@pytest.mark.parametrize("positives", ["hardest", "easiest"])
@pytest.mark.parametrize("limit", [0, 1, 2, 4])
def test_of_equally_far_positives_the_lower_ids_are_taken(positives, limit):
    gallery = gallery_of([0] * 7)
    gallery.vectors[1:5] = gallery.vectors[1]  # four as far as one another, two elsewhere
    config = MiningConfig(positives=positives, max_positives=limit)
    pairs = find(by_label(gallery, np.array([0])), config, 0)
    sign = -1 if positives == "hardest" else 1
    every = [(int(p), np.float32(d)) for _, p, d in loop_distances(gallery, 0)]
    expected = sorted(every, key=lambda pair: (sign * pair[1], pair[0]))[: limit or 1]
    assert sorted(pairs.positive.tolist()) == sorted(row for row, _ in expected)


def loop_distances(gallery, anchor):
    """(anchor, row, d_ap) of every other row."""
    wide = gallery.vectors.astype(np.float64)
    peers = [row for row in range(len(gallery)) if row != anchor]
    return [(anchor, row, ((wide[anchor] - wide[row]) ** 2).sum()) for row in peers]


def test_singletons_have_no_pairs():
    pairs = find_pairs(gallery_of([4, 2, 9]), np.arange(3), 0, seed=0)
    assert len(pairs.anchor) == 0


def test_an_exact_duplicate_is_a_positive_and_the_item_itself_is_not():
    gallery = gallery_of([0, 0, 0])
    gallery.vectors[:] = gallery.vectors[0]
    pairs = find_pairs(gallery, np.arange(3), 0, seed=0)
    assert as_rows(pairs, np.arange(3)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert not pairs.d_ap.any()


@pytest.mark.parametrize("cap", [1, 3, 11, 12, 50])
def test_the_cap_keeps_so_many_of_all_pairs(cap):
    gallery = gallery_of([0] * 12 + [1] * 3 + [2])
    anchors = np.arange(16)
    remainder = as_rows(find_pairs(gallery, anchors, cap, seed=0), anchors)
    every = as_rows(find_pairs(gallery, anchors, 0, seed=0), anchors)
    assert remainder == [pair for pair in every if pair in set(remainder)]  # in the same order
    counts = Counter(anchor for anchor, _ in remainder)
    assert [counts[a] for a in range(16)] == [min(cap, 11)] * 12 + [min(cap, 2)] * 3 + [0]


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_cap_keeps_the_smallest_hashes(loop_hash, seed):
    # Never to change: the same seed must mine the same pairs next year.
    gallery = gallery_of([0] * 20)
    gallery.ids[:10] *= -1
    anchors = np.arange(20)
    expected = set()
    for a in range(20):
        peers = [p for p in range(20) if p != a]
        peers.sort(key=lambda p, a=int(gallery.ids[a]): loop_hash(seed, a, int(gallery.ids[p])))
        expected |= {(a, p) for p in peers[:3]}
    assert set(as_rows(find_pairs(gallery, anchors, 3, seed), anchors)) == expected


@pytest.mark.parametrize("block", [1, 3, 7])
def test_the_cap_does_not_depend_on_blocks(block):
    gallery = gallery_of(np.arange(60) % 4)
    anchors = np.arange(60)
    complete = as_rows(find_pairs(gallery, anchors, 5, seed=9), anchors)
    parts = []
    for start in range(0, 60, block):
        subset = anchors[start : start + block]
        parts += as_rows(find_pairs(gallery, subset, 5, seed=9), subset)
    assert parts == complete


def test_the_cap_does_not_depend_on_what_else_is_there():
    # Fewer items of the class, none of the others: what was chosen and is still there stays.
    gallery = gallery_of([0] * 20 + [1] * 20)
    anchors = np.arange(40)
    choice = find_pairs(gallery, anchors, 4, seed=3)
    small = gallery.take(np.arange(12))
    repetition = find_pairs(small, np.arange(12), 4, seed=3)
    before = {pair for pair in as_rows(choice, anchors) if max(pair) < 12}
    assert before <= set(as_rows(repetition, np.arange(12)))
    assert len(before) > 10


def test_a_smaller_cap_takes_a_part_of_a_larger_one():
    gallery = gallery_of([0] * 30)
    anchors = np.arange(30)
    subset, extra = (set(as_rows(find_pairs(gallery, anchors, k, 1), anchors)) for k in (3, 9))
    assert subset < extra


def test_the_cap_chooses_evenly():
    # 40 seeds, each takes 5 of 59 for 60 anchors: 200 times each item, with a deviation of 14.
    gallery = gallery_of([0] * 60)
    anchors = np.arange(60)
    choice = [find_pairs(gallery, anchors, 5, seed) for seed in range(40)]
    counts = np.bincount(np.concatenate([pairs.positive for pairs in choice]), minlength=60)
    assert counts.sum() == 12_000
    assert counts.min() > 130
    assert counts.max() < 270
    # Far and near ones alike.
    every = find_pairs(gallery, anchors, 0, seed=0).d_ap.mean()
    assert np.mean([pairs.d_ap.mean() for pairs in choice]) == pytest.approx(every, rel=0.02)


def test_seeds_and_anchors_choose_differently():
    gallery = gallery_of([0] * 40)
    anchors = np.arange(40)
    one, two = (set(as_rows(find_pairs(gallery, anchors, 4, seed), anchors)) for seed in (0, 1))
    assert len(one & two) < 40  # 16 of 160 by chance
    choices = {frozenset(p for a, p in one if a == anchor) for anchor in range(40)}
    assert len(choices) == 40


@pytest.mark.parametrize("d", [1, 2, 7, 128, 1000])
def test_distances_are_summed_in_float64_and_rounded_once(d):
    rng = np.random.default_rng(d)
    vectors = unit(rng.standard_normal((50, d)).astype(np.float32))
    vectors[1] = np.nextafter(vectors[0], np.float32(2))  # so near that float32 sees only noise
    a, b = rng.integers(0, 50, 300), rng.integers(0, 50, 300)
    a[:2], b[:2] = (0, 1), (1, 1)
    exact = vectors.astype(np.float64)
    expected = ((exact[a] - exact[b]) ** 2).sum(axis=1).astype(np.float32)
    np.testing.assert_array_equal(exact_distances(vectors, a, vectors, b), expected)
    assert [
        distance(vectors[i], vectors[j]) for i, j in zip(a, b, strict=True)
    ] == expected.tolist()


def test_there_is_one_order_of_summation():
    # The first two terms lie on the edge between two float32 numbers. The rest, too small to move
    # the sum one by one, would push it over if they were added up among themselves first.
    vectors = np.zeros((2, 64), np.float32)
    vectors[0] = [1, 2.0**-12, *[2.0**-27] * 62]
    result = exact_distances(vectors, np.array([0, 1]), vectors, np.array([1, 0]))
    assert result.tolist() == [distance(vectors[0], vectors[1])] * 2
