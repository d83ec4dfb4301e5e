"""Every strategy and guard against the plain loop, on small galleries full of special cases."""

from collections import defaultdict
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from remine.data.types import EASY, SEMI_HARD, Embeddings, unit
from remine.mining import MiningConfig, mine
from remine.mining.arguments import make_problem
from remine.mining.config import NEGATIVES, POSITIVES
from remine.mining.miner import mine_problem
from remine.mining.problem import by_label

KINDS = ("random", "equal", "grid", "opposite", "copies", "near")


@st.composite
def galleries(draw, kinds=KINDS, most=24):
    """Few vectors, many of them equal, opposite or very near, in few classes; labels are texts.

    Their ids are shuffled, with gaps, some of them negative.
    """
    n, d = draw(st.integers(1, most)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(kinds))
    if kind == "random":
        d = max(d, 3)  # in fewer dimensions there are equal distances
    vectors = rng.normal(size=(n, d))
    if kind == "equal":
        vectors[:] = vectors[0]
    elif kind == "grid":
        vectors = rng.integers(-1, 2, (n, d)).astype(float)
        vectors[~vectors.any(axis=1)] = 1
    elif kind == "opposite":
        vectors = np.sign(rng.normal(size=(n, 1))) * vectors[0]
    elif kind == "copies":
        vectors = vectors[rng.integers(0, max(1, n // 3), n)]
    elif kind == "near":
        vectors = vectors[0] + 1e-2 * vectors
    labels = [f"c{c}" for c in rng.integers(0, draw(st.integers(1, 5)), n)]
    ids = rng.choice(1000, n, replace=False) - 500
    return unit(vectors.astype(np.float32)), labels, ids


settings_of_all = {
    "positives": st.sampled_from(POSITIVES),
    "max_positives": st.sampled_from([0, 1, 3, 100]),
    "per_pair": st.sampled_from([1, 2, 30]),
    "margin": st.sampled_from([0.2, 1.0, 4.0]),
    "absolute_margin": st.sampled_from([0.0, 0.0, 0.1]),
    "relative_margin": st.sampled_from([0.0, 0.0, 0.95]),
    "near_duplicate": st.sampled_from([0.0, 0.0, 0.05]),
    "pool": st.just(4096),  # so many that each of a few items is in it
}


@pytest.mark.parametrize("strategy", NEGATIVES)
@settings(max_examples=80, deadline=None)
@given(galleries(), st.fixed_dictionaries(settings_of_all))
def test_every_strategy_agrees_with_the_plain_loop(oracle_of, strategy, gallery, values):
    config = MiningConfig(negatives=(strategy,), band=(0, 100), **values)
    vectors, labels, ids = gallery
    mining_result = mine(vectors, labels, config=config, ids=ids)
    problem = make_problem(vectors, labels, ids, None, None)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@pytest.mark.parametrize("strategy", NEGATIVES)
@settings(max_examples=40, deadline=None)
@given(
    galleries(("random",)),
    st.fixed_dictionaries(settings_of_all),
    st.sampled_from([(0, 1), (0, 3), (2, 5), (3, 1000)]),
    st.sampled_from([0, 1, 4, 30]),
)
def test_ranks_and_skipped_ones(oracle_of, strategy, gallery, values, band, skips):
    config = MiningConfig(negatives=(strategy,), band=band, skip_ranks=skips, **values)
    vectors, labels, ids = gallery
    mining_result = mine(vectors, labels, config=config, ids=ids)
    problem = make_problem(vectors, labels, ids, None, None)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@pytest.mark.parametrize("strategy", ["hardest", "semi_hard", "random_semi_hard", "rank_band"])
@settings(max_examples=40, deadline=None)
@given(galleries(("grid", "copies", "opposite")), st.sampled_from([1, 2]), st.integers(0, 3))
def test_ranks_and_skipped_ones_among_equals(oracle_of, strategy, gallery, per_pair, skips):
    config = MiningConfig(
        negatives=(strategy,), per_pair=per_pair, skip_ranks=skips, band=(0, 3), margin=4.0
    )
    vectors, labels, ids = gallery
    mining_result = mine(vectors, labels, config=config, ids=ids)
    problem = make_problem(vectors, labels, ids, None, None)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


def test_equal_negatives_that_are_skipped_do_not_hide_the_next():
    # Four negatives at distance 2, in places 0 to 3, and one at 4.
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 1], [-1, 0]], np.float32)
    config = MiningConfig(negatives=("hardest",), skip_ranks=4)
    triplets = mine(vectors, [0, 0, 1, 1, 1, 1, 1], config=config).triplets
    assert triplets.negative_id[triplets.anchor_id == 0].tolist() == [6]


