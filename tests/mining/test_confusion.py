"""Confusable classes: against loops over all pairs of centroids, ties and blocks included."""

import numpy as np
import pytest

from remine.data.types import Embeddings, unit
from remine.mining import confusion as module
from remine.mining.confusion import centroids, confusion


def embeddings_of(n, d, classes, seed=0, *, whole=False):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    vectors = rng.integers(-2, 3, (n, d)) if whole else rng.standard_normal((n, d))
    vectors = vectors.astype(np.float32)
    vectors[:, 0] += 3  # never 0
    return Embeddings(
        ids=np.arange(n), label_codes=(3 * codes + 1).astype(np.int32), vectors=unit(vectors)
    )


def by_loops(given, m):
    """Rows and distances, in float64, of equals the smaller code first."""
    codes = sorted(set(given.label_codes.tolist()))
    means = []
    for code in codes:
        total = sum(v.astype(np.float64) for v in given.vectors[given.label_codes == code])
        means.append(total / np.linalg.norm(total))
    rows, distances = [], []
    for a in range(len(codes)):
        pairs = sorted(
            (round(float(((means[a] - means[b]) ** 2).sum()), 6), b)
            for b in range(len(codes))
            if b != a
        )[:m]
        rows.append([b for _, b in pairs])
        distances.append([distance for distance, _ in pairs])
    return codes, np.array(rows), np.array(distances)


@pytest.mark.parametrize(
    ("n", "classes", "m"), [(300, 40, 5), (50, 50, 49), (30, 3, 32), (9, 2, 1)]
)
@pytest.mark.parametrize("scores", [1 << 24, 64])
def test_the_nearest_centroids_of_every_class(monkeypatch, n, classes, m, scores):
    monkeypatch.setattr(module, "SCORES", scores)
    inputs = embeddings_of(n, 8, classes)
    codes, rows, distances = by_loops(inputs, m)
    result = confusion(inputs, m)
    assert result.codes.tolist() == codes
    np.testing.assert_array_equal(result.neighbours, rows)
    np.testing.assert_allclose(result.distances, distances, atol=1e-5)


def test_of_equals_the_smaller_code_comes_first():
    # Eight classes in two places: at each, all others are at distance 0, and elsewhere all equal.
    vectors = np.repeat(np.eye(4, dtype=np.float32)[[0, 1] * 4], 2, axis=0)
    inputs = Embeddings(
        ids=np.arange(16), label_codes=np.repeat(np.arange(8), 2).astype(np.int32), vectors=vectors
    )
    result = confusion(inputs, 5)
    for a in range(8):
        custom = [b for b in range(8) if b != a and b % 2 == a % 2]
        second = [b for b in range(8) if b % 2 != a % 2]
        assert result.neighbours[a].tolist() == [*custom, *second][:5]


def test_centroids_do_not_depend_on_blocks(monkeypatch):
    inputs = embeddings_of(200, 6, 11)
    labels = np.unique(inputs.label_codes, return_inverse=True)[1]
    complete = centroids(inputs.vectors, labels)
    for rows in (1, 7, 100):
        monkeypatch.setattr(module, "ROWS", rows)
        np.testing.assert_array_equal(centroids(inputs.vectors, labels), complete)
    for label in range(11):
        mean = inputs.vectors[labels == label].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(complete[label], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_class_without_a_direction_is_far_from_all():
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    vectors[1] *= -1
    codes = np.array([0, 0, 1, 2], np.int32)
    inputs = Embeddings(ids=np.arange(4), label_codes=codes, vectors=vectors)
    np.testing.assert_array_equal(confusion(inputs, 2).distances, np.full((3, 2), 2))
