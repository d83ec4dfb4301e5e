"""Engines other than the exact: honest about what they miss, right, and refused when bad."""

from dataclasses import replace

import numpy as np
import pytest

import remine.mining.engines.engines
import remine.mining.search.list_join
from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import unit
from remine.mining import MiningConfig, mine
from remine.mining.config import NEGATIVES
from remine.mining.engines.engines import ExactEngine, build_faiss_index, open_engine, prepare
from remine.mining.miner import mine_block, mine_problem

CONFIG = MiningConfig(max_positives=4, margin=0.3)


@pytest.fixture(scope="module")
def problem(clusters, problem_of):
    return problem_of(*clusters(6000))


@pytest.fixture(scope="module")
def small(clusters, problem_of):
    return problem_of(*clusters(1500))


@pytest.fixture(scope="module")
def exact(problem):
    return mine_problem(problem, replace(CONFIG, engine="exact"))


@pytest.fixture(scope="module")
def exact_small(small):
    return mine_problem(small, replace(CONFIG, engine="exact"))


def share(as_set, mined, exact):
    """How much of the exact answer was mined."""
    return len(as_set(mined.triplets) & as_set(exact.triplets)) / len(exact.triplets)


@pytest.fixture
def many_lists(monkeypatch):
    """As a large gallery has them and at its prices: lists for a few thousand items."""
    monkeypatch.setattr(remine.mining.search.list_join, "LEAST", 20)
    monkeypatch.setattr(remine.mining.engines.engines, "VISITS", (4, 8, 16, 32))
    monkeypatch.setattr(remine.mining.engines.engines, "ROW_COST", 0.3)
    monkeypatch.setattr(remine.mining.engines.engines, "MAX_COST", 2.0)
    monkeypatch.setattr(remine.mining.engines.engines, "LEVEL_COST", 0.0)
    monkeypatch.setattr(
        remine.mining.search.list_join, "fast_half", lambda: True
    )  # the votes depend on it


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wished", [0.9, 0.97, 0.99])
@pytest.mark.usefixtures("many_lists")
def test_the_measured_recall_is_honest(problem, as_set, wished, seed):
    config = replace(CONFIG, negatives=("semi_hard",), recall=wished, recall_neighbours=0.8)
    exact = mine_problem(problem, replace(config, engine="exact"), seed)
    mining_result = mine_problem(problem, replace(config, engine="approximate"), seed)
    recall, stats = mining_result.setup.recall, mining_result.stats
    assert mining_result.setup.engine == "approximate"
    assert recall.negatives >= wished
    assert recall.neighbours >= 0.8
    assert recall.neighbours_low <= recall.neighbours
    # The sample is a third of all anchors; the rest it never saw.
    result = share(as_set, mining_result, exact)
    assert result >= max(wished, recall.negatives_low)
    # What later levels mend of what an earlier one has settled is not counted, but not much else.
    assert result <= recall.negatives + 0.6 * (1 - wished)
    for name in config.negatives:
        assert stats.answered[name] + stats.none_exists[name] + stats.not_found[name] == stats.pairs


@pytest.mark.usefixtures("many_lists")
def test_what_is_answered_by_levels_has_true_ranks_and_no_item_twice(problem, as_set):
    config = replace(CONFIG, recall=0.97, recall_neighbours=0.8)
    mining_result = mine_problem(problem, replace(config, engine="approximate"))
    assert len(mining_result.setup.levels) > 1
    exact = mine_problem(problem, replace(config, engine="exact"))
    assert len(as_set(mining_result.triplets)) == len(mining_result.triplets)
    true = rank_of(exact.triplets)
    ranks = rank_of(mining_result.triplets)
    pair = ranks.keys() & true.keys()
    # Lists hide some negatives that are closer; they never add any.
    assert all(ranks[row] <= true[row] for row in pair)
    assert np.mean([ranks[row] == true[row] for row in pair]) > 0.9


def rank_of(triplets):
    columns = (triplets.anchor_id, triplets.positive_id, triplets.negative_id)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(rows, triplets.negative_rank.tolist(), strict=True))


def test_lists_that_cannot_pay_give_way_to_the_exact_engine(problem_of):
    noise = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    problem = problem_of(noise, np.arange(3000) % 300)
    mining_result = mine_problem(problem, replace(CONFIG, engine="approximate"))
    assert mining_result.setup.engine == "exact"
    assert mining_result.setup.recall is None
    assert "as much as exact" in mining_result.setup.reason


