"""Searching a stored index, and what the searcher refuses in FAISS's place."""

import faiss
import numpy as np
import pytest

from data.errors import InputError
from data.types import Embeddings, unit
from index.build import build_index
from index.search import MAX_K, Searcher

N, D = 2000, 16
FACTORIES = ["Flat", "IVF32,Flat"]


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    return Embeddings(
        ids=np.sort(rng.choice(10 * N, N, replace=False)) + 2**33,
        label_codes=np.zeros(N, np.int32),
        vectors=unit(rng.standard_normal((N, D)).astype(np.float32)),
    )


@pytest.fixture(scope="module", params=FACTORIES)
def searcher(request, embeddings, tmp_path_factory):
    """A searcher over the stored file, which visits every list, so that it is exact."""
    path = tmp_path_factory.mktemp("index") / "index.faiss"
    index, _ = build_index(embeddings, request.param)
    faiss.write_index(index, str(path))
    return Searcher(path, nprobe=32)


def test_finds_what_a_loop_finds(searcher, embeddings):
    queries = unit(np.random.default_rng(1).standard_normal((9, D)).astype(np.float32))
    found = searcher.search(queries, 5)
    for row, query in enumerate(queries.astype(np.float64)):
        distances = ((embeddings.vectors - query) ** 2).sum(axis=1)
        nearest = np.argsort(distances)[:5]
        assert found.ids[row].tolist() == embeddings.ids[nearest].tolist()
        assert found.distances[row] == pytest.approx(distances[nearest], abs=1e-5)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_shapes_and_order(searcher, embeddings, k):
    # Many queries at once take another path through FAISS, by products, which could round below 0.
    found = searcher.search(embeddings.vectors[:64], k)
    assert found.ids.shape == found.distances.shape == (64, k)
    assert (found.distances >= 0).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_a_stored_vector_finds_itself_first(searcher, embeddings):
    ids = embeddings.ids[[0, 17, N - 1]]
    found = searcher.search(searcher.vectors(ids), 4)
    assert found.ids[:, 0].tolist() == ids.tolist()
    assert found.distances[:, 0] == pytest.approx([0, 0, 0], abs=1e-6)


def test_stored_vectors_come_back_unchanged(searcher, embeddings):
    rows = np.array([5, 4, 1999])
    stored = searcher.vectors(embeddings.ids[rows])
    np.testing.assert_array_equal(stored, embeddings.vectors[rows])


def test_fewer_items_than_k(searcher, embeddings):
    found = searcher.search(embeddings.vectors[:2], N + 3)
    assert (found.ids[:, :N] >= 0).all()
    assert (found.ids[:, N:] == -1).all()
    assert np.isinf(found.distances[:, N:]).all()
    assert np.isfinite(found.distances[:, :N]).all()


def test_nprobe_is_set(embeddings, tmp_path):
    index, _ = build_index(embeddings, "IVF32,Flat")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    for nprobe in (1, 7):
        searcher = Searcher(tmp_path / "index.faiss", nprobe)
        assert faiss.extract_index_ivf(searcher.index).nprobe == nprobe


def test_queries_of_other_layouts_are_taken(searcher, embeddings):
    wanted = searcher.search(embeddings.vectors[:6:2], 3)
    for queries in (embeddings.vectors[:6:2].astype(np.float64), embeddings.vectors[:6][::2]):
        np.testing.assert_array_equal(searcher.search(queries, 3).ids, wanted.ids)


@pytest.mark.parametrize("shape", [(2, D + 1), (2, D - 1), (D,), (1, 2, D)])
def test_refuses_another_shape(searcher, shape):
    with pytest.raises(InputError, match="the index holds vectors of 16"):
        searcher.search(np.ones(shape, np.float32), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_numbers_that_are_not_finite(searcher, bad):
    queries = np.ones((2, D), np.float32)
    queries[1, 3] = bad
    with pytest.raises(InputError, match="not finite"):
        searcher.search(queries, 1)


@pytest.mark.parametrize("k", [-1, 0, MAX_K + 1])
def test_refuses_k_out_of_range(searcher, k):
    with pytest.raises(InputError, match=rf"k is {k}; it must be 1 to {MAX_K}"):
        searcher.search(np.ones((1, D), np.float32), k)


def test_refuses_an_unknown_id(searcher, embeddings):
    unknown = int(embeddings.ids[-1]) + 1
    with pytest.raises(InputError, match=f"^no item {unknown} in the index$"):
        searcher.vectors(np.array([embeddings.ids[0], unknown]))
