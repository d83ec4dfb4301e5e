"""The engines that are not exact: never wrong, honest about what they miss, refused when bad."""

import numpy as np
import pytest

import mining.engines
import mining.join
from data.errors import InputError
from mining import MiningConfig, mine
from mining.engines import Join, open_engine, open_index, prepare
from mining.join import Lists, train_centroids
from mining.miner import mine_block, mine_problem
from mining.policy import EXACT_LIMIT, choose
from mining.recall import ANY_DEPTH

CONFIG = MiningConfig(max_positives=4, margin=0.3)


@pytest.fixture(scope="module")
def problem(clustered, problem_of):
    return problem_of(*clustered(6000))


@pytest.fixture(scope="module")
def exact(problem):
    return mine_problem(problem, MiningConfig(max_positives=4, margin=0.3, engine="exact"))


def as_set(triplets):
    rows = (triplets.anchor_id, triplets.positive_id, triplets.negative_id, triplets.kind)
    return set(zip(*(row.tolist() for row in rows), strict=True))


def mined_with(engine, problem):
    return mine_problem(problem, MiningConfig(max_positives=4, margin=0.3, engine=engine))


@pytest.mark.parametrize("half", [True, False])
def test_all_lists_visited_is_exact(problem, exact, monkeypatch, half):
    monkeypatch.setattr(mining.join, "fast_half", lambda: half)
    lists = Lists.of(problem, train_centroids(problem, 0))
    engine = Join(lists=lists, levels=((len(lists.centroids), ANY_DEPTH),))
    triplets, _ = mine_block(engine, slice(len(problem)), CONFIG)
    assert as_set(triplets) == as_set(exact.triplets)
    by_pair = np.lexsort((triplets.kind, triplets.positive_id, triplets.anchor_id))
    wanted = exact.triplets
    order = np.lexsort((wanted.kind, wanted.positive_id, wanted.anchor_id))
    np.testing.assert_array_equal(triplets.negative_rank[by_pair], wanted.negative_rank[order])


@pytest.mark.parametrize("visits", [1, 3, 8])
def test_few_lists_miss_but_are_never_wrong(problem, exact, visits):
    lists = Lists.of(problem, train_centroids(problem, 0))
    engine = Join(lists=lists, levels=((visits, ANY_DEPTH),))
    triplets, stats = mine_block(engine, slice(len(problem)), CONFIG)
    assert len(as_set(triplets)) == len(triplets)
    classes = problem.positives.starts.tolist()  # one list of positives a class
    label = dict(zip(problem.gallery_ids.tolist(), classes, strict=True))
    for anchor, positive, negative, _ in as_set(triplets):
        assert label[anchor] == label[positive] != label[negative]
    hard = triplets.d_an <= triplets.d_ap
    np.testing.assert_array_equal(hard, triplets.kind == 0)
    assert (triplets.d_an[~hard] < triplets.d_ap[~hard] + np.float32(0.3)).all()
    assert sum(stats.none_exists.values()) == 0
    for name in CONFIG.negatives:
        assert stats.answered[name] + stats.not_found[name] == stats.pairs
    assert len(as_set(triplets) & as_set(exact.triplets)) < len(exact.triplets)


def test_deep_windows_get_the_exact_answer(problem, exact):
    lists = Lists.of(problem, train_centroids(problem, 0))
    engine = Join(lists=lists, levels=((1, -1),))  # nothing is trusted
    triplets, stats = mine_block(engine, slice(len(problem)), CONFIG)
    assert as_set(triplets) == as_set(exact.triplets)
    assert stats.none_exists == exact.stats.none_exists


def test_the_measured_recall_is_honest(problem, exact, monkeypatch):
    monkeypatch.setattr(mining.join, "LEAST", 20)  # many lists, as a large gallery has
    config = MiningConfig(
        max_positives=4, margin=0.3, engine="approximate", recall=0.97, recall_neighbours=0.9
    )
    mined = mine_problem(problem, config)
    assert mined.setup.engine == "approximate"
    recall = mined.setup.recall
    assert recall.negatives >= 0.97
    assert recall.neighbours >= 0.9
    assert recall.negatives_low <= recall.negatives
    found = len(as_set(mined.triplets) & as_set(exact.triplets)) / len(exact.triplets)
    assert found >= recall.negatives_low - 0.005
    assert found < 1


def test_lists_that_cannot_pay_give_way_to_the_exact_engine(problem_of):
    noise = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    mined = mined_with("approximate", problem_of(noise, np.arange(3000) % 300))
    assert mined.setup.engine == "exact"
    assert "as much as exact" in mined.setup.reason


