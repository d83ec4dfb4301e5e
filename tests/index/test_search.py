"""Searching a stored index, and what the searcher refuses in FAISS's place."""

from dataclasses import replace

import numpy as np
import pytest

from remine.data.errors import InputError, StoreError
from remine.data.faiss_library import faiss
from remine.data.types import Embeddings, unit
from remine.index.build import IndexCard, build_index
from remine.index.config import IndexConfig
from remine.index.search import MAX_K, Searcher, multiply_from
from remine.index.search_report import merge_reports

N, D = 2000, 16
FACTORIES = ["Flat", "IVF32,Flat", "HNSW16", "RR16,IVF32,Flat"]


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    return Embeddings(
        ids=np.sort(rng.choice(10 * N, N, replace=False)) + 2**33,
        label_codes=np.zeros(N, np.int32),
        vectors=unit(rng.standard_normal((N, D)).astype(np.float32)),
    )


def stored(embeddings, path, factory, recall=1.0):
    index, card = build_index(embeddings, IndexConfig(factory=factory, recall=recall))
    faiss.write_index(index, str(path))
    return Searcher(path, card)


@pytest.fixture(scope="module", params=FACTORIES)
def searcher(request, embeddings, tmp_path_factory):
    """A searcher over the stored file, which is asked for every neighbour."""
    return stored(embeddings, tmp_path_factory.mktemp("index") / "index.faiss", request.param)


@pytest.fixture(scope="module")
def lists(embeddings, tmp_path_factory):
    """Lists that are asked for nine in ten."""
    path = tmp_path_factory.mktemp("index") / "index.faiss"
    return stored(embeddings, path, "IVF32,Flat", 0.9)


def nearest(embeddings, query, k, mask=None):
    distances = ((embeddings.vectors - query.astype(np.float64)) ** 2).sum(axis=1)
    if mask is not None:
        distances[~mask] = np.inf
    order = np.argsort(distances)[:k]
    return embeddings.ids[order].tolist(), distances[order]


QUERIES = unit(np.random.default_rng(1).standard_normal((9, D)).astype(np.float32))


def test_finds_what_a_loop_finds(searcher, embeddings):
    result, _ = searcher.search(QUERIES, 5)
    for row, query in enumerate(QUERIES):
        ids, distances = nearest(embeddings, query, 5)
        assert result.ids[row].tolist() == ids
        assert result.distances[row] == pytest.approx(distances, abs=1e-5)


@pytest.mark.parametrize("every", [2, 40, 700])
def test_finds_what_a_loop_finds_among_the_kept(searcher, embeddings, every):
    mask = np.arange(N) % every == 1
    result, report = searcher.search(QUERIES, 5, mask=mask)
    assert report.kept == mask.sum()
    for row, query in enumerate(QUERIES):
        ids, distances = nearest(embeddings, query, min(5, int(mask.sum())), mask)
        assert result.ids[row, : len(ids)].tolist() == ids
        assert result.distances[row, : len(ids)] == pytest.approx(distances, abs=1e-5)
        assert (result.ids[row, len(ids) :] == -1).all()


@pytest.mark.parametrize("factory", ["PQ8x4", "IVF32,PQ8x4fs,RFlat"])
def test_only_the_kept_are_found_where_vectors_are_not_whole(embeddings, tmp_path, factory):
    searcher = stored(embeddings, tmp_path / "index.faiss", factory)
    for every in (3, 500):
        mask = np.arange(N) % every == 1
        result, _ = searcher.search(QUERIES, 5, mask=mask)
        assert (result.ids[:, : min(5, mask.sum())] >= 0).all()
        assert set(result.ids.ravel().tolist()) - {-1} <= set(embeddings.ids[mask].tolist())


def test_a_filter_that_keeps_nothing_finds_nothing(searcher):
    result, report = searcher.search(QUERIES, 3, mask=np.zeros(N, bool))
    assert (result.ids == -1).all()
    assert np.isinf(result.distances).all()
    assert report.kept == 0


def test_the_setting_follows_the_wished_recall(lists, embeddings):
    settings = []
    for recall in (0.3, 0.9, 0.99, 1.0):
        result, report = lists.search(QUERIES, 10, recall=recall)
        point = next(p for p in lists.card.curve if p.setting == report.setting)
        assert report.measured == point.recall_10 >= recall
        settings.append(report.setting)
    assert settings == sorted(settings)
    assert settings[0] < settings[-1]
    for row, query in enumerate(QUERIES):
        assert result.ids[row].tolist() == nearest(embeddings, query, 10)[0]


