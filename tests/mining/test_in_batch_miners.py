"""In-batch miners against plain loops: what is chosen, what never is, and how draws are spread."""

import math

import pytest
import torch
from torch.nn import functional

from remine.data.errors import InputError
from remine.mining.in_batch import miners
from remine.mining.in_batch.config import OnlineConfig
from remine.mining.in_batch.miners import (
    Candidates,
    OnlineMiner,
    batch_hard,
    candidates,
    distance_weighted,
    log_weights,
    random_negatives,
    semi_hard,
)


def unit_rows(m, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(m, d, generator=generator))


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


CASES = {
    "mixed sizes": [0, 0, 0, 1, 1, 2, 3, 3, 3, 3],
    "one class": [5, 5, 5, 5],
    "singletons": [1, 2, 3, 4],
    "pairs": [0, 1, 2, 0, 1, 2],
    "one item": [0],
}


def setting(case, d=4, seed=0, older=0, *, duplicates=False):
    """Candidates, and the same as lists: squared distances, labels, items."""
    labels = [*CASES[case], *([0, 3, 9, 5, 1, 2][:older])]
    m, n = len(CASES[case]), len(labels)
    points = unit_rows(n, d, seed)
    items = list(range(n))
    if duplicates:
        points[1] = points[0]  # two items that look alike
        items[2], points[2] = items[0], points[0]  # the same item in two rows
        labels[2] = labels[0]
    tensors = torch.tensor(labels), torch.tensor(items)
    inputs = candidates(points[:m], points, *tensors)
    plain = [
        [sum((u - v) ** 2 for u, v in zip(x, y, strict=True)) for y in points.double().tolist()]
        for x in points[:m].double().tolist()
    ]
    expected = torch.tensor(plain, dtype=torch.float64)
    torch.testing.assert_close(inputs.distances.double(), expected, atol=1e-6, rtol=0)
    return inputs, inputs.distances.tolist(), labels, items


def positives(i, labels, items):
    return [j for j in range(len(labels)) if labels[j] == labels[i] and items[j] != items[i]]


def negatives(i, labels):
    return [j for j in range(len(labels)) if labels[j] != labels[i]]


def rows_of(triplets):
    assert triplets.dtype == torch.int64
    return [tuple(row) for row in triplets.T.tolist()]


SETTINGS = [
    (case, older, duplicates)
    for case in CASES
    for older in (0, 6)
    for duplicates in (False, True)
    if not duplicates or len(CASES[case]) > 2
]
everywhere = pytest.mark.parametrize(("case", "older", "duplicates"), SETTINGS)


@everywhere
def test_batch_hard(case, older, duplicates):
    inputs, d, labels, items = setting(case, older=older, duplicates=duplicates)
    expected = {}
    for i in range(len(d)):
        custom, second = positives(i, labels, items), negatives(i, labels)
        if custom and second:
            expected[i] = (max(d[i][j] for j in custom), min(d[i][j] for j in second))
    result = rows_of(batch_hard(inputs))
    assert [a for a, _, _ in result] == sorted(expected)
    for a, p, n in result:
        assert p in positives(a, labels, items)
        assert n in negatives(a, labels)
        assert (d[a][p], d[a][n]) == expected[a]


@everywhere
@pytest.mark.parametrize("fallback", ["skip", "farthest", "random"])
@pytest.mark.parametrize("margin", [0.1, 0.7])
def test_semi_hard(case, older, duplicates, fallback, margin):
    inputs, d, labels, items = setting(case, older=older, duplicates=duplicates)
    result = {(a, p): n for a, p, n in rows_of(semi_hard(inputs, margin, fallback, chance()))}
    pairs = 0
    for a in range(len(d)):
        for p in positives(a, labels, items):
            second = negatives(a, labels)
            window = [n for n in second if d[a][p] < d[a][n] < d[a][p] + margin]
            if not second or (not window and fallback == "skip"):
                assert (a, p) not in result
                continue
            pairs += 1
            n = result[a, p]
            if window:
                assert d[a][n] == min(d[a][k] for k in window)
            elif fallback == "farthest":
                assert d[a][n] == max(d[a][k] for k in second)
            assert n in second
    assert len(result) == pairs


def test_semi_hard_bounds_are_open():
    distances = torch.tensor([[0.0, 1.0, 1.0, 1.5, 2.0]])
    positive = torch.tensor([[False, True, False, False, False]])
    negative = torch.tensor([[False, False, True, True, True]])
    inputs = Candidates(distances=distances, positive=positive, negative=negative)
    assert rows_of(semi_hard(inputs, 0.6, "skip", chance())) == [(0, 1, 3)]
    assert rows_of(semi_hard(inputs, 0.5, "skip", chance())) == []  # at d_ap, and at d_ap + margin


@everywhere
def test_drawn_negatives_are_negatives_of_every_pair(case, older, duplicates):
    inputs, d, labels, items = setting(case, older=older, duplicates=duplicates)
    expected = [
        (a, p) for a in range(len(d)) for p in positives(a, labels, items) if negatives(a, labels)
    ]
    for result in (
        random_negatives(inputs, chance()),
        distance_weighted(inputs, 4, OnlineConfig(), chance()),
    ):
        rows = rows_of(result)
        assert [(a, p) for a, p, _ in rows] == expected
        assert all(n in negatives(a, labels) for a, _, n in rows)


def shares(draw, count=400):
    """How often each candidate is the negative of anchor 0, over many seeds."""
    counts = torch.zeros(100)
    for seed in range(count):
        triplets = draw(chance(seed))
        for n in triplets[2, triplets[0] == 0].tolist():
            counts[n] += 1
    return counts / counts.sum()


