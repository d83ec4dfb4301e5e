import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.errors import InputError
from remine.data.types import Embeddings
from remine.mining import suspects
from remine.mining.suspects import SuspectConfig, centroid_distances, near_limit, twins


def embeddings(vectors, codes):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(
        ids=np.arange(len(codes)),
        label_codes=np.asarray(codes, np.int32),
        vectors=vectors.astype(np.float32),
    )


def plain_leaning(data, row):
    """A loop over the classes: own distance, nearest other class, its distance."""
    result = {}
    for code in set(data.label_codes.tolist()):
        members = data.label_codes == code
        members[row] = False
        if members.any():
            centre = data.vectors[members].astype(np.float64).sum(axis=0)
            centre /= np.linalg.norm(centre)
            result[code] = 2 - 2 * float(data.vectors[row] @ centre)
    custom = result.pop(int(data.label_codes[row]), np.inf)
    second = min(result, key=result.get, default=-1)
    return custom, second, result.get(second, np.inf)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 10**6), st.integers(1, 30))
def test_leanings_are_those_of_a_plain_loop(n, classes, seed, block):
    rng = np.random.default_rng(seed)
    data = embeddings(rng.normal(size=(n, 6)), 3 * rng.integers(0, classes, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspects, "BLOCK", block)
        result = centroid_distances(data)
    for row in range(n):
        custom, second, distance = plain_leaning(data, row)
        assert result.own_distance[row] == pytest.approx(custom, abs=1e-5)
        assert result.nearest_class[row] == second
        assert result.nearest_distance[row] == pytest.approx(distance, abs=1e-5)


def clusters(seed, classes=8, each=12, planted_errors=6):
    """Items around their classes' axes, some filed under another; the true and the given codes."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(classes), each)
    codes = true.copy()
    wrong = rng.choice(len(true), planted_errors, replace=False)
    codes[wrong] = (codes[wrong] + rng.integers(1, classes, planted_errors)) % classes
    noise = 0.15 * rng.normal(size=(len(true), classes))
    return true, embeddings(np.eye(classes)[true] + noise, codes), set(wrong.tolist())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_planted_errors_are_found_with_their_true_label(seed):
    true, data, wrong = clusters(seed)
    result = centroid_distances(data)
    rows = result.mislabelled(SuspectConfig().margin).tolist()
    assert set(rows) == wrong
    assert all(result.nearest_class[row] == true[row] for row in rows)
    assert (np.diff(result.score[rows]) <= 0).all()


def test_a_lone_item_of_its_class_and_a_lone_class_say_nothing():
    lone = centroid_distances(embeddings(np.eye(3)[[0, 0, 1]], [0, 0, 1]))
    assert lone.mislabelled(0.0).tolist() == []
    assert lone.score[2] == -np.inf
    assert centroid_distances(embeddings(np.eye(3), [5, 5, 5])).mislabelled(0.0).tolist() == []


def test_twins_are_mutual_neighbours_of_unlike_labels_or_equal_content():
    neighbours = np.array([[1, 2], [0, 2], [3, 0], [2, 0]])
    distances = np.array([[0.01, 0.5], [0.01, 0.6], [0.02, 0.5], [0.02, 0.5]], np.float32)
    codes = np.array([0, 1, 2, 2], np.int32)
    nothing = np.zeros((4, 2), bool)
    assert twins(neighbours, distances, codes, nothing, 0.1).tolist() == [[0], [1]]
    assert twins(neighbours, distances, codes, nothing, 0.0).tolist() == [[], []]
    equal = nothing.copy()
    equal[2, 1] = True  # only one of both has the other among its neighbours
    assert twins(neighbours, distances, codes, equal, 0.1).tolist() == [[0, 0], [1, 2]]


def test_the_limit_is_a_quantile_of_the_nearest_of_the_own_class():
    distances = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    mine = np.array([[True, True], [False, True], [False, False]])
    assert near_limit(distances, mine, 0.5) == pytest.approx(0.25)
    assert near_limit(distances, np.zeros((3, 2), bool)) == 0.0


@pytest.mark.parametrize("change", [{"margin": 4.5}, {"margin": -0.1}, {"twin_share": 1.5}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        SuspectConfig(**change)
