"""Every strategy and guard against the plain loop, on small galleries full of special cases."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from data.errors import InputError
from data.types import EASY, HARD, SEMI_HARD, unit
from mining import MiningConfig, mine
from mining.config import NEGATIVES, POSITIVES
from mining.engines import Exact
from mining.miner import make_problem, mine_block, mine_problem
from mining.problem import by_pairs

EXACT = {"semi_hard", "hard", "hardest"}


@st.composite
def galleries(draw):
    """Few vectors, many of them equal or opposite, in few classes; labels are texts."""
    n, d = draw(st.integers(1, 24)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = draw(st.sampled_from(["random", "equal", "grid", "opposite"]))
    vectors = rng.normal(size=(n, d))
    if kinds == "equal":
        vectors[:] = vectors[0]
    elif kinds == "grid":
        vectors = rng.integers(-1, 2, (n, d)).astype(float)
        vectors[~vectors.any(axis=1)] = 1
    elif kinds == "opposite":
        vectors = np.sign(rng.normal(size=(n, 1))) * vectors[0]
    labels = [f"c{c}" for c in rng.integers(0, draw(st.integers(1, 5)), n)]
    ids = np.sort(rng.choice(1000, n, replace=False)) - 500
    return unit(vectors.astype(np.float32)), labels, ids


configs = st.builds(
    MiningConfig,
    positives=st.sampled_from(POSITIVES),
    max_positives=st.sampled_from([0, 1, 3, 100]),
    per_pair=st.sampled_from([1, 2, 30]),
    margin=st.sampled_from([0.2, 1.0, 4.0]),
    band=st.sampled_from([(0, 3), (2, 40)]),
    skip_ranks=st.sampled_from([0, 0, 2]),
    absolute_margin=st.sampled_from([0.0, 0.0, 0.1]),
    relative_margin=st.sampled_from([0.0, 0.0, 0.95]),
    near_duplicate=st.sampled_from([0.0, 0.0, 0.05]),
    negatives=st.sampled_from(NEGATIVES).map(lambda name: (name,)),
    pool=st.just(4096),
)


def check(oracle, triplets, strategy):
    """The triplets are what the loop says: all of it, in its order, or a fair part of it."""
    problem, config = oracle.problem, oracle.config
    rows = {int(item): row for row, item in enumerate(problem.gallery_ids.tolist())}
    mined: dict[tuple[int, int], list[tuple]] = {}
    for t in range(len(triplets)):
        pair = int(triplets.anchor_id[t]), rows[int(triplets.positive_id[t])]
        found = triplets.d_an[t], rows[int(triplets.negative_id[t])], int(triplets.negative_rank[t])
        mined.setdefault(pair, []).append(found)
    for anchor in range(len(problem)):
        for d_ap, positive in oracle.pairs(anchor):
            found = mined.pop((int(problem.anchor_ids[anchor]), positive), [])
            fits = oracle.admissible(strategy, anchor, d_ap)
            if strategy in EXACT:
                assert found == fits[: config.per_pair]
                continue
            assert len(found) == len({row for _, row, _ in found})
            assert len(found) == min(config.per_pair, len(fits)) or strategy == "distance_weighted"
            ranked = {(d, row): rank for d, row, rank in fits}
            for d, row, rank in found:
                assert rank in (-1, ranked[d, row])
    assert not mined


@settings(max_examples=150, deadline=None)
@given(galleries(), configs)
def test_every_strategy_agrees_with_the_plain_loop(oracle_of, gallery, config):
    vectors, labels, ids = gallery
    mined = mine(vectors, labels, config=config, ids=ids)
    problem = make_problem(vectors, labels, ids, None, None)
    check(oracle_of(problem, config), mined.triplets, config.negatives[0])


@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_several_labels_an_item(oracle_of, gallery, strategy, data):
    vectors, _, ids = gallery
    some = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
    labels = [data.draw(some) for _ in vectors]
    config = MiningConfig(negatives=(strategy,), max_positives=0)
    problem = make_problem(vectors, labels, ids, None, None)
    for anchor, own in enumerate(labels):
        shared = {row for row, other in enumerate(labels) if set(own) & set(other)} - {anchor}
        got = oracle_of(problem, config).listed(problem.positives, anchor) - {anchor}
        assert got == shared
    check(oracle_of(problem, config), mine_problem(problem, config).triplets, strategy)


@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_queries_against_a_corpus(oracle_of, gallery, strategy, data):
    corpus, _, ids = gallery
    queries = unit(np.random.default_rng(0).normal(size=(5, corpus.shape[1])).astype(np.float32))
    answers = {q: data.draw(st.lists(st.sampled_from(ids.tolist()), max_size=3)) for q in range(5)}
    config = MiningConfig(negatives=(strategy,), max_positives=0)
    problem = by_pairs(queries, np.arange(5), corpus, ids, answers)
    mined = mine(corpus, config=config, ids=ids, queries=queries, positives=answers)
    check(oracle_of(problem, config), mined.triplets, strategy)


@settings(max_examples=40, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_same_as_pairs_are_never_negatives_of_each_other(oracle_of, gallery, strategy, data):
    vectors, labels, ids = gallery
    item = st.sampled_from(ids.tolist())
    pairs = np.array(data.draw(st.lists(st.tuples(item, item), min_size=1, max_size=8)))
    config = MiningConfig(negatives=(strategy,))
    triplets = mine(vectors, labels, config=config, ids=ids, same_as=pairs).triplets
    both = {*map(tuple, pairs.tolist()), *map(tuple, pairs[:, ::-1].tolist())}
    named = set(zip(triplets.anchor_id.tolist(), triplets.negative_id.tolist(), strict=True))
    assert not both & named
    problem = make_problem(vectors, labels, ids, None, None).forbid(pairs)
    check(oracle_of(problem, config), triplets, strategy)


@settings(max_examples=60, deadline=None)
@given(galleries())
def test_kinds_and_second_negatives(gallery):
    vectors, labels, ids = gallery
    config = MiningConfig(negatives=("uniform", "hardest"), per_pair=5, second_negative=True)
    triplets = mine(vectors, labels, config=config, ids=ids).triplets
    label = dict(zip(ids.tolist(), labels, strict=True))
    for t in range(len(triplets)):
        d_ap, d_an = triplets.d_ap[t], triplets.d_an[t]
        near = SEMI_HARD if d_an < d_ap + np.float32(0.2) else EASY
        assert triplets.kind[t] == (HARD if d_an <= d_ap else near)
        negative, second = int(triplets.negative_id[t]), int(triplets.negative2_id[t])
        others = [i for i in label if label[i] == label[negative] and i != negative]
        assert second in others if others else second == -1


@settings(max_examples=60, deadline=None)
@given(galleries(), st.integers(1, 4))
def test_the_hub_cap_keeps_as_many_as_it_says(gallery, cap):
    vectors, labels, ids = gallery
    config = MiningConfig(negatives=("hardest",), max_positives=0)
    free = mine(vectors, labels, config=config, ids=ids)
    capped = mine(vectors, labels, config=replace(config, hub_cap=cap), ids=ids)
    before = dict(zip(*np.unique(free.triplets.negative_id, return_counts=True), strict=True))
    after = dict(zip(*np.unique(capped.triplets.negative_id, return_counts=True), strict=True))
    assert after == {item: min(cap, count) for item, count in before.items()}
    assert capped.stats.capped == len(free.triplets) - len(capped.triplets)


def drawn(vectors, strategy, seeds, pool=1024):
    """How often each row is drawn as the negative of item 0, whose only positive is item 1."""
    labels = [0, 0] + [1] * (len(vectors) - 2)
    problem = make_problem(vectors, labels, None, None, None).block(slice(1))
    config = MiningConfig(negatives=(strategy,), pool=pool)
    counts = np.zeros(len(vectors))
    for seed in range(seeds):
        triplets, _ = mine_block(Exact(problem=problem), slice(1), config, seed)
        counts[triplets.negative_id] += 1
    return counts


def test_random_draws_are_even():
    rng = np.random.default_rng(0)
    counts = drawn(unit(rng.normal(size=(40, 8)).astype(np.float32)), "uniform", 400)
    assert counts.sum() == 400
    assert counts[2:].min() > 1  # 10.5 on average
    assert counts.max() < 28


def test_distance_weighted_draws_follow_the_inverse_density():
    # Four groups of negatives at fixed distances; d = 4, so log w = -2 log d - log(1 - d^2/4) / 2.
    angles = np.repeat([0.7, 0.9, 1.1, 1.3], 25)
    rng = np.random.default_rng(0)
    side = unit(rng.normal(size=(100, 3)).astype(np.float32))
    negatives = np.concatenate([np.cos(angles)[:, None], np.sin(angles)[:, None] * side], axis=1)
    vectors = np.concatenate([np.eye(4)[:1], np.eye(4)[:1], negatives]).astype(np.float32)
    counts = drawn(vectors, "distance_weighted", 1500, pool=2048)
    groups = counts[2:].reshape(4, 25).sum(axis=1)
    d = 2 * np.sin(np.array([0.7, 0.9, 1.1, 1.3]) / 2)
    weights = np.exp(-2 * np.log(d) - 0.5 * np.log(1 - d * d / 4))
    np.testing.assert_allclose(groups / groups.sum(), weights / weights.sum(), atol=0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "3 vectors need 3 labels"),
        ({"labels": ["a", "b"]}, "3 vectors need 3 labels"),
        ({"labels": ["a"] * 3, "ids": np.array([1, 1, 2])}, "3 different integers"),
        ({"queries": np.ones((1, 2))}, "queries need positives"),
        ({"queries": np.ones((1, 2)), "positives": {0: [9]}}, "its positive 9 is not in the"),
        ({"labels": ["a"] * 3, "same_as": np.array([[0, 9]])}, "one of the ids is not in the"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    vectors = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match=message):
        mine(vectors, **arguments)


def test_vectors_without_direction_are_refused():
    vectors = np.ones((3, 2), np.float32)
    vectors[1] = 0
    with pytest.raises(InputError, match="vector 1 has length 0"):
        mine(vectors, ["a"] * 3)
