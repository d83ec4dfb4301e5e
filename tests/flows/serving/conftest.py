"""A store and a server over it, for tests that do not change them."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from remine.data.store.store import Store
from remine.flows.query.snapshot import SearchOptions, Snapshot
from remine.flows.serving.app import make_app


@pytest.fixture(scope="module")
def store(cycle_store):
    return Store(cycle_store)


@pytest.fixture(scope="module")
def snapshot(store):
    return Snapshot(store, store.current())


@pytest.fixture(scope="module")
def client(store):
    with TestClient(make_app(store)) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(glyphs):
    return pq.read_table(glyphs)["image"].to_pylist()


@pytest.fixture(scope="session")
def expected_pairs():
    """(id, distance) of an item's neighbours, from the snapshot itself."""

    def pairs_of(snapshot, item, **options):
        answers = snapshot.search(snapshot.item_queries(np.array([item])), SearchOptions(**options))
        rows = answers.rows[0][answers.rows[0] >= 0]
        return list(
            zip(snapshot.catalogue.ids[rows].tolist(), answers.distances[0].tolist(), strict=False)
        )

    return pairs_of
