import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.types import Embeddings
from remine.index.clustering import clustering_metrics, k_means, pairwise_f1


def embeddings(vectors, codes):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(
        ids=np.arange(len(codes)),
        label_codes=np.asarray(codes, np.int32),
        vectors=vectors.astype(np.float32),
    )


def clustered(classes=6, each=10, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), each)
    centres = np.linalg.qr(rng.normal(size=(16, 16)))[0][:classes]
    return embeddings(centres[codes] + noise * rng.normal(size=(len(codes), 16)), codes)


def plain_f1(classes, clusters):
    pair = guessed = true = 0
    for i in range(len(classes)):
        for j in range(i):
            pair += classes[i] == classes[j] and clusters[i] == clusters[j]
            guessed += clusters[i] == clusters[j]
            true += classes[i] == classes[j]
    if not pair:
        return 0.0
    precision, recall = pair / guessed, pair / true
    return 2 * precision * recall / (precision + recall)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_f1_counts_pairs(pairs):
    classes, clusters = np.array(pairs).T
    assert pairwise_f1(classes, clusters) == pytest.approx(plain_f1(classes, clusters))


def test_classes_apart_are_found_whole():
    result = clustering_metrics(clustered())
    assert result == pytest.approx({"nmi": 1, "ami": 1, "f1": 1})


def test_noise_has_no_adjusted_information_though_much_of_the_unadjusted():
    rng = np.random.default_rng(3)
    noise = embeddings(rng.normal(size=(400, 16)), np.repeat(np.arange(100), 4))
    result = clustering_metrics(noise)
    assert result["nmi"] > 0.5
    assert abs(result["ami"]) < 0.08


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_the_same_seed_gives_the_same_clusters(seed):
    data = clustered(noise=0.5, seed=seed)
    assert np.array_equal(k_means(data, 6, seed), k_means(data, 6, seed))
