"""Micro-batching: waiting queries of one version with equal options are searched together."""

import asyncio
import threading

import numpy as np
import pytest

from remine.data.store.store import Store
from remine.flows.query.snapshot import Filter, Queries, SearchOptions, Snapshot
from remine.flows.serving.batcher import MAX_QUERIES, Batcher
from remine.flows.serving.counters import Counters


@pytest.fixture(scope="module")
def snapshots(cycle_store):
    store = Store(cycle_store)
    return [Snapshot(store, store.version(number)) for number in (2, 3)]


class Watched:
    """A snapshot that records the sizes of its searches and blocks the first until `go` is set."""

    def __init__(self, snapshot):
        self.snapshot, self.sizes, self.go = snapshot, [], threading.Event()

    def search(self, queries, options):
        self.sizes.append(len(queries))
        if len(self.sizes) == 1:
            assert self.go.wait(10)
        return self.snapshot.search(queries, options)


def run(watched, *requests):
    """The answers to requests that arrive while the first search is blocked."""

    async def main():
        batcher = Batcher(Counters())
        tasks = []
        for snapshot, queries, options in requests:
            tasks.append(asyncio.create_task(batcher.search(snapshot, queries, options)))
            await asyncio.sleep(0.02)
        watched.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.close()
        return answers

    return asyncio.run(main())


def assert_same(answers, alone):
    np.testing.assert_array_equal(answers.rows, alone.rows)
    finite = np.isfinite(alone.distances)
    np.testing.assert_allclose(answers.distances[finite], alone.distances[finite], atol=1e-5)


def test_waiting_queries_are_merged_and_answered_as_if_alone(snapshots):
    snapshot = snapshots[1]
    record = Watched(snapshot)
    queries = [snapshot.item_queries(np.array(ids)) for ids in ([1], [2], [3, 4], [500], [41])]
    results = run(record, *[(record, one, SearchOptions(k=4)) for one in queries])
    assert record.sizes == [1, 5]
    for one, answers in zip(queries, results, strict=True):
        assert_same(answers, snapshot.search(one, SearchOptions(k=4)))


def test_other_versions_and_options_are_searched_separately(snapshots):
    record, second = Watched(snapshots[1]), Watched(snapshots[0])
    second.go.set()
    one = snapshots[1].item_queries(np.array([3]))
    test = SearchOptions(k=4, item_filter=Filter(splits=("test",)))
    requests = [
        (record, one, SearchOptions(k=4)),
        (record, one, SearchOptions(k=4)),
        (second, one, SearchOptions(k=4)),
        (record, one, test),
        (record, one, SearchOptions(k=5)),
        (record, one, SearchOptions(k=4)),
        (record, one, test),
    ]
    results = run(record, *requests)
    assert sorted(record.sizes) == [1, 1, 2, 2]
    assert second.sizes == [1]
    for (snapshot, queries, options), answers in zip(requests, results, strict=True):
        assert_same(answers, snapshot.snapshot.search(queries, options))


def test_distinct_queries_are_not_merged(snapshots):
    record = Watched(snapshots[1])
    queries = [snapshots[1].item_queries(np.array([i])) for i in (3, 5, 500)]
    options = SearchOptions(k=20, distinct=True)
    for one, answers in zip(
        queries, run(record, *[(record, one, options) for one in queries]), strict=True
    ):
        assert_same(answers, snapshots[1].search(one, options))
    assert record.sizes == [1, 1, 1]


def test_explained_queries_are_not_merged(snapshots):
    record = Watched(snapshots[1])
    queries = [snapshots[1].item_queries(np.array(ids)) for ids in ([1], [2, 3], [4])]
    options = SearchOptions(k=4, explain=True)
    answers = run(record, *((record, one, options) for one in queries))
    assert [one.explanation.queries for one in answers] == [1, 2, 1]


def test_the_explanation_of_a_split_batch_counts_all_queries(snapshots):
    record = Watched(snapshots[1])
    ids = np.resize(snapshots[1].catalogue.ids, 2 * MAX_QUERIES + 7)
    request = record, snapshots[1].item_queries(ids), SearchOptions(k=2, explain=True)
    assert run(record, request)[0].explanation.queries == 2 * MAX_QUERIES + 7


def test_a_large_batch_is_split(snapshots):
    record = Watched(snapshots[1])
    ids = np.resize(snapshots[1].catalogue.ids, 3 * MAX_QUERIES + 5)
    large = snapshots[1].item_queries(ids)
    results = run(
        record,
        (record, large, SearchOptions(k=3)),
        (record, snapshots[1].item_queries(ids[:1]), SearchOptions(k=3)),
    )
    assert max(record.sizes) <= MAX_QUERIES
    assert sum(record.sizes) == len(ids) + 1
    assert_same(results[0], snapshots[1].search(large, SearchOptions(k=3)))


def test_an_error_reaches_its_request_alone(snapshots):
    record = Watched(snapshots[1])
    bad = Queries(vectors=np.ones((1, 3), np.float32), excluded_ids=np.array([-1]))
    good = snapshots[1].item_queries(np.array([3]))
    results = run(record, (record, bad, SearchOptions(k=3)), (record, good, SearchOptions(k=3)))
    assert "the index holds vectors of 16" in str(results[0])
    assert_same(results[1], snapshots[1].search(good, SearchOptions(k=3)))