def test_a_filter_turns_the_knob_further(lists):
    plain = lists.search(QUERIES, 10, recall=0.5)[1]
    half = lists.search(QUERIES, 10, recall=0.5, mask=np.arange(N) % 2 == 0)[1]
    assert half.setting == min(32, 2 * plain.setting)
    assert half.measured is None


def test_what_few_lists_do_not_hold_is_looked_for_everywhere(lists):
    result, report = lists.search(QUERIES, N, recall=0.01)
    assert report.widened == 9
    assert (np.sort(result.ids, axis=1) == lists.ids).all()


def test_explain_counts_the_vectors_in_the_visited_lists(lists):
    _, report = lists.search(QUERIES, 10, recall=0.5, explain=True)
    inner = faiss.extract_index_ivf(lists.inner)
    calls = 0
    for query in QUERIES:
        _, neighbours = inner.quantizer.search(query[None], report.setting)
        calls += sum(inner.invlists.list_size(int(number)) for number in neighbours[0])
    assert report.visited == pytest.approx(calls / (9 * N))
    text = " ".join(report.lines())
    assert f"nprobe {report.setting}" in text
    assert f"{report.measured:.4f} measured for queries like the items" in text


@pytest.fixture(scope="module", params=["IVF141,Flat", "HNSW8", "RR32,IVF100,Flat"])
def cone(request, tmp_path_factory):
    """A narrow cone of clusters, an index over it, and queries from elsewhere."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 32))
    vectors = centres[rng.integers(0, 200, 8000)] + 0.35 * rng.normal(size=(8000, 32))
    vectors = unit((vectors + 3 * rng.normal(size=32)).astype(np.float32))
    items = Embeddings(
        ids=np.arange(8000), label_codes=np.zeros(8000, np.int32), vectors=vectors[:8000]
    )
    path = tmp_path_factory.mktemp("cone") / "index.faiss"
    foreign = unit(rng.normal(size=(400, 32)).astype(np.float32))
    return stored(items, path, request.param, 0.98), items, foreign


def true_recall(result, items, queries):
    exact = np.argsort(-(queries @ items.vectors.T), axis=1)[:, :10]
    pairs = zip(result.ids, exact, strict=True)
    return np.mean([len(set(ids) & set(items.ids[rows])) / 10 for ids, rows in pairs])


def test_many_queries_unlike_the_items_are_measured_and_searched_more_widely(cone):
    searcher, items, foreign = cone
    result, report = searcher.search(foreign, 10, recall=0.95, explain=True)
    assert report.unlike > 300
    check = report.checks[0]
    assert check.unlike
    assert check.sampled == 64
    assert check.queries == report.unlike
    assert check.setting > report.setting
    assert check.before < 0.9
    assert check.recall >= 0.95
    assert true_recall(result, items, foreign) >= 0.94
    notice = report.notices()[0]
    assert f"recall {check.before:.4f} at {report.knob} {report.setting}, measured on 64" in notice
    assert f"searched at {report.knob} {check.setting} instead" in notice


def test_few_queries_unlike_the_items_are_flagged(cone):
    searcher, _items, foreign = cone
    _, report = searcher.search(foreign[:3], 10, recall=0.9)
    assert (report.unlike, report.checks) == (3, ())
    assert "3 of 3 queries are unlike the items" in report.notices()[0]
    assert "for queries like the items" in report.lines()[1]


def test_all_neighbours_of_few_queries_are_searched_for_until_found(cone):
    searcher, items, foreign = cone
    result, report = searcher.search(foreign[:3], 10, recall=1.0)
    assert report.checks[0].sampled == 3
    assert true_recall(result, items, foreign[:3]) >= report.checks[0].recall == 1.0


def test_queries_like_the_items_are_searched_as_the_card_says(cone):
    searcher, items, _foreign = cone
    _, report = searcher.search(items.vectors[:500], 10, recall=0.95)
    assert report.unlike <= 25
    assert report.notices() == []
    assert report.checks == ()


def test_only_the_queries_unlike_the_items_are_searched_more_widely(cone):
    searcher, items, foreign = cone
    alone, _ = searcher.search(items.vectors[:100], 10, recall=0.9)
    mixed = np.concatenate([items.vectors[:100], foreign])
    result, report = searcher.search(mixed, 10, recall=0.9)
    assert report.checks[0].queries <= report.unlike <= 405
    same = (alone.ids == result.ids[:100]).all(axis=1)
    assert same.sum() >= 100 - (report.unlike - 300)


def test_a_card_without_a_distance_limit_is_searched_as_before(cone):
    searcher, _items, foreign = cone
    card = searcher.card
    old = {name: value for name, value in card.to_json().items() if name != "distance_limit"}
    assert card.distance_limit is not None
    searcher.card = IndexCard.from_json(old)
    try:
        _, report = searcher.search(foreign, 10, recall=0.9)
    finally:
        searcher.card = card
    assert (report.unlike, report.checks, report.notices()) == (None, (), [])


def test_queries_that_the_limit_misses_are_measured_where_it_costs_little(lists):
    card = lists.card
    lists.card = replace(card, distance_limit=4.0)
    # What the card claims is far from true: the sample finds it.
    points = tuple(replace(p, recall_10=1.0, visited=0.5) for p in card.curve[:1])
    lists.card = replace(lists.card, curve=points)
    try:
        queries = np.concatenate([QUERIES] * 60)
        _, report = lists.search(queries, 10, recall=0.95)
    finally:
        lists.card = card
    check = report.checks[0]
    assert (report.unlike, check.unlike, check.sampled) == (0, False, 27)
    assert check.before < 0.7
    assert check.setting > report.setting == 1


def test_reports_of_blocks_add_up(cone):
    searcher, _items, foreign = cone
    _, whole = searcher.search(foreign, 10, recall=0.9, explain=True)
    merged = merge_reports([whole, whole])
    assert merged.queries == 2 * whole.queries
    assert merged.unlike == 2 * whole.unlike
    assert merged.checks[0].sampled == 128
    assert merged.checks[0].recall == pytest.approx(whole.checks[0].recall)
    assert merged.visited == pytest.approx(whole.visited)


def test_a_card_of_another_index_is_refused(embeddings, tmp_path, lists):
    half = embeddings.take(np.arange(N // 2))
    index, _ = build_index(half, IndexConfig(factory="Flat"))
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    with pytest.raises(StoreError, match="holds 1000 items, its card says 2000"):
        Searcher(tmp_path / "index.faiss", lists.card)


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.5, float("nan")])
def test_refuses_a_recall_out_of_range(searcher, recall):
    with pytest.raises(InputError, match="recall is"):
        searcher.search(QUERIES, 1, recall=recall)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_shapes_and_order(searcher, embeddings, k):
    # Many queries at once take another path through FAISS, by products, which could round below 0.
    result, _ = searcher.search(embeddings.vectors[:64], k)
    assert result.ids.shape == result.distances.shape == (64, k)
    assert (result.distances >= 0).all()
    assert (np.diff(result.distances, axis=1) >= 0).all()


def test_a_stored_vector_finds_itself_first(searcher, embeddings):
    ids = embeddings.ids[[0, 17, N - 1]]
    result, _ = searcher.search(searcher.vectors(ids), 4)
    assert result.ids[:, 0].tolist() == ids.tolist()
    assert result.distances[:, 0] == pytest.approx([0, 0, 0], abs=1e-6)


def test_stored_vectors_come_back_unchanged(searcher, embeddings):
    rows = np.array([5, 4, 1999])
    store_rows = searcher.vectors(embeddings.ids[rows])
    np.testing.assert_allclose(store_rows, embeddings.vectors[rows], atol=1e-6)


def test_fewer_items_than_k(searcher, embeddings):
    result, _ = searcher.search(embeddings.vectors[:2], N + 3)
    assert (result.ids[:, :N] >= 0).all()
    assert (result.ids[:, N:] == -1).all()
    assert np.isinf(result.distances[:, N:]).all()
    assert np.isfinite(result.distances[:, :N]).all()


def test_queries_of_other_layouts_are_taken(searcher, embeddings):
    expected, _ = searcher.search(embeddings.vectors[:6:2], 3)
    for queries in (embeddings.vectors[:6:2].astype(np.float64), embeddings.vectors[:6][::2]):
        np.testing.assert_array_equal(searcher.search(queries, 3)[0].ids, expected.ids)


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


def test_products_and_single_comparisons_find_the_same(embeddings, tmp_path):
    searcher = stored(embeddings, tmp_path / "index.faiss", "Flat")
    before = faiss.cvar.distance_compute_blas_threshold
    try:
        result = []
        for queries in (1, 10**6):
            multiply_from(queries, D)
            assert faiss.cvar.distance_compute_blas_threshold == queries * D
            result.append(searcher.search(QUERIES, 5)[0])
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
    np.testing.assert_array_equal(result[0].ids, result[1].ids)
    np.testing.assert_allclose(result[0].distances, result[1].distances, atol=1e-5)
