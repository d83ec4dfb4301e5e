"""The triplet loss against a loop, against another library, and where points coincide."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from remine.train.losses.distances import squared_distances
from remine.train.losses.triplet import triplet_loss


def unit_rows(m, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(m, d, generator=generator))


def loop_loss(anchor, positive, negative, margin):
    """Mean of [d_ap - d_an + margin]+ in float64, and the share above zero."""
    terms = []
    for a, p, n in zip(*(x.double().tolist() for x in (anchor, positive, negative)), strict=True):
        d_ap = sum((u - v) ** 2 for u, v in zip(a, p, strict=True))
        d_an = sum((u - v) ** 2 for u, v in zip(a, n, strict=True))
        terms.append(max(0.0, d_ap - d_an + margin))
    return np.mean(terms), np.mean([value > 0 for value in terms])


@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0, 4.0])
@pytest.mark.parametrize(("m", "d"), [(1, 2), (57, 8), (300, 64)])
def test_equals_the_loop(margin, m, d):
    points = [unit_rows(m, d, seed) for seed in range(3)]
    loss, active = triplet_loss(*points, margin=margin)
    expected, share = loop_loss(*points, margin)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert active.item() == pytest.approx(share, abs=1e-6)


def test_distances_are_squared():
    a = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    b = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    assert squared_distances(a, b).tolist() == [0, 2, 4]


def test_only_triplets_above_zero_are_active():
    # d_ap is 0 and d_an 2: below, exactly at, and above the margin.
    anchor = positive = torch.tensor([[1.0, 0]])
    negative = torch.tensor([[0, 1.0]])
    for margin, loss, active in ((1.5, 0, 0), (2.0, 0, 0), (2.5, 0.5, 1)):
        result = triplet_loss(anchor, positive, negative, margin=margin)
        assert [value.item() for value in result] == [loss, active]


def test_inactive_triplets_count_in_the_mean():
    anchor = torch.tensor([[1.0, 0], [1, 0]])
    positive = torch.tensor([[1.0, 0], [0, 1]])
    negative = torch.tensor([[0, 1.0], [1, 0]])
    loss, active = triplet_loss(anchor, positive, negative, margin=1.0)
    assert (loss.item(), active.item()) == (1.5, 0.5)  # (0 + 3) / 2


def test_gradient_is_that_of_the_formula():
    points = [unit_rows(40, 6, seed).double().requires_grad_() for seed in range(3)]
    loss, active = triplet_loss(*points, margin=0.5)
    assert 0.2 < active.item() < 0.8
    loss.backward()
    a, p, n = points
    weight = (squared_distances(a, p) - squared_distances(a, n) + 0.5 > 0).double()[:, None] / 40
    for point, expected in ((a, 2 * (n - p)), (p, 2 * (p - a)), (n, 2 * (a - n))):
        torch.testing.assert_close(point.grad, weight * expected)


def test_gradient_is_finite_where_points_coincide():
    raw = torch.ones(4, 8, requires_grad=True)
    units = functional.normalize(raw)
    loss, active = triplet_loss(units, units, units, margin=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.2)
    assert active.item() == 1
    assert torch.equal(raw.grad, torch.zeros(4, 8))


def test_the_active_fraction_carries_no_gradient():
    points = [unit_rows(5, 3, seed).requires_grad_() for seed in range(3)]
    loss, active = triplet_loss(*points, margin=0.2)
    assert loss.requires_grad
    assert not active.requires_grad


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_equals_pytorch_metric_learning(margin):
    pml = pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    assert pml.__version__
    theirs = losses.TripletMarginLoss(
        margin=margin,
        distance=distances.LpDistance(power=2),  # squared, as ours
        reducer=reducers.MeanReducer(),  # over all triplets; its default leaves out the inactive
    )
    points = unit_rows(40, 16).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    triplets = torch.randint(0, 40, (3, 200), generator=generator)
    loss, active = triplet_loss(*(points[row] for row in triplets), margin=margin)
    expected = theirs(points, torch.arange(40) % 4, tuple(triplets))
    assert 0.1 < active.item() < 1
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    (ours,) = torch.autograd.grad(loss, points)
    # Theirs normalises once more, so only the part along the sphere can be the same.
    (their_gradient,) = torch.autograd.grad(expected, points)
    along = ours - (ours * points).sum(dim=1, keepdim=True) * points
    torch.testing.assert_close(along, their_gradient, atol=1e-6, rtol=1e-4)
