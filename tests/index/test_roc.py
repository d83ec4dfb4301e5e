import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.types import Embeddings
from remine.index import roc as roc_module
from remine.index.roc import (
    PairHistograms,
    equal_error_rate,
    pair_distances,
    roc,
    threshold_at,
    verification_metrics,
)


def random_embeddings(n, classes, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = rng.integers(0, classes, n).astype(np.int32)
    return Embeddings(ids=np.arange(n), label_codes=codes, vectors=vectors)


def plain_pairs(embeddings):
    matches, second = [], []
    for i in range(len(embeddings)):
        for j in range(i):
            cosine = np.float32(embeddings.vectors[i] @ embeddings.vectors[j])
            equal = embeddings.label_codes[i] == embeddings.label_codes[j]
            (matches if equal else second).append(float(2 - 2 * cosine))
    return np.array(matches), np.array(second)


def pairs_of(genuine, impostor):
    """Pairs whose bins are the first of so many."""
    complete = [np.zeros(roc_module.BINS, np.int64) for _ in range(2)]
    for counts, given_counts in zip(complete, (genuine, impostor), strict=True):
        counts[: len(given_counts)] = given_counts
    return PairHistograms(genuine=complete[0], impostor=complete[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 99), st.integers(1, 400))
def test_every_pair_is_counted_once_in_its_bin(n, classes, seed, block):
    result = random_embeddings(n, classes, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roc_module, "BLOCK", block)
        pairs = pair_distances(result)
    for counts, distances in zip((pairs.genuine, pairs.impostor), plain_pairs(result), strict=True):
        assert counts.sum() == len(distances)
        edges = np.cumsum(counts)
        for b in range(0, roc_module.BINS, 4099):
            neighbours = (b + 1) * 4 / roc_module.BINS
            low, high = (np.sum(distances < neighbours + e) for e in (-1e-4, 1e-4))
            assert low <= edges[b] <= high


def test_equal_error_rate_of_known_pairs():
    # accepted up to bin 0: 0 % false, 75 % missed; bin 1: 50 %, 25 %: they cross between.
    assert equal_error_rate(pairs_of([1, 2, 1], [0, 1, 1])) == pytest.approx(0.375)
    assert equal_error_rate(pairs_of([5, 0], [0, 5])) == 0
    assert equal_error_rate(pairs_of([0, 4], [4, 0])) == 1


def test_the_threshold_comes_from_val_and_the_rates_from_test():
    val = pairs_of([0, 0, 9], [0, 1, 99])
    test = pairs_of([4, 4, 2], [1, 3, 6])
    assert threshold_at(val, 0.01) == 1
    result = verification_metrics(test, val, rates=(0.01,))
    assert result["tar@far=0.01"] == pytest.approx(0.8)
    assert result["far@far=0.01"] == pytest.approx(0.4)


def test_no_threshold_accepts_nothing():
    val = pairs_of([1], [1])
    assert threshold_at(val, 0.5) == -1
    result = verification_metrics(pairs_of([1], [1]), val, rates=(0.5,))
    assert result["tar@far=0.5"] == result["far@far=0.5"] == 0


def test_roc_rises_to_one_and_never_passes_its_rate():
    pairs = pair_distances(random_embeddings(60, 4, 1))
    rates, tar = roc(pairs)
    assert tar[-1] == 1
    assert (np.diff(tar) >= 0).all()
    for rate, true in zip(rates, tar, strict=True):
        assert true == pytest.approx(
            max([0, *pairs.true_accept_rates[pairs.false_accept_rates <= rate]])
        )