def test_a_band_counts_each_of_several_equals():
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8], *[[0, 1]] * 6], np.float32)
    config = MiningConfig(negatives=("rank_band",), band=(1, 3), per_pair=4)
    triplets = mine(vectors, [0, 0, *[1] * 7], config=config).triplets
    of_first = triplets.take(triplets.anchor_id == 0)
    assert sorted(of_first.negative_id.tolist()) == [3, 4]
    assert of_first.negative_rank.tolist() == [1, 1]


def test_positives_nearly_as_far_have_windows_of_their_own():
    # A negative between two positives that are 1e-4 and 3e-4 away.
    vectors = unit(np.array([[1, 0], [1, 1e-4], [1, 3e-4], [1, 2e-4]], np.float32))
    mining_result = mine(vectors, [0, 0, 0, 1], config=MiningConfig(negatives=("semi_hard",)))
    of_first = mining_result.triplets.take(mining_result.triplets.anchor_id == 0)
    assert of_first.positive_id.tolist() == [1]


@settings(max_examples=60, deadline=None)
@given(galleries(), st.lists(st.sampled_from(NEGATIVES), min_size=2, max_size=3, unique=True))
def test_strategies_do_not_disturb_one_another(as_set, gallery, names):
    vectors, labels, ids = gallery
    config = MiningConfig(negatives=tuple(names), per_pair=2, band=(0, 100))
    together = mine(vectors, labels, config=config, ids=ids)
    alone = [
        mine(vectors, labels, config=replace(config, negatives=(name,)), ids=ids) for name in names
    ]
    assert as_set(together.triplets) == set().union(*(as_set(one.triplets) for one in alone))
    assert together.stats.answered == {n: alone[i].stats.triplets for i, n in enumerate(names)}


@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_several_labels_an_item(oracle_of, gallery, strategy, data):
    vectors, _, ids = gallery
    ids = np.sort(ids)
    subset = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)
    labels = [data.draw(subset) for _ in vectors]
    config = MiningConfig(negatives=(strategy,), max_positives=0, band=(0, 100), pool=4096)
    problem = make_problem(vectors, labels, ids, None, None)
    for anchor, custom in enumerate(labels):
        shared = {row for row, second in enumerate(labels) if set(custom) & set(second)} - {anchor}
        answer = oracle_of(problem, config).listed(problem.positives, anchor) - {anchor}
        assert answer == shared
    mining_result = mine_problem(problem, config)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_queries_against_a_corpus(oracle_of, gallery, strategy, data):
    corpus, _, ids = gallery
    ids = np.sort(ids)
    queries = unit(np.random.default_rng(0).normal(size=(5, corpus.shape[1])).astype(np.float32))
    answers = {q: data.draw(st.lists(st.sampled_from(ids.tolist()), max_size=3)) for q in range(5)}
    config = MiningConfig(negatives=(strategy,), max_positives=0, band=(0, 100), pool=4096)
    problem = make_problem(corpus, None, ids, queries, answers)
    mining_result = mine(corpus, config=config, ids=ids, queries=queries, positives=answers)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@settings(max_examples=60, deadline=None)
@given(galleries(), st.sampled_from(NEGATIVES), st.data())
def test_same_as_pairs_are_never_negatives_of_each_other(oracle_of, gallery, strategy, data):
    vectors, labels, ids = gallery
    item = st.sampled_from(ids.tolist())
    pairs = np.array(data.draw(st.lists(st.tuples(item, item), min_size=1, max_size=8)))
    config = MiningConfig(negatives=(strategy,), band=(0, 100), pool=4096)
    mining_result = mine(vectors, labels, config=config, ids=ids, same_as=pairs)
    pair = {*map(tuple, pairs.tolist()), *map(tuple, pairs[:, ::-1].tolist())}
    triplets = mining_result.triplets
    names = set(zip(triplets.anchor_id.tolist(), triplets.negative_id.tolist(), strict=True))
    assert not pair & names
    problem = make_problem(vectors, labels, ids, None, None).forbid(pairs)
    oracle_of(problem, config).check(triplets, mining_result.stats)


