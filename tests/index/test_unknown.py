"""Limits on the nearest distance, and what they do to known and unknown queries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import TEST, TRAIN, UNKNOWN, VAL
from remine.data.types import Embeddings, unit
from remine.index.unknown import rejection
from remine.index.unknown.distance_limits import RATES, DistanceLimits
from remine.index.unknown.rejection import auroc, measure_rejection, nearest_distances


def embeddings_of(vectors, codes):
    return Embeddings(
        ids=np.arange(len(codes)) * 3 + 5,
        label_codes=np.asarray(codes, np.int32),
        vectors=unit(np.asarray(vectors, np.float32)),
    )


def clusters(seed=0, classes=40, size=12, n_unknown=300, d=24):
    """Items around the axes of their classes, by class a split, and items in all directions."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, d))
    codes = np.repeat(np.arange(classes), size)
    known = centres[codes] + 0.35 * rng.standard_normal((len(codes), d))
    vectors = np.concatenate([known, rng.standard_normal((n_unknown, d))])
    splits = np.array([TRAIN, VAL, TEST], np.int8)[codes % 3]
    return (
        embeddings_of(vectors, [*codes, *[classes] * n_unknown]),
        np.concatenate([splits, np.full(n_unknown, UNKNOWN, np.int8)]),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 4, width=32), min_size=1, max_size=80))
def test_a_limit_rejects_no_more_of_its_own_queries_than_the_rate(distances):
    distances = np.array(distances, np.float32)
    limits = DistanceLimits.measured(distances)
    assert limits is not None
    assert list(limits.distances) == sorted(limits.distances, reverse=True)
    for rate in limits.rates:
        # One more query of unknown distance counts as rejected: that is what the promise costs.
        rejected = (distances > limits.at(rate)).sum() + 1
        assert rejected / (len(distances) + 1) <= rate + 1e-9


def test_a_limit_is_the_smallest_distance_that_keeps_the_promise():
    limits = DistanceLimits.measured(np.arange(99, dtype=np.float32))
    assert limits.at(0.05) == 94  # the 95th of 99: four are farther, and a new one may be
    assert limits.at(0.01) == 98
    assert limits.at(0.045) == pytest.approx(94.5)  # between 95 at 4 % and 94 at 5 %


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, float("nan")])
def test_rates_out_of_range_are_refused(rate):
    limits = DistanceLimits.measured(np.arange(99, dtype=np.float32))
    with pytest.raises(InputError, match=r"reject is .*above 0 and below 1"):
        limits.at(rate)


def test_a_rate_that_too_few_items_cannot_promise_is_refused():
    limits = DistanceLimits.measured(np.arange(30, dtype=np.float32))
    with pytest.raises(InputError, match=r"reject is 0\.01; 30 val items allow .* from 0\.04"):
        limits.at(0.01)
    assert DistanceLimits.measured(np.zeros(0, np.float32)) is None


def test_limits_survive_a_card_and_damage_is_told():
    limits = DistanceLimits.measured(np.arange(30, dtype=np.float32))
    assert DistanceLimits.from_json(limits.to_json()) == limits
    with pytest.raises(StoreError, match="not of this store's shape"):
        DistanceLimits.from_json({"queries": 3, "rates": None, "distances": []})


@pytest.mark.parametrize("block", [1, 50, rejection.BLOCK])
def test_nearest_distances_are_those_of_a_loop(block, monkeypatch):
    monkeypatch.setattr(rejection, "BLOCK", block)
    embeddings, splits = clusters(classes=9, size=4, n_unknown=10)
    gallery = embeddings.take(splits != UNKNOWN)
    result = nearest_distances(embeddings, gallery)
    for row, vector in enumerate(embeddings.vectors):
        others = gallery.vectors[gallery.ids != embeddings.ids[row]].astype(np.float64)
        assert result[row] == pytest.approx(((others - vector) ** 2).sum(axis=1).min(), abs=1e-5)
    alone = embeddings.take(np.array([3]))
    assert nearest_distances(alone, alone).tolist() == [np.inf]
    assert nearest_distances(alone, alone.take(np.zeros(0, np.int64))).tolist() == [np.inf]


@settings(max_examples=30, deadline=None)
@given(*[st.lists(st.integers(0, 9), min_size=1, max_size=20)] * 2)
def test_auroc_counts_pairs(known, unknown):
    wins = np.mean([(u > k) + 0.5 * (u == k) for k in known for u in unknown])
    result = auroc(np.array(known, np.float32), np.array(unknown, np.float32))
    assert result == pytest.approx(wins)


def test_rates_on_test_are_near_those_wished():
    embeddings, splits = clusters(classes=150)
    result = measure_rejection(embeddings, splits)
    assert result["test"] == 600
    assert result["unknown"] == 300
    assert result["auroc"] > 0.95
    for row in result["rates"]:
        # Three standard errors of 600 test queries and as many val queries.
        error = 3 * np.sqrt(2 * row["wished"] / 600)
        assert abs(row["false_alarms"] - row["wished"]) < error
    assert result["rates"][1]["rejected"] > 0.6


def test_a_lone_item_of_its_class_sets_no_limit():
    embeddings, splits = clusters()
    first = int(np.flatnonzero(splits == VAL)[0])
    codes = embeddings.label_codes.copy()
    codes[first] = 99
    vectors = embeddings.vectors.copy()
    vectors[first] = -vectors.sum(axis=0)  # far from all
    vectors = unit(vectors)
    changed = Embeddings(ids=embeddings.ids, label_codes=codes, vectors=vectors)
    count = (splits == VAL).sum()
    assert measure_rejection(embeddings, splits)["limits"]["queries"] == count
    assert measure_rejection(changed, splits)["limits"]["queries"] == count - 1


def test_unknown_items_are_not_near_to_each_other():
    embeddings, splits = clusters(n_unknown=4)
    vectors = embeddings.vectors.copy()
    vectors[-4:] = vectors[-1]  # copies: each would be at no distance to the others
    copies = Embeddings(ids=embeddings.ids, label_codes=embeddings.label_codes, vectors=vectors)
    assert measure_rejection(copies, splits)["auroc"] > 0.9


def test_without_val_or_unknown_items_nothing_is_claimed():
    embeddings, splits = clusters()
    without_val = np.where(splits == VAL, np.int8(TRAIN), splits)
    assert set(measure_rejection(embeddings, without_val)) == {"test", "unknown", "auroc"}
    known = splits != UNKNOWN
    result = measure_rejection(embeddings.take(known), splits[known])
    assert set(result) == {"test", "limits", "rates"}
    assert all(set(row) == {"wished", "limit", "false_alarms"} for row in result["rates"])
    assert result["limits"]["rates"][-1] == RATES[-1]


def test_a_sample_is_taken_of_many_queries(monkeypatch):
    embeddings, splits = clusters()
    assert measure_rejection(embeddings, splits, queries=50)["limits"]["queries"] == 50
    monkeypatch.setattr(rejection, "SAMPLE", 30)
    assert measure_rejection(embeddings, splits)["unknown"] == 30
