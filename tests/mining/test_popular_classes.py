"""Classes and tags that many items share: the same pairs, in bounded memory."""

import tracemalloc
from itertools import chain

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.mining import MiningConfig, mine
from remine.mining.config import NEGATIVES
from remine.mining.engines.engine_choice import MAX_ANSWERS, anchor_blocks
from remine.mining.problem import by_label, by_labels
from remine.mining.search.scan_kernels import exact_distances
from remine.mining.strategies.positives import find_pairs, hashes, pair_counts

RNG = np.random.default_rng(0)
COUNT = 4000


def vectors_of(n, d=8):
    return unit(np.random.default_rng(n).standard_normal((n, d)).astype(np.float32))


def tagged(n, seed=0):
    """Items of which half share a tag, a third another, some have none and some repeat one."""
    rng = np.random.default_rng(seed)
    tags = [
        [0] * (i % 2) + [1] * (i % 3 == 0) + [2 + int(rng.integers(0, n // 5))] for i in range(n)
    ]
    tags[5], tags[6] = [], [7, 7]
    return [np.array(codes, np.int32) for codes in tags]


def every_pair(tags):
    """The pairs (anchor, row) that share a tag, by loops."""
    sets = [set(codes.tolist()) for codes in tags]
    return np.array(
        [(a, p) for a, s in enumerate(sets) for p, t in enumerate(sets) if a != p and s & t]
    )


def chosen(pairs, keys, limit):
    """The `limit` pairs of each anchor with the smallest keys (arrays, most important first)."""
    order = np.lexsort((*keys[::-1], pairs[:, 0]))
    ranks = np.empty(len(pairs), int)
    anchors = pairs[order, 0]
    ranks[order] = np.arange(len(pairs)) - np.searchsorted(anchors, anchors)
    return set(map(tuple, pairs[ranks < limit].tolist()))


@pytest.mark.parametrize("positives", ["all", "random", "hardest", "easiest"])
@pytest.mark.parametrize("limit", [0, 1, 4, 40, 10_000])
def test_the_pairs_are_those_of_listing_all_and_sorting(positives, limit):
    n = 120
    ids = np.sort(RNG.choice(2**62, n, replace=False))
    vectors, tags = vectors_of(n), tagged(n)
    vectors[50:60] = vectors[50]  # equally far from everything
    problem = by_labels(ids, vectors, tags)
    config = MiningConfig(positives=positives, max_positives=limit)
    pairs = find_pairs(problem, config, 3)
    every = every_pair(tags)
    d_ap = exact_distances(vectors, every[:, 0], vectors, every[:, 1])
    keys = {
        "hardest": (-d_ap, every[:, 1]),
        "easiest": (d_ap, every[:, 1]),
    }.get(positives, (hashes(3, ids[every[:, 0]], ids[every[:, 1]]),))
    most = 1 if positives == "random" else limit or (n if positives == "all" else 1)
    result = list(zip(pairs.anchor.tolist(), pairs.positive.tolist(), strict=True))
    assert set(result) == chosen(every, keys, most)
    assert len(result) == len(set(result))
    np.testing.assert_array_equal(
        pairs.d_ap, exact_distances(vectors, pairs.anchor, vectors, pairs.positive)
    )
    assert (np.bincount(pairs.anchor, minlength=n) <= pair_counts(problem, config)).all()


def test_exclusions_and_positives_are_items_that_share_a_tag():
    tags = tagged(60)
    problem = by_labels(np.arange(60), vectors_of(60), tags)
    expected = sorted({*map(tuple, every_pair(tags).tolist()), *((i, i) for i in range(60))})
    assert list(zip(*(side.tolist() for side in problem.positives.flat()), strict=True)) == expected
    order = np.random.default_rng(1).permutation(60)
    anchor, row = problem.reordered(order).exclusions.flat()
    assert sorted(zip(anchor.tolist(), order[row].tolist(), strict=True)) == expected


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:Flat"])
def test_no_negative_shares_a_tag_or_is_forbidden(engine):
    n = 600
    tags, same_as = tagged(n), np.array([[0, 1], [3, 8], [0, 9]])
    config = MiningConfig(negatives=NEGATIVES, max_positives=2, margin=1.0, engine=engine)
    triplets = mine(
        vectors_of(n), [t.tolist() for t in tags], config=config, same_as=same_as
    ).triplets
    forbidden = {*map(tuple, every_pair(tags).tolist())}
    forbidden |= {*map(tuple, same_as.tolist()), *map(tuple, same_as[:, ::-1].tolist())}
    result = zip(triplets.anchor_id.tolist(), triplets.negative_id.tolist(), strict=True)
    assert not forbidden & set(result)
    assert len(triplets) > n


def by_class(n):
    codes = np.where(np.arange(n) % 2, 0, np.arange(n) // 5 + 1).astype(np.int32)
    return by_label(Embeddings(ids=np.arange(n), label_codes=codes, vectors=vectors_of(n)))


def by_tag(n):
    return by_labels(np.arange(n), vectors_of(n), tagged(n))


def forbidding(n):
    return by_class(n).forbid(np.array([[0, 1], [2, 3]]))


@pytest.mark.parametrize("pose", [by_class, by_tag, forbidding])
@pytest.mark.parametrize("positives", ["all", "hardest"])
def test_memory_does_not_grow_with_the_square_of_a_class(pose, positives):
    config = MiningConfig(positives=positives, max_positives=4)
    find_pairs(pose(20), config, 0)  # compiled before memory is measured
    tracemalloc.start()
    pairs = find_pairs(pose(COUNT), config, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) > COUNT
    assert peak < 400 * 4 * COUNT  # 2000^2 pairs of 8 bytes are 32 MB, five times as much


def test_blocks_are_shorter_where_anchors_have_many_pairs():
    config = MiningConfig(max_positives=0)
    counts = np.array([3] * 1000 + [10**6] * 10 + [10**8] * 2)
    blocks = anchor_blocks(counts, "exact", config)
    assert list(chain(*(range(1012)[block] for block in blocks))) == list(range(1012))
    answers = [(counts[block] + 1).sum() for block in blocks if block.stop - block.start > 1]
    assert max(answers) <= MAX_ANSWERS
    assert [b.stop - b.start for b in blocks[-2:]] == [1, 1]
