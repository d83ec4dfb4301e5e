"""Retrieval metrics against plain loops over float64 distances."""

import numpy as np
import pytest

import remine.index.metrics
from remine.data.types import Embeddings, unit
from remine.index.metrics import retrieval_metrics

KS = (1, 2, 4, 8)


def embeddings_of(codes, d=8, seed=0):
    """Random unit vectors of the given label codes."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((len(codes), d)).astype(np.float32))
    return Embeddings(
        ids=np.arange(len(codes)) * 3 + 5,
        label_codes=np.array(codes, np.int32),
        vectors=vectors,
    )


def uneven_classes(seed):
    """Classes of 1 to 12 items, codes with gaps, and distances that float32 cannot confuse."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(rng.permutation(40)[:9], [1, 1, 2, 2, 3, 5, 7, 10, 12])
    rng.shuffle(codes)
    # A draw with two nearly equal distances has no order that both precisions must agree on.
    for draw in range(100):
        embeddings = embeddings_of(codes, seed=1000 * seed + draw)
        rates = np.sort(squared_distances(embeddings.vectors), axis=1)
        if np.diff(rates, axis=1).min() > 1e-6:
            return embeddings
    raise AssertionError("no draw without near ties")


def squared_distances(vectors):
    exact = vectors.astype(np.float64)
    return ((exact[:, None] - exact[None]) ** 2).sum(axis=2)


def loop_metrics(embeddings, asked, ks=KS):
    """What retrieval_metrics should give, one query and one place at a time."""
    codes = embeddings.label_codes.tolist()
    distances = squared_distances(embeddings.vectors)
    sums = dict.fromkeys([*(f"recall@{k}" for k in ks), "r_precision", "map@r"], 0.0)
    for query in asked:
        peers = [i for i in range(len(codes)) if i != query]
        peers.sort(key=lambda i, q=query: distances[q, i])
        hits = [codes[i] == codes[query] for i in peers]
        r = sum(hits)
        for k in ks:
            sums[f"recall@{k}"] += any(hits[:k])
        sums["r_precision"] += sum(hits[:r]) / r
        sums["map@r"] += sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r
    return {name: total / len(asked) for name, total in sums.items()}


def with_company(embeddings):
    """Rows of items that have another of their class."""
    codes = embeddings.label_codes.tolist()
    return [row for row, code in enumerate(codes) if codes.count(code) > 1]


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_loops(seed):
    embeddings = uneven_classes(seed)
    queries = with_company(embeddings)
    metrics = retrieval_metrics(embeddings)
    expected = loop_metrics(embeddings, queries)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert metrics["precision@1"] == metrics["recall@1"]
    assert metrics["queries"] == len(queries) == len(embeddings) - 2


def test_a_sample_of_queries_is_asked_against_all_items():
    embeddings = uneven_classes(3)
    choice = np.random.default_rng(11).choice(with_company(embeddings), 7, replace=False)
    metrics = retrieval_metrics(embeddings, queries=7, seed=11)
    expected = loop_metrics(embeddings, choice.tolist())
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert metrics["queries"] == 7


def test_a_sample_as_large_as_the_queries_is_all_of_them():
    embeddings = uneven_classes(4)
    assert retrieval_metrics(embeddings, queries=10_000) == retrieval_metrics(embeddings)


@pytest.mark.parametrize("block", [1, 200, 431, 10_000])
def test_blocks_do_not_matter(monkeypatch, block):
    embeddings = uneven_classes(5)
    complete = retrieval_metrics(embeddings)
    monkeypatch.setattr(remine.index.metrics, "BLOCK", block)
    assert retrieval_metrics(embeddings) == pytest.approx(complete, abs=1e-9)


def test_perfect_retrieval_is_one():
    vectors = np.repeat(np.eye(4, dtype=np.float32), [2, 3, 4, 5], axis=0)
    codes = np.repeat(np.array([9, 0, 4, 2], np.int32), [2, 3, 4, 5])
    metrics = retrieval_metrics(Embeddings(ids=np.arange(14), label_codes=codes, vectors=vectors))
    names = ["recall@1", "recall@8", "precision@1", "r_precision", "map@r"]
    assert [metrics[name] for name in names] == [1.0] * 5


def test_worst_retrieval_is_zero():
    # Two classes, and each item lies on the other class's twin, far from its own.
    axes = np.eye(2, dtype=np.float32)
    vectors = np.concatenate([axes, axes])
    codes = np.array([0, 1, 1, 0], np.int32)
    metrics = retrieval_metrics(
        Embeddings(ids=np.arange(4), label_codes=codes, vectors=vectors), ks=(1,)
    )
    assert (metrics["recall@1"], metrics["r_precision"], metrics["map@r"]) == (0, 0, 0)


def test_one_class_retrieves_nothing_else():
    metrics = retrieval_metrics(embeddings_of([7] * 6))
    assert metrics["queries"] == 6
    assert metrics["recall@1"] == metrics["map@r"] == metrics["r_precision"] == 1


def test_singletons_alone_ask_nothing():
    metrics = retrieval_metrics(embeddings_of(range(5)))
    assert metrics["queries"] == 0
    assert metrics["recall@1"] == metrics["map@r"] == 0


def test_an_item_does_not_find_itself():
    # Were the query its own neighbour, recall@1 would be 1 and the far sibling not needed.
    vectors = unit(np.array([[1, 0], [-1, 0], [1, 0.1], [-1, 0.1]], np.float32))
    codes = np.array([0, 0, 1, 1], np.int32)
    metrics = retrieval_metrics(Embeddings(ids=np.arange(4), label_codes=codes, vectors=vectors))
    assert metrics["recall@1"] == 0
    assert metrics["recall@4"] == 1
