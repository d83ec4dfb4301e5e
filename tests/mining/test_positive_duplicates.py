"""Copies of a positive among the negatives: counted, and barred on request."""

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.data.types import unit
from remine.mining import MiningConfig, mine
from remine.mining.arguments import make_problem
from remine.mining.miner import mine_shards
from remine.mining.strategies.positive_duplicates import MAX_DEPTH, bar_duplicates, items_named

HARDEST = MiningConfig(negatives=("hardest", "hard"))


@pytest.fixture(scope="module")
def corpus():
    """400 documents of which 200 to 299 repeat 0 to 99, and 100 queries near the first 100."""
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(400, 32)).astype(np.float32)
    documents[200:300] = documents[:100]
    queries = (documents[:100] + 0.6 * rng.normal(size=(100, 32))).astype(np.float32)
    return documents, {"queries": queries, "positives": {i: [i] for i in range(90)}}


def is_copy(triplets):
    return triplets.negative_id == triplets.positive_id + 200


def test_copies_of_the_answer_are_counted(corpus):
    documents, arguments = corpus
    mining_result = mine(documents, config=HARDEST, **arguments)
    copies = int(is_copy(mining_result.triplets).sum())
    assert copies > 90
    assert mining_result.card()["positive_copies"] == mining_result.stats.positive_copies == copies
    line = mining_result.stats.copies_line()
    assert line.startswith(f"{copies} of {len(mining_result.triplets)} negatives have exactly")
    assert "mining.positive_duplicate" in line


def test_equal_distances_alone_are_no_copies():
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]], np.float32)
    mining_result = mine(vectors, [0, 0, 1, 2], config=HARDEST)
    assert (mining_result.triplets.d_ap == mining_result.triplets.d_an).any()
    assert mining_result.stats.positive_copies == 0
    assert mining_result.stats.copies_line() == ""


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:Flat"])
def test_the_guard_bars_copies_and_nothing_else(corpus, engine):
    documents, arguments = corpus
    config = MiningConfig(negatives=("hardest",), positive_duplicate=1e-6, engine=engine)
    mining_result = mine(documents, config=config, **arguments)
    assert mining_result.stats.positive_copies == 0
    vectors, queries = (unit(side).astype(float) for side in (documents, arguments["queries"]))
    distances = ((queries[:90, None] - vectors) ** 2).sum(axis=2)
    distances[np.arange(90), np.arange(90)] = distances[np.arange(90), np.arange(90) + 200] = 9
    assert mining_result.triplets.negative_id.tolist() == distances.argmin(axis=1).tolist()


@pytest.mark.parametrize("limit", [1e-6, 0.3, 1.0])
def test_what_is_near_any_item_of_the_class_is_barred(limit):
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(120, 4)).astype(np.float32))
    vectors[60:80] = vectors[:20]
    labels = np.arange(120) // 4
    tags = [[int(c)] for c in labels]
    problem = make_problem(vectors, tags, None, None, None).forbid(np.array([[0, 50]]))
    anchor, row = bar_duplicates(problem, MiningConfig(positive_duplicate=limit)).exclusions.flat()
    wide = vectors.astype(float)
    near = ((wide[:, None] - wide) ** 2).sum(axis=2) <= limit
    same_class = labels[:, None] == labels
    expected = same_class | (same_class.astype(int) @ near > 0)
    expected[0, 50] = expected[50, 0] = True
    assert set(zip(anchor.tolist(), row.tolist(), strict=True)) == set(
        zip(*(side.tolist() for side in np.nonzero(expected)), strict=True)
    )


def test_the_guard_holds_for_shards(corpus, as_bytes):
    documents, arguments = corpus
    config = MiningConfig(negatives=("hardest", "semi_hard"), positive_duplicate=1e-6)
    problem = make_problem(documents, None, None, **arguments)
    shards = [(0, problem.gallery[:150]), (150, problem.gallery[150:])]
    triplets, stats = mine_shards(bar_duplicates(problem, config), shards, config)
    complete = mine(documents, config=config, **arguments)
    assert as_bytes(triplets) == as_bytes(complete.triplets)
    assert stats == complete.stats


def test_too_many_duplicates_are_refused():
    vectors = np.ones((MAX_DEPTH + 2, 2), np.float32)
    labels = np.arange(len(vectors)) // 2
    with pytest.raises(InputError, match=r"positive_duplicate is 1, but item 0 has 4,096 items"):
        mine(vectors, labels, config=MiningConfig(positive_duplicate=1.0))


def test_an_item_is_called_by_the_id_of_the_user(monkeypatch):
    monkeypatch.setattr("remine.mining.strategies.positive_duplicates.MAX_DEPTH", 8)
    vectors = unit(np.ones((40, 4), np.float32))
    problem = make_problem(vectors, np.arange(40) // 4, None, None, None)
    config = MiningConfig(positive_duplicate=0.1)
    with pytest.raises(InputError, match="item 0 has 8 items or more"):
        bar_duplicates(problem, config)
    with (
        pytest.raises(InputError, match=r"is 0\.1, but item 'sku-0' has 8 items or more"),
        items_named(lambda number: f"sku-{number}"),
    ):
        bar_duplicates(problem, config)