@pytest.mark.parametrize("n", [1, 3, 200])
def test_small_and_equal_galleries(problem_of, n):
    vectors = np.ones((n, 8), np.float32)
    config = MiningConfig(engine="approximate", negatives=("hardest",))
    mining_result = mine_problem(problem_of(vectors, np.arange(n) % 3), config)
    assert mining_result.stats.answered["hardest"] == mining_result.stats.pairs


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:IVF20,Flat"])
@pytest.mark.usefixtures("many_lists")
def test_a_setup_opens_as_the_same_engine(problem, as_bytes, engine):
    config = replace(CONFIG, engine=engine, recall=0.97, recall_neighbours=0.9)
    setup, prepared = prepare(problem, config, 0)
    assert setup.to_json()["engine"] == engine.partition(":")[0]
    repetition = open_engine(problem, setup)
    one, two = (mine_block(e, slice(0, 900), config)[0] for e in (prepared, repetition))
    assert as_bytes(one) == as_bytes(two)


@pytest.mark.parametrize("candidates", [1, 10, 100, 1500, 10_000])
def test_an_exact_index_is_exact(small, exact_small, as_set, candidates):
    config = replace(CONFIG, engine="faiss:Flat", candidates=candidates)
    mining_result = mine_problem(small, config)
    assert as_set(mining_result.triplets) == as_set(exact_small.triplets)
    assert rank_of(mining_result.triplets) == rank_of(exact_small.triplets)
    assert mining_result.stats == exact_small.stats
    assert mining_result.setup.recall.negatives == 1  # its lists may be short, its answers are not


@pytest.mark.parametrize("scale", [1e-3, 1e-4, 1e-5])
def test_an_exact_index_is_exact_among_near_copies(problem_of, scale):
    rng = np.random.default_rng(0)
    vectors = unit((rng.normal(size=64) + scale * rng.normal(size=(400, 64))).astype(np.float32))
    problem = problem_of(vectors, np.arange(400) % 40)
    config = replace(CONFIG, negatives=("hardest", "semi_hard"), candidates=12)
    exact = mine_problem(problem, config).triplets
    mining_result = mine_problem(problem, replace(config, engine="faiss:Flat")).triplets
    np.testing.assert_array_equal(mining_result.d_an, exact.d_an)
    assert rank_of(mining_result) == rank_of(exact)


@pytest.mark.parametrize("strategy", NEGATIVES)
def test_an_index_answers_every_strategy_among_equals(oracle_of, problem_of, strategy):
    rng = np.random.default_rng(0)
    grid = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    grid[~grid.any(axis=1)] = 1
    problem = problem_of(grid, rng.integers(0, 5, 40))
    config = MiningConfig(
        negatives=(strategy,), per_pair=3, band=(0, 100), pool=10_000, margin=0.8,
        engine="faiss:Flat", candidates=1000,
    )  # fmt: skip
    mining_result = mine_problem(problem, config)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@pytest.mark.parametrize("strategy", NEGATIVES)
def test_an_index_answers_every_strategy_as_the_plain_loop(
    oracle_of, clusters, problem_of, strategy
):
    problem = problem_of(*clusters(60, d=5))
    config = MiningConfig(
        negatives=(strategy,), per_pair=3, band=(2, 9), skip_ranks=1, pool=10_000, margin=0.5,
        engine="faiss:Flat", candidates=20,
    )  # fmt: skip
    mining_result = mine_problem(problem, config)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@pytest.mark.parametrize("wished", [0.9, 0.998])
def test_an_index_with_lists_reaches_the_wished_recall(problem, exact, as_set, wished):
    mining_result = mine_problem(problem, replace(CONFIG, engine="faiss:IVF16,Flat", recall=wished))
    recall = mining_result.setup.recall
    assert recall.neighbours >= wished
    assert 1 <= mining_result.setup.nprobe <= 16
    assert share(as_set, mining_result, exact) >= wished - 0.01
    assert sum(mining_result.stats.not_found.values()) > 0  # within its list nobody knows


