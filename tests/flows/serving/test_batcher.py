"""Micro-batching: what waits is asked together, of one version and wish, and answered as alone."""

import asyncio
import threading

import numpy as np
import pytest

from remine.data.store.store import Store
from remine.flows.query.snapshot import Filter, Queries, SearchOptions, Snapshot
from remine.flows.serving.batcher import MAX_QUERIES, Batcher
from remine.flows.serving.counters import Counters


@pytest.fixture(scope="module")
def snapshots(cycled):
    store = Store(cycled)
    return [Snapshot(store, store.version(number)) for number in (2, 3)]


class Watched:
    """A snapshot whose searches are written down, the first of them held until `go`."""

    def __init__(self, snapshot):
        self.snapshot, self.sizes, self.go = snapshot, [], threading.Event()

    def search(self, queries, options):
        self.sizes.append(len(queries))
        if len(self.sizes) == 1:
            assert self.go.wait(10)
        return self.snapshot.search(queries, options)


def run(watched, *requests):
    """All questions at once, while the first search is held."""

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


def test_what_waits_is_asked_together_and_answered_as_alone(snapshots):
    snapshot = snapshots[1]
    watched = Watched(snapshot)
    queries = [snapshot.item_queries(np.array(ids)) for ids in ([1], [2], [3, 4], [500], [41])]
    found = run(watched, *[(watched, one, SearchOptions(k=4)) for one in queries])
    assert watched.sizes == [1, 5]
    for one, answers in zip(queries, found, strict=True):
        assert_same(answers, snapshot.search(one, SearchOptions(k=4)))


def test_other_versions_and_wishes_are_asked_apart(snapshots):
    watched, other = Watched(snapshots[1]), Watched(snapshots[0])
    other.go.set()
    one = snapshots[1].item_queries(np.array([3]))
    test = SearchOptions(k=4, item_filter=Filter(splits=("test",)))
    requests = [
        (watched, one, SearchOptions(k=4)),
        (watched, one, SearchOptions(k=4)),
        (other, one, SearchOptions(k=4)),
        (watched, one, test),
        (watched, one, SearchOptions(k=5)),
        (watched, one, SearchOptions(k=4)),
        (watched, one, test),
    ]
    found = run(watched, *requests)
    assert sorted(watched.sizes) == [1, 1, 2, 2]
    assert other.sizes == [1]
    for (snapshot, queries, options), answers in zip(requests, found, strict=True):
        assert_same(answers, snapshot.snapshot.search(queries, options))


def test_duplicates_are_left_out_each_by_itself(snapshots):
    watched = Watched(snapshots[1])
    queries = [snapshots[1].item_queries(np.array([i])) for i in (3, 5, 500)]
    options = SearchOptions(k=20, distinct=True)
    for one, answers in zip(
        queries, run(watched, *[(watched, one, options) for one in queries]), strict=True
    ):
        assert_same(answers, snapshots[1].search(one, options))
    assert watched.sizes == [1, 1, 1]


def test_a_large_batch_is_cut_so_that_others_get_their_turn(snapshots):
    watched = Watched(snapshots[1])
    ids = np.resize(snapshots[1].catalogue.ids, 3 * MAX_QUERIES + 5)
    large = snapshots[1].item_queries(ids)
    found = run(
        watched,
        (watched, large, SearchOptions(k=3)),
        (watched, snapshots[1].item_queries(ids[:1]), SearchOptions(k=3)),
    )
    assert max(watched.sizes) <= MAX_QUERIES
    assert sum(watched.sizes) == len(ids) + 1
    assert_same(found[0], snapshots[1].search(large, SearchOptions(k=3)))


def test_a_fault_reaches_who_asked_and_the_line_goes_on(snapshots):
    watched = Watched(snapshots[1])
    bad = Queries(vectors=np.ones((1, 3), np.float32), excluded_ids=np.array([-1]))
    good = snapshots[1].item_queries(np.array([3]))
    found = run(watched, (watched, bad, SearchOptions(k=3)), (watched, good, SearchOptions(k=3)))
    assert "the index holds vectors of 16" in str(found[0])
    assert_same(found[1], snapshots[1].search(good, SearchOptions(k=3)))