@pytest.mark.parametrize("n", [3, 200])
def test_small_and_equal_galleries(problem_of, n):
    vectors = np.ones((n, 8), np.float32)
    config = MiningConfig(engine="approximate", negatives=("hardest",))
    mined = mine_problem(problem_of(vectors, np.arange(n) % 3), config)
    assert mined.stats.answered["hardest"] == mined.stats.pairs


def test_a_setup_opens_as_the_same_engine(problem):
    config = MiningConfig(max_positives=4, margin=0.3, engine="approximate")
    setup, engine = prepare(problem, config, 0)
    again = open_engine(problem, setup)
    one, two = (mine_block(e, slice(0, 900), config)[0] for e in (engine, again))
    assert as_set(one) == as_set(two)


def test_an_exact_index_is_exact(problem, exact):
    mined = mined_with("faiss:Flat", problem)
    assert as_set(mined.triplets) == as_set(exact.triplets)
    assert mined.stats.none_exists == exact.stats.none_exists


def test_an_index_with_lists_reaches_the_wished_recall(problem, exact):
    mined = mined_with("faiss:IVF64,Flat", problem)
    assert mined.setup.recall.neighbours >= CONFIG.recall
    found = len(as_set(mined.triplets) & as_set(exact.triplets)) / len(exact.triplets)
    assert found >= 0.99


def test_a_given_index_is_mined_through(clustered, problem_of):
    vectors, labels = clustered(1500)
    index = open_index(problem_of(vectors, labels), "Flat", 1)
    mined = mine(vectors, labels.tolist(), config=CONFIG, index=index)
    assert mined.setup.reason == "the index was given"
    exact = mine(vectors, labels.tolist(), config=CONFIG)
    assert as_set(mined.triplets) == as_set(exact.triplets)


def test_an_index_of_other_vectors_is_refused(clustered, problem_of):
    vectors, labels = clustered(1500)
    index = open_index(problem_of(np.roll(vectors, 1, axis=0), labels), "Flat", 1)
    with pytest.raises(InputError, match="of the 10 nearest negatives: wish for less"):
        mine(vectors, labels.tolist(), config=CONFIG, index=index)


@pytest.mark.parametrize("factory", ["Foo", "IVF5000,Flat"])
def test_a_bad_factory_is_refused(clustered, problem_of, factory):
    with pytest.raises(InputError, match=f"mining.engine 'faiss:{factory}': FAISS says"):
        mined_with(f"faiss:{factory}", problem_of(*clustered(200)))


def test_the_policy():
    auto = MiningConfig()
    assert choose(1000, EXACT_LIMIT, 64, auto).engine == "exact"
    assert choose(1000, EXACT_LIMIT + 1, 64, auto).engine == "approximate"
    assert choose(1000, 10**6, 64, MiningConfig(recall=1.0)).engine == "exact"
    assert choose(1000, 10, 64, MiningConfig(engine="approximate")).engine == "approximate"
    assert choose(1000, 10, 64, MiningConfig(engine="faiss:Flat")).engine == "faiss"
    large = choose(10**6, 10**6, 128, MiningConfig(memory_gb=0.1))
    assert (large.engine, large.shards) == ("exact", 5)
    sizes = [choose(n, n, 128, auto).seconds for n in (10**3, 10**4, 10**5)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positives": "best"}, "mining.positives is 'best'; known: all, random"),
        ({"negatives": ()}, r"mining.negatives is \[\]; known: semi_hard"),
        ({"negatives": ("hard", "hard")}, "name each strategy once"),
        ({"margin": 0.0}, "mining.margin is 0.0; it is a squared distance"),
        ({"band": (5, 5)}, r"mining.band is \[5, 5\]; it is two ranks"),
        ({"band": (5,)}, r"mining.band is \[5\]; it is two ranks"),
        ({"per_pair": 0}, "mining.per_pair is 0; it must be 1 to 1000"),
        ({"skip_ranks": -1}, "mining.skip_ranks is -1; it must be 0 to 1000"),
        ({"relative_margin": 1.5}, "mining.relative_margin is 1.5; it must be 0 to 1"),
        ({"recall": 0.1}, "mining.recall is 0.1; it must be 0.5 to 1"),
        ({"engine": "fast"}, "mining.engine is 'fast'; known: auto, exact, approximate"),
        ({"memory_gb": 0.0}, "mining.memory_gb is 0.0; it must be 0.01"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        MiningConfig(**values)
