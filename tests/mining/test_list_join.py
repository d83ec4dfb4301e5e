"""The list-join: exact when all lists are visited, never wrong when few are."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import remine.mining.engines.engines
import remine.mining.search.list_join
from remine.data.types import Embeddings, unit
from remine.mining import MiningConfig
from remine.mining.arguments import make_problem
from remine.mining.config import NEGATIVES
from remine.mining.engines.engine_recall import ALL_WINDOWS, NO_WINDOWS
from remine.mining.engines.engines import ExactEngine, ListJoinEngine
from remine.mining.miner import mine_block, sort_by_anchor
from remine.mining.problem import by_label
from remine.mining.search.list_join import ListIndex, distance_beyond, nearest, train_centroids
from remine.mining.search.windows import WindowMatches, Windows
from remine.mining.strategies.negatives import plan_search

CONFIG = MiningConfig(max_positives=3, margin=0.3, per_pair=4, negatives=("semi_hard", "hard"))
CLUSTERS = 24


@pytest.fixture(scope="module")
def problem(clusters, problem_of):
    return problem_of(*clusters(1200, d=16))


@pytest.fixture(scope="module")
def centroids(problem):
    return random_centroids(problem)


@pytest.fixture(scope="module")
def exact(problem):
    return mine_block(ExactEngine(problem=problem), slice(len(problem)), CONFIG)


def random_centroids(problem, count=CLUSTERS):
    rows = np.random.default_rng(0).choice(len(problem.gallery), count, replace=False)
    return problem.gallery[rows].copy()


def joined(problem, centroids, levels, config=CONFIG, anchors=None):
    """The triplets and counts of the list-join with these levels."""
    engine = ListJoinEngine(lists=ListIndex.of(problem, centroids), levels=tuple(levels))
    return mine_block(engine, anchors or slice(len(problem)), config)


def ranked(triplets):
    """Every triplet with its rank, for each strategy's answers are told apart by kind."""
    columns = (
        triplets.anchor_id, triplets.positive_id, triplets.negative_id, triplets.kind,
        triplets.negative_rank,
    )  # fmt: skip
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def check_right(problem, triplets):
    """Positives of the anchor's class, negatives of another, kinds by distance, none twice."""
    sides = (triplets.anchor_id, triplets.positive_id, triplets.negative_id)
    anchor, positive, negative = (np.searchsorted(problem.gallery_ids, ids) for ids in sides)
    label = problem.partners.starts  # one list of rows a class
    rows = problem.self_rows[np.searchsorted(problem.anchor_ids, triplets.anchor_id)]
    np.testing.assert_array_equal(rows, anchor)
    assert (label[anchor] == label[positive]).all()
    assert (anchor != positive).all()
    assert (label[anchor] != label[negative]).all()
    for name, second in (("d_ap", positive), ("d_an", negative)):
        gap = problem.gallery[anchor].astype(np.float64) - problem.gallery[second]
        np.testing.assert_allclose(getattr(triplets, name), (gap**2).sum(axis=1), rtol=1e-6)
    assert len(set(ranked(triplets))) == len(triplets)
    semi_hard = (triplets.d_an > triplets.d_ap) & (
        triplets.d_an < triplets.d_ap + np.float32(CONFIG.margin)
    )
    np.testing.assert_array_equal(triplets.kind == 1, semi_hard)
    np.testing.assert_array_equal(triplets.kind == 0, triplets.d_an <= triplets.d_ap)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("members", [512, 64])
def test_all_lists_visited_is_exact(problem, centroids, exact, monkeypatch, half, members):
    monkeypatch.setattr(remine.mining.search.list_join, "fast_half", lambda: half)
    monkeypatch.setattr(remine.mining.search.list_join, "MEMBERS", members)
    monkeypatch.setattr(remine.mining.search.list_join, "COLUMNS", 128)
    triplets, stats = joined(problem, centroids, [(CLUSTERS, ALL_WINDOWS)])
    assert ranked(triplets) == ranked(exact[0])
    assert stats.answered == exact[1].answered