def one_anchor(distances):
    """Anchor 0 with one positive, and negatives at these unsquared distances."""
    squares = torch.tensor([[0.0, 0.5, *(x * x for x in distances)]])
    kind = torch.tensor([[0, 1, *(2 for _ in distances)]])
    return Candidates(distances=squares, positive=kind == 1, negative=kind == 2)


def test_random_negatives_are_uniform():
    result = shares(lambda chance: random_negatives(one_anchor([0.1, 0.9, 1.3, 1.9]), chance), 2000)
    torch.testing.assert_close(result[2:6], torch.full((4,), 0.25), atol=0.04, rtol=0)


@pytest.mark.parametrize("d", [3, 8, 128])
def test_weights_are_the_inverse_density(d):
    distances = [0.2, 0.5, 0.9, 1.2, 1.399, 1.4, 1.9, 2.0]
    result = log_weights(torch.tensor(distances, dtype=torch.float64) ** 2, d, OnlineConfig())
    for distance, weight in zip(distances, result.tolist(), strict=True):
        if distance >= 1.4:
            assert weight == -math.inf
        else:
            x = max(distance, 0.5)
            expected = -math.log(x ** (d - 2) * (1 - x * x / 4) ** ((d - 3) / 2))
            assert weight == pytest.approx(expected, abs=1e-9)


def test_distance_weighted_draws_by_its_weights():
    distances = [0.3, 0.6, 0.8, 1.0, 1.39, 1.5]
    config = OnlineConfig()
    squares = torch.tensor(distances) ** 2
    expected = torch.softmax(log_weights(squares, 6, config), dim=0)
    inputs = one_anchor(distances)
    result = shares(lambda chance: distance_weighted(inputs, 6, config, chance), 3000)
    torch.testing.assert_close(result[2:8], expected, atol=0.04, rtol=0)
    assert result[7] == 0


def test_one_nearly_opposite_pair_does_not_empty_the_other_rows():
    # 128 dimensions: the weight of D = 1.9999 would swamp every other in float32.
    points = unit_rows(12, 128)
    points[11] = functional.normalize(-points[0] + 1e-4 * points[1], dim=0)
    labels = torch.arange(12) // 2
    inputs = candidates(points, points, labels, torch.arange(12))
    result = distance_weighted(inputs, 128, OnlineConfig(), chance())
    assert result.shape[1] == 12
    assert set(result[0].tolist()) == set(range(12))


def test_an_anchor_with_all_negatives_out_of_range_draws_any():
    inputs = one_anchor([1.5, 1.7, 1.9])
    result = shares(lambda chance: distance_weighted(inputs, 4, OnlineConfig(), chance), 1500)
    torch.testing.assert_close(result[2:5], torch.full((3,), 1 / 3), atol=0.05, rtol=0)


MINERS = ["batch_hard", "semi_hard", "distance_weighted", "random"]


@pytest.mark.parametrize("name", MINERS)
def test_the_seed_decides_and_the_global_generator_does_not(name):
    points, labels, items = unit_rows(40, 8), torch.arange(40) // 4, torch.arange(40)
    config = OnlineConfig(fallback="random")
    miner = OnlineMiner(name=name, margin=0.2, config=config)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = miner(points, points, labels, items, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(one, miner(points, points, labels, items, 3))
    if name != "batch_hard":
        assert not torch.equal(one, miner(points, points, labels, items, 4))


@pytest.mark.parametrize("name", MINERS)
def test_blocks_only_bound_the_memory(name, monkeypatch):
    points, labels, items = unit_rows(40, 8), torch.arange(40) // 4, torch.arange(40)
    miner = OnlineMiner(name=name, margin=0.2)
    complete = miner(points, points, labels, items, 3)
    monkeypatch.setattr(miners, "BLOCK", 40 * 7)
    assert miner(points, points, labels, items, 3).shape == complete.shape
    monkeypatch.setattr(miners, "BLOCK", 1)
    split = miner(points, points, labels, items, 3)
    assert torch.equal(split[:2], complete[:2])


@pytest.mark.parametrize("name", MINERS)
def test_half_precision_embeddings_are_mined_in_single(name):
    points, labels, items = unit_rows(24, 8).bfloat16(), torch.arange(24) // 4, torch.arange(24)
    miner = OnlineMiner(name=name, margin=0.2)
    one, two = (miner(x, x, labels, items, 0) for x in (points, points.float()))
    assert torch.equal(one, two)


def test_batch_all_means_every_triplet():
    points = unit_rows(4, 2)
    miner = OnlineMiner(name="batch_all", margin=0.2)
    assert miner(points, points, torch.arange(4), torch.arange(4), 0) is None


def test_the_window_may_be_in_unsquared_distances():
    points, labels, items = unit_rows(40, 3), torch.arange(40) // 4, torch.arange(40)
    squares, unsquared = (
        OnlineMiner(name="semi_hard", margin=0.2, unsquared=unit)(points, points, labels, items, 0)
        for unit in (False, True)
    )
    for triplets, power in ((squares, 2), (unsquared, 1)):
        a, p, n = (points[row] for row in triplets)
        d_ap, d_an = ((a - x).norm(dim=1) ** power for x in (p, n))
        assert (d_an > d_ap - 1e-6).all()
        assert (d_an < d_ap + 0.2 + 1e-6).all()
    assert squares.shape != unsquared.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fallback": "nearest"}, "online.fallback is 'nearest'; it must be one of skip"),
        ({"nearest": 1.5}, "online.nearest is 1.5 and online.farthest 1.4; the first"),
        ({"farthest": 4.0}, "it must be above 0 and at most 2 .unsquared"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        OnlineConfig(**settings)
    with pytest.raises(InputError, match=r"train\.miner is 'best'; known: auto, batch_all"):
        OnlineMiner(name="best", margin=0.2)