@pytest.mark.parametrize("wished", [0.9, 0.998])
def test_the_recall_measured_through_an_index_is_that_of_what_it_mines(
    problem, exact, as_set, wished
):
    mining_result = mine_problem(problem, replace(CONFIG, engine="faiss:IVF16,Flat", recall=wished))
    result = share(as_set, mining_result, exact)
    assert mining_result.setup.recall.negatives == pytest.approx(result, abs=0.01)


def test_an_index_that_cannot_reach_the_wished_recall_is_refused(small):
    with pytest.raises(InputError, match=r"but the index finds 0\.\d+ of the 10 nearest"):
        mine_problem(small, replace(CONFIG, engine="faiss:PQ2x4"))


def test_a_factory_is_chosen_where_none_is_named(small):
    assert mine_problem(small, replace(CONFIG, engine="faiss:")).setup.factory == "IVF38,Flat"


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_given_index_is_mined_through(clusters, as_set, shuffled):
    vectors, labels = clusters(1500)
    ids = np.random.default_rng(0).choice(10**9, 1500, replace=False) - 5 * 10**8
    ids[7] = -1  # FAISS's own sign for none
    order = np.random.default_rng(1).permutation(1500) if shuffled else np.arange(1500)
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(32))
    index.add_with_ids(vectors[order], ids[order])
    mining_result = mine(vectors, labels.tolist(), ids=ids, config=CONFIG, index=index)
    assert mining_result.setup.reason == "the index was given"
    assert mining_result.setup.recall.neighbours == 1
    exact = mine(vectors, labels.tolist(), ids=ids, config=CONFIG)
    assert as_set(mining_result.triplets) == as_set(exact.triplets)


def test_strangers_in_a_given_index_are_passed_over(clusters, as_set):
    vectors, labels = clusters(1500)
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(32))
    index.add_with_ids(vectors, np.arange(1500))
    index.add_with_ids(vectors[:300], np.arange(5000, 5300))
    mining_result = mine(vectors, labels.tolist(), config=CONFIG, index=index)
    exact = mine(vectors, labels.tolist(), config=CONFIG)
    assert set(mining_result.triplets.negative_id.tolist()) <= set(range(1500))
    assert len(as_set(mining_result.triplets) & as_set(exact.triplets)) >= 0.99 * len(
        exact.triplets
    )
    true = rank_of(exact.triplets)
    assert all(rank <= true.get(row, rank) for row, rank in rank_of(mining_result.triplets).items())


@pytest.mark.parametrize("wrong", ["order", "ids", "some"])
def test_an_index_of_other_vectors_is_refused(clusters, wrong):
    vectors, labels = clusters(1500)
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(32))
    ids = np.arange(1500)
    if wrong == "order":
        index.add_with_ids(np.roll(vectors, 1, axis=0), ids)
    elif wrong == "ids":
        index.add_with_ids(vectors, ids + 7000)
    else:
        index.add_with_ids(vectors[:700], ids[:700])
    with pytest.raises(InputError, match=r"of the 10 nearest negatives.*: lower the limit"):
        mine(vectors, labels.tolist(), config=CONFIG, index=index)


def test_an_index_of_other_dimensions_is_refused(clusters):
    vectors, labels = clusters(100)
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(16))
    index.add_with_ids(np.ascontiguousarray(vectors[:, :16]), np.arange(100))
    with pytest.raises(InputError, match="16"):
        mine(vectors, labels.tolist(), config=CONFIG, index=index)


@pytest.mark.parametrize("factory", ["Foo", "IVF5000,Flat"])
def test_a_bad_factory_is_refused(clusters, problem_of, factory):
    with pytest.raises(InputError, match=f"mining.engine 'faiss:{factory}': FAISS reports"):
        mine_problem(problem_of(*clusters(200)), replace(CONFIG, engine=f"faiss:{factory}"))


def test_an_index_answers_with_the_ids_of_the_gallery(small):
    _, ids = build_faiss_index(small, "Flat", 1).search(small.gallery[:20], 1)
    assert ids[:, 0].tolist() == small.gallery_ids[:20].tolist()


def test_the_exact_engine_is_certain(small):
    setup, engine = prepare(small, CONFIG, 0)
    assert isinstance(engine, ExactEngine)
    assert setup.recall is None
    _, stats = mine_block(engine, slice(len(small)), CONFIG)
    assert not any(stats.not_found.values())