@settings(max_examples=60, deadline=None)
@given(galleries(), st.integers(0, 3))
def test_second_negatives_are_others_of_the_negatives_class(gallery, seed):
    vectors, labels, ids = gallery
    config = MiningConfig(negatives=("uniform", "hardest"), per_pair=5, second_negative=True)
    triplets = mine(vectors, labels, config=config, ids=ids, seed=seed).triplets
    label = dict(zip(ids.tolist(), labels, strict=True))
    for negative, second in zip(
        triplets.negative_id.tolist(), triplets.negative2_id.tolist(), strict=True
    ):
        peers = [i for i in label if label[i] == label[negative] and i != negative]
        assert second in peers if peers else second == -1


@settings(max_examples=60, deadline=None)
@given(galleries(), st.integers(1, 4), st.integers(0, 3))
def test_the_hub_cap_keeps_the_smallest_hashes(as_set, loop_hash, gallery, cap, seed):
    vectors, labels, ids = gallery
    config = MiningConfig(negatives=("hardest", "semi_hard"), max_positives=0)
    free = mine(vectors, labels, config=config, ids=ids, seed=seed)
    capped = mine(vectors, labels, config=replace(config, hub_cap=cap), ids=ids, seed=seed)
    serving = defaultdict(set)
    for anchor, positive, negative, kind in as_set(free.triplets):
        hash_list = loop_hash(seed, anchor, positive, negative)
        serving[negative].add((hash_list, anchor, positive, negative, kind))
    remainder = {row[1:] for rows in serving.values() for row in sorted(rows)[:cap]}
    assert as_set(capped.triplets) == remainder
    assert capped.stats.capped == len(free.triplets) - len(capped.triplets)


def test_the_semi_hard_window_is_open_at_both_ends():
    # The positive is a copy, so the window ends at the margin itself.
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    d_an = rounded_once(*unit(vectors)[[0, 3]])
    for margin, expected in ((d_an, []), (np.nextafter(d_an, np.float32(4)), [3])):
        names = ("semi_hard", "random_semi_hard")
        config = MiningConfig(negatives=names, margin=float(margin))
        triplets = mine(vectors, [0, 0, 1, 1, 1], config=config).triplets
        assert triplets.negative_id[triplets.anchor_id == 0].tolist() == expected * 2
        config = replace(config, negatives=("uniform",), per_pair=9)
        triplets = mine(vectors, [0, 0, 1, 1, 1], config=config).triplets
        third = (triplets.anchor_id == 0) & (triplets.negative_id == 3)
        assert triplets.kind[third].tolist() == [SEMI_HARD if expected else EASY]


def test_the_least_difference_tells_hard_from_semi_hard():
    # A negative whose distance is the next float32 after the positive's.
    anchor, positive = np.float32([1, 0]), np.float32([0.6, 0.8])
    expected = np.nextafter(rounded_once(anchor, positive), np.float32(4))
    steps = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2)
    neighbours = positive + np.float32([-(2.0**-24), 2.0**-24]) * steps.astype(np.float32)
    negative = next(step for step in neighbours if rounded_once(anchor, step) == expected)
    gallery = Embeddings(
        ids=np.arange(3),
        label_codes=np.array([0, 0, 1], np.int32),
        vectors=np.stack([anchor, positive, negative]),
    )
    config = MiningConfig(negatives=("hard", "hardest", "semi_hard"))
    triplets = mine_problem(by_label(gallery), config).triplets
    assert triplets.kind[triplets.anchor_id == 0].tolist() == [SEMI_HARD] * 2


def rounded_once(a, b):
    """The distance of two vectors."""
    return ((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum().astype(np.float32)


@pytest.mark.parametrize("labels", [[1, 1, 1], ["a", "b", "c"], np.array([2.5, 2.5, 2.5])])
def test_one_class_or_only_singletons_have_no_triplets(labels):
    vectors = np.eye(3, dtype=np.float32)
    mining_result = mine(vectors, labels, config=MiningConfig(negatives=NEGATIVES))
    assert len(mining_result.triplets) == 0
    assert mining_result.stats.none_exists["hard"] == mining_result.stats.pairs
