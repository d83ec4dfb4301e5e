"""The measures of health, each against a plain loop or a case that is known by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from remine.data.errors import InputError
from remine.data.measures import mean_overlap, row_distances
from remine.data.types import EASY, HARD, SEMI_HARD, unit
from remine.train.monitor import health
from remine.train.monitor.config import HealthConfig
from remine.train.monitor.health import Reading


def vectors_of(n, d, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


def test_kinds_are_those_of_mining():
    a, p, n = (vectors_of(500, 3, seed) for seed in range(3))
    codes = health.kinds(a, p, n, 0.5)
    for row, code in enumerate(codes):
        d_ap = sum(float(x - y) ** 2 for x, y in zip(a[row], p[row], strict=True))
        d_an = sum(float(x - y) ** 2 for x, y in zip(a[row], n[row], strict=True))
        expected = HARD if d_an <= d_ap else SEMI_HARD if d_an < d_ap + 0.5 else EASY
        assert code == expected
    assert set(codes.tolist()) == {HARD, SEMI_HARD, EASY}
    assert (health.kinds(a, p, p, 0.5) == HARD).all()  # as near as the positive is not beyond it


def test_distances_that_tie_in_mining_tie_here():
    # Vectors of small whole numbers: most ties differ in float64, in the last place or two.
    rng = np.random.default_rng(0)
    a, p = (unit(rng.integers(1, 4, size=(20_000, 8)).astype(np.float32)) for _ in range(2))
    n = unit(rng.integers(1, 4, size=(20_000, 8)).astype(np.float32))
    d_ap, d_an = row_distances(a, p), row_distances(a, n)
    tie = d_ap == d_an
    assert tie.sum() > 100
    assert (health.kinds(a, p, n, 0.2)[tie] == HARD).all()


def test_drift_is_a_mean_squared_distance():
    before, after = vectors_of(20, 4), vectors_of(20, 4, 1)
    total = 0.0
    for old, new in zip(before.tolist(), after.tolist(), strict=True):
        total += sum((x - y) ** 2 for x, y in zip(old, new, strict=True))
    assert health.drift(before, after) == pytest.approx(total / 20, rel=1e-6)
    assert health.drift(before, before) == 0
    assert health.drift(before, -before) == pytest.approx(4)


def test_the_nearest_and_their_overlap():
    before, after = vectors_of(30, 3), vectors_of(30, 3, 1)
    lists = []
    for vectors in (before, after):
        neighbours = []
        for i in range(30):
            distances = sorted(
                (float(((vectors[i] - vectors[j]) ** 2).sum()), j) for j in range(30) if j != i
            )
            neighbours.append([j for _, j in distances[:5]])
        lists.append(neighbours)
        assert health.nearest_neighbours(vectors, 5).tolist() == neighbours
    shares = [len(set(a) & set(b)) / 5 for a, b in zip(*lists, strict=True)]
    overlap = mean_overlap(*(health.nearest_neighbours(v, 5) for v in (before, after)))
    assert overlap == pytest.approx(np.mean(shares))
    assert 0.05 < overlap < 0.6
    assert health.nearest_neighbours(before[:4]).shape == (4, 3)


def test_effective_rank_counts_dimensions_in_use():
    # Plus and minus along k axes: k equal eigenvalues, so exactly k.
    for k in (1, 2, 5):
        axes = np.eye(8, dtype=np.float32)[:k]
        assert health.effective_rank(np.concatenate([axes, -axes])) == pytest.approx(k)
    vectors = vectors_of(400, 12) * np.linspace(1, 0.05, 12, dtype=np.float32)
    shares = np.linalg.eigvalsh(np.cov(vectors.astype(np.float64).T))
    shares /= shares.sum()
    by_hand = math.exp(-sum(s * math.log(s) for s in shares))
    assert health.effective_rank(vectors) == pytest.approx(by_hand, rel=1e-6)
    assert health.effective_rank(np.repeat(vectors[:1], 9, axis=0)) == 0


def reading(spread, rank):
    return Reading(step=10, stale=None, drift=0.0, overlap=1.0, spread=spread, effective_rank=rank)


@pytest.mark.parametrize(
    ("first", "now", "classes", "message"),
    [
        ((1.0, 20), (0.5, 12), 100, ""),
        ((1.0, 20), (0.09, 12), 100, "spread of the embedding went from 1 to 0.09, below 0.1"),
        (
            (0.05, 20),
            (0.009, 12),
            100,
            "spread of the embedding went from 0.05 to 0.009, below 0.01",
        ),
        ((0.05, 20), (0.011, 12), 100, ""),
        (
            (1.0, 40),
            (1.0, 3.9),
            100,
            "effective rank of the embedding went from 40 to 3.9, below 4",
        ),
        (
            (1.0, 4),
            (1.0, 1.4),
            100,
            "effective rank of the embedding went from 4 to 1.4, below 1.5",
        ),
        # Five classes told apart are four dimensions, two are one.
        ((1.0, 60), (1.9, 4.0), 5, ""),
        ((1.0, 60), (1.9, 1.0), 2, ""),
        ((1.0, 60), (1.9, 0.0), 2, "effective rank of the embedding went from 60 to 0, below 0.5"),
    ],
)
def test_what_counts_as_a_collapse(first, now, classes, message):
    reason = health.collapse_reason(reading(*first), reading(*now), HealthConfig(), classes)
    assert (message in reason) if message else reason == ""


def test_limits_of_zero_stop_nothing():
    config = HealthConfig(min_spread=0, min_rank=0, min_share=0)
    assert health.collapse_reason(reading(1.0, 9), reading(0.0, 0.0), config, 50) == ""


def test_embedding_for_a_measurement_moves_nothing():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    inputs = torch.randn(32, 4)
    encoder.train()
    encoder(inputs)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    first, second = (
        health.embed_for_evaluation(encoder, inputs),
        health.embed_for_evaluation(encoder, inputs),
    )
    np.testing.assert_array_equal(first, second)
    assert encoder.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    encoder.eval()
    health.embed_for_evaluation(encoder, inputs)
    assert not encoder.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": -1}, "health.every is -1; it must be 0 to"),
        ({"sample": 2}, "health.sample is 2; it must be 16 to"),
        ({"min_share": 1.5}, "health.min_share is 1.5; it must be 0 to 1"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(InputError, match=message):
        replace(HealthConfig(), **change)