@pytest.mark.parametrize("first", [1, 4, 20])
def test_levels_on_the_way_to_all_lists_change_nothing(problem, centroids, exact, first):
    triplets, _ = joined(problem, centroids, [(first, NO_WINDOWS), (CLUSTERS, ALL_WINDOWS)])
    assert ranked(triplets) == ranked(exact[0])


def test_many_levels_never_find_an_item_twice(problem, centroids):
    levels = [(2, -0.4), (4, -0.3), (8, -0.1), (16, ALL_WINDOWS)]
    triplets, _ = joined(problem, centroids, levels)
    check_right(problem, triplets)


@pytest.mark.parametrize("visits", [1, 3, 8])
def test_few_lists_miss_but_are_never_wrong(problem, centroids, exact, visits):
    triplets, stats = joined(problem, centroids, [(visits, ALL_WINDOWS)])
    check_right(problem, triplets)
    assert sum(stats.none_exists.values()) == 0  # nobody can know
    for name in CONFIG.negatives:
        assert stats.answered[name] + stats.not_found[name] == stats.pairs * CONFIG.per_pair
    nearest_found = {row[:4] for row in ranked(triplets)} & {row[:4] for row in ranked(exact[0])}
    assert 0 < len(nearest_found) < len(exact[0])


def test_more_lists_find_more(problem, centroids, exact):
    right = [
        len(set(ranked(joined(problem, centroids, [(v, ALL_WINDOWS)])[0])) & set(ranked(exact[0])))
        for v in (1, 2, 6, 24)
    ]
    assert right == sorted(right)
    assert right[-1] == len(exact[0])


def test_deep_windows_get_the_exact_answer(problem, centroids, exact):
    triplets, stats = joined(problem, centroids, [(1, NO_WINDOWS)])  # nothing is trusted
    assert ranked(triplets) == ranked(exact[0])
    assert stats == exact[1]


def found_by(problem, centroids, levels):
    """What the join finds in the windows that CONFIG asks for, what it calls cut, the windows."""
    lists = ListIndex.of(problem, centroids)
    windows = plan_search(lists.problem, CONFIG, 0)[1].windows
    result = WindowMatches.empty(windows)
    cut = ListJoinEngine(lists=lists, levels=levels).search(slice(len(problem)), windows, result)
    return lists, windows, result, cut


def test_windows_beyond_the_line_are_searched_exactly(problem, centroids):
    lists, windows, result, cut = found_by(problem, centroids, ((2, -0.2),))
    alone, true = WindowMatches.empty(windows), WindowMatches.empty(windows)
    reach = lists.visit(np.arange(len(problem)), windows, alone, 0, 2)
    ExactEngine(problem=lists.problem).search(slice(len(problem)), windows, true)
    np.testing.assert_array_equal(cut, distance_beyond(windows, alone, reach) <= -0.2)
    assert 0.1 < cut.mean() < 0.9
    for name in ("rows", "distances", "closer"):
        remainder, right = getattr(result, name), getattr(alone, name)
        np.testing.assert_array_equal(remainder[cut], right[cut])
        np.testing.assert_array_equal(remainder[~cut], getattr(true, name)[~cut])


@pytest.mark.parametrize("visits", [2, 6])
def test_a_radius_within_the_visited_lists_nothing_can_be_missed(problem_of, visits):
    rng = np.random.default_rng(5)
    centroids = unit(rng.standard_normal((CLUSTERS, 16)).astype(np.float32))
    noise = 0.15 * rng.standard_normal((1200, 16)) * rng.random((1200, 1))
    vectors = unit((np.repeat(centroids, 50, axis=0) + noise).astype(np.float32))
    problem = problem_of(vectors, rng.integers(0, 30, 1200).astype(np.int32))
    home = nearest(problem.gallery, centroids, 1)[:, 0]
    radius = np.linalg.norm(problem.gallery - centroids[home], axis=1).max() + 0.02  # of bfloat16
    lists, windows, result, cut = found_by(problem, centroids, ((visits, -float(radius)),))
    true = WindowMatches.empty(windows)
    ExactEngine(problem=lists.problem).search(slice(len(problem)), windows, true)
    assert cut.mean() > 0.01
    np.testing.assert_array_equal(result.rows, true.rows)
    np.testing.assert_array_equal(result.closer, true.closer)


