from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from mining.suspects import SuspectConfig, near_limit, twins, votes


def plain_votes(near, codes, sizes):
    """A loop over items and their neighbours."""
    rows = []
    for row, own in zip(near, codes, strict=True):
        found = [c for c in row if c >= 0]
        mine = sum(c == own for c in found)
        others = Counter(c for c in found if c != own)
        most = max(others.values(), default=0)
        first = next((c for c in found if c != own and others[c] == most), -1)
        possible = min(max(sizes[len(rows)] - 1, 1), len(row))
        rows.append((mine / possible, first, most / max(1, len(found))))
    return rows


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 10**6))
def test_votes_are_counted(n, k, seed):
    rng = np.random.default_rng(seed)
    near = rng.integers(-1, 4, (n, k)).astype(np.int32)
    codes = rng.integers(0, 4, n).astype(np.int32)
    sizes = rng.integers(1, 9, n)
    found = votes(near, codes, sizes)
    for row, (own, other, agree) in enumerate(plain_votes(near, codes, sizes)):
        assert found.own[row] == pytest.approx(own)
        assert found.agree[row] == pytest.approx(agree)
        if Counter(near[row].tolist())[other] and other >= 0:
            # The nearest of those that are equally frequent.
            assert found.other[row] == other
        else:
            assert found.other[row] == -1


def clusters(seed=0, classes=8, each=12, planted=6):
    """Neighbours in clusters of classes, some of whose items are filed under another."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(classes), each)
    vectors = np.eye(classes)[true] + 0.15 * rng.normal(size=(len(true), classes))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = true.astype(np.int32)
    wrong = rng.choice(len(true), planted, replace=False)
    codes[wrong] = (codes[wrong] + rng.integers(1, classes, planted)) % classes
    distances = 2 - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1)[:, :10]
    return true, codes, set(wrong.tolist()), near, np.take_along_axis(distances, near, axis=1)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_planted_errors_are_found_with_their_true_label(seed):
    true, codes, wrong, near, _ = clusters(seed)
    found = votes(codes[near], codes, np.bincount(codes)[codes])
    suspects = found.mislabelled(SuspectConfig()).tolist()
    assert set(suspects) == wrong
    assert all(found.other[row] == true[row] for row in suspects)
    assert (np.diff(found.score[suspects]) <= 0).all()


def test_a_lone_item_of_its_class_is_no_error_of_its_neighbours():
    # Class 1 has one item only: nobody can vote for it, and its neighbours disagree among
    # themselves.
    near = np.array([[0, 2, 3, 4]], np.int32)
    found = votes(near, np.array([1], np.int32), np.array([1]))
    assert found.mislabelled(SuspectConfig(neighbours=4)).tolist() == []


def test_twins_are_mutual_neighbours_of_unlike_labels_or_equal_content():
    near = np.array([[1, 2], [0, 2], [3, 0], [2, 0]])
    distances = np.array([[0.01, 0.5], [0.01, 0.6], [0.02, 0.5], [0.02, 0.5]], np.float32)
    codes = np.array([0, 1, 2, 2], np.int32)
    nothing = np.zeros((4, 2), bool)
    assert twins(near, distances, codes, nothing, 0.1).tolist() == [[0], [1]]
    assert twins(near, distances, codes, nothing, 0.0).tolist() == [[], []]
    equal = nothing.copy()
    equal[2, 1] = True  # only one of both has the other among its neighbours
    assert twins(near, distances, codes, equal, 0.1).tolist() == [[0, 0], [1, 2]]


def test_the_limit_is_a_quantile_of_the_nearest_of_the_own_class():
    distances = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    mine = np.array([[True, True], [False, True], [False, False]])
    assert near_limit(distances, mine, 0.5) == pytest.approx(0.25)
    assert near_limit(distances, np.zeros((3, 2), bool)) == 0.0


@pytest.mark.parametrize("change", [{"neighbours": 0}, {"agree": 1.5}, {"own": -0.1}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        SuspectConfig(**change)