def test_a_window_that_is_not_full_reaches_to_its_ceiling():
    windows = Windows(
        starts=np.array([0]),
        stops=np.array([2]),
        floor=np.zeros(2, np.float32),
        ceiling=np.array([1.44, 4], np.float32),
        depth=2,
    )
    result = WindowMatches.empty(windows)
    result.rows[1], result.distances[1] = (3, 5), (0.25, 0.36)
    rates = distance_beyond(windows, result, np.array([0.5], np.float32))
    np.testing.assert_allclose(rates, [0.7, 0.1], rtol=1e-6)


@pytest.mark.parametrize("visits", [1, 2, 5])
def test_every_list_that_an_anchor_votes_for_is_looked_into(problem, centroids, visits):
    lists = ListIndex.of(problem, centroids)
    layout = lists.problem
    n = len(layout)
    everything = Windows(
        starts=np.arange(n),
        stops=np.arange(n) + 1,
        floor=np.full(n, -1, np.float32),
        ceiling=np.full(n, 5, np.float32),
        depth=1,
    )
    result = WindowMatches.empty(everything)
    lists.visit(np.arange(n), everything, result, 0, visits)
    list_of = np.repeat(np.arange(CLUSTERS), np.diff(lists.edges))
    allowed = layout.partners.starts[:, None] != layout.partners.starts
    gap = 2 - 2 * layout.gallery.astype(np.float64) @ layout.gallery.T
    for anchor, votes in enumerate(nearest(layout.anchors, centroids, visits)):
        calls = gap[anchor][np.isin(list_of, votes) & allowed[anchor]]
        assert result.distances[anchor, 0] <= calls.min(initial=5) + 1e-5


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 1199), max_size=4))
def test_blocks_of_anchors_do_not_matter(problem, centroids, exact, cuts):
    engine = ListJoinEngine(
        lists=ListIndex.of(problem, centroids), levels=((CLUSTERS, ALL_WINDOWS),)
    )
    edges = [0, *sorted(cuts), 1200]
    parts = [mine_block(engine, slice(i, j), CONFIG)[0] for i, j in pairwise(edges)]
    assert sorted(row for part in parts for row in ranked(part)) == ranked(exact[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_matter(problem, centroids, exact, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        triplets, _ = joined(problem, centroids, [(CLUSTERS, ALL_WINDOWS)])
    finally:
        torch.set_num_threads(before)
    assert ranked(triplets) == ranked(exact[0])


def test_some_of_the_anchors_keep_their_positives(clusters):
    vectors, labels = clusters(600, d=16)
    gallery = Embeddings(ids=np.arange(600), label_codes=labels.astype(np.int32), vectors=vectors)
    problem = by_label(gallery, np.arange(0, 600, 17))
    triplets, _ = joined(problem, random_centroids(problem), [(CLUSTERS, ALL_WINDOWS)])
    exact, _ = mine_block(ExactEngine(problem=problem), slice(len(problem)), CONFIG)
    assert ranked(triplets) == ranked(exact)


@pytest.mark.parametrize("strategy", NEGATIVES)
def test_every_strategy_agrees_with_the_plain_loop(oracle_of, clusters, problem_of, strategy):
    problem = problem_of(*clusters(60, d=5))
    config = MiningConfig(
        negatives=(strategy,), per_pair=3, band=(2, 9), skip_ranks=1, pool=10_000, margin=0.5
    )
    engine = ListJoinEngine(
        lists=ListIndex.of(problem, random_centroids(problem, 7)), levels=((7, ALL_WINDOWS),)
    )
    triplets, stats = mine_block(engine, slice(60), config)
    assert stats.none_exists[strategy] == 0 or strategy == "uniform"  # nobody can know
    oracle_of(problem, config).check(sort_by_anchor(triplets), stats, certain=False)


def test_queries_lists_of_labels_and_same_as_pairs_survive_the_layout(clusters, as_set):
    vectors, labels = clusters(300, d=8)
    several = [[f"a{c % 7}", f"b{c % 11}"] for c in labels.tolist()]
    answers = {q: [int(q), int(q) + 40] for q in range(0, 50, 3)}
    pairs = np.stack([np.arange(0, 100), np.arange(100, 200)], axis=1)
    problems = [
        make_problem(vectors, several, None, None, None),
        make_problem(vectors, None, None, vectors[:50] + 0.1, answers),
        make_problem(vectors, labels, None, None, None).forbid(pairs),
    ]
    for problem in problems:
        triplets, _ = joined(problem, random_centroids(problem), [(CLUSTERS, ALL_WINDOWS)])
        exact, _ = mine_block(ExactEngine(problem=problem), slice(len(problem)), CONFIG)
        assert len(exact)
        assert as_set(triplets) == as_set(exact)


def test_lists_that_hold_nothing(problem, exact):
    subset = random_centroids(problem)
    centroids = np.concatenate([subset, -subset[:5], subset[:3], subset[:3]])  # copies win nothing
    triplets, _ = joined(problem, centroids, [(len(centroids), ALL_WINDOWS)])
    assert ranked(triplets) == ranked(exact[0])
    joined(problem, centroids, [(3, ALL_WINDOWS)])


@pytest.mark.parametrize("n", [1, 3, 200])
@pytest.mark.parametrize("lists", [1, 9])
def test_copies_of_one_item(problem_of, n, lists):
    problem = problem_of(np.ones((n, 8), np.float32), np.arange(n) % 3)
    centroids = unit(np.random.default_rng(0).normal(size=(lists, 8)).astype(np.float32))
    config = MiningConfig(negatives=("hardest",), per_pair=2)
    triplets, stats = joined(problem, centroids, [(lists, ALL_WINDOWS)], config)
    assert stats.answered["hardest"] == len(triplets) == stats.pairs * min(2, n - n // 3)
    assert not triplets.negative_rank.any()


@pytest.mark.parametrize("n", [1, 3, 400])
def test_training_makes_unit_centroids_for_any_gallery(problem_of, monkeypatch, n):
    monkeypatch.setattr(remine.mining.search.list_join, "LEAST", 1)
    vectors = unit(np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32))
    for gallery in (vectors, np.repeat(vectors[:1], n, axis=0)):
        centroids = train_centroids(problem_of(gallery, np.arange(n)), 0)
        assert 1 <= len(centroids) <= n
        assert np.isfinite(centroids).all()


@pytest.mark.parametrize("half", [True, False])
def test_the_nearest_centroids_come_in_order(monkeypatch, half):
    monkeypatch.setattr(remine.mining.search.list_join, "fast_half", lambda: half)
    monkeypatch.setattr(remine.mining.search.list_join, "ASSIGN", 100)
    rng = np.random.default_rng(0)
    vectors, centroids = (unit(rng.normal(size=(k, 24)).astype(np.float32)) for k in (333, 150))
    result = nearest(vectors, centroids, 20)
    scores = vectors.astype(np.float64) @ centroids.T
    answer = np.take_along_axis(scores, result, axis=1)
    best = -np.sort(-scores, axis=1)[:, :20]
    assert (np.diff(np.sort(result, axis=1), axis=1) > 0).all()  # none twice
    np.testing.assert_allclose(answer, best, atol=0.02 if half else 1e-6)
    assert nearest(vectors, centroids, 999).shape == (333, 150)
