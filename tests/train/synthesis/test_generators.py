"""HDML and DAML: their formulas, and that each part trains what it should."""

import math

import pytest
import torch
from torch.nn import functional

from remine.train.losses.batch import Batch
from remine.train.losses.config import DamlConfig, HdmlConfig, TripletConfig
from remine.train.losses.distances import squared_distances
from remine.train.losses.triplet import TripletLoss, triplet_loss
from remine.train.synthesis.daml import Daml
from remine.train.synthesis.hdml import Hdml, harden
from remine.train.synthesis.networks import apply_frozen, perceptron, update_running_mean

D, CLASSES = 4, 3
TRIPLETS = torch.tensor([[0, 1, 2], [3, 4, 5], [1, 2, 0]])


def batch_of(seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    features = (scale * torch.randn(6, D, generator=generator)).requires_grad_()
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.arange(6) % CLASSES,
        items=torch.arange(6),
        triplets=TRIPLETS,
    )


def hdml(**settings: float) -> Hdml:
    torch.manual_seed(0)
    config = HdmlConfig(hidden=8, **settings)
    return Hdml(TripletLoss(TripletConfig(), 0.5), config, D, CLASSES)


def daml(**settings: float) -> Daml:
    torch.manual_seed(0)
    return Daml(TripletLoss(TripletConfig(), 0.5), DamlConfig(hidden=8, **settings), D)


def test_negatives_are_pulled_towards_the_anchor_and_keep_their_direction():
    a, p, n = torch.randn(3, 50, D, dtype=torch.float64).unbind()
    d_ap, d_an = (a - p).norm(dim=1), (a - n).norm(dim=1)
    for recent in (1e-3, 0.05, 0.5, 1e6):
        hard_negatives = harden(a, p, n, 0.1, torch.tensor(recent, dtype=torch.float64))
        is_farther = d_an > d_ap
        expected = d_ap + (d_an - d_ap) * math.exp(-0.1 / recent)
        distances = (a - hard_negatives).norm(dim=1)
        torch.testing.assert_close(distances[is_farther], expected[is_farther])
        assert torch.equal(hard_negatives[~is_farther], n[~is_farther])
        along = functional.cosine_similarity(hard_negatives - a, n - a)
        torch.testing.assert_close(along, torch.ones_like(along))


def test_where_anchor_and_negative_coincide_all_is_finite():
    point = torch.ones(2, D, requires_grad=True)
    harden(point, point, point, 0.1, torch.tensor(0.1)).sum().backward()
    assert torch.isfinite(point.grad).all()


def test_a_frozen_network_passes_gradients_but_takes_none():
    network, inputs = perceptron(3, 5, 2), torch.randn(4, 3, requires_grad=True)
    outputs = apply_frozen(network, inputs)
    assert torch.equal(outputs, network(inputs))
    outputs.sum().backward()
    assert inputs.grad.any()
    assert all(weight.grad is None for weight in network.parameters())


def test_the_recent_mean_starts_at_the_first_value():
    recent = torch.zeros(())
    update_running_mean(recent, torch.tensor(2.0))
    assert recent == 2
    update_running_mean(recent, torch.tensor(4.0))
    assert recent.item() == pytest.approx(2.1)


def test_hdml_is_its_formula():
    loss, batch = hdml(balance=0.7), batch_of()
    a, p, n = (batch.embeddings[rows] for rows in TRIPLETS)
    metric, _ = triplet_loss(a, p, n, 0.5)
    hard_negatives = harden(a, p, n, 0.1, metric.detach())
    synthetic, _ = triplet_loss(a, p, functional.normalize(loss.generator(hard_negatives)), 0.5)
    reconstruction = functional.normalize(loss.generator(n))
    logits = loss.classifier(functional.normalize(loss.generator(hard_negatives)))
    generator_loss = (reconstruction - n).square().sum(dim=1).mean()
    generator_loss = generator_loss + 0.5 * functional.cross_entropy(
        logits, batch.labels[TRIPLETS[2]]
    )
    weight = math.exp(-0.7 / generator_loss.item())
    expected = weight * metric + (1 - weight) * synthetic + generator_loss
    torch.testing.assert_close(loss(batch).loss, expected)


def test_daml_is_its_formula():
    loss = daml(near_negative=0.7, adversarial=0.3, synthetic=0.4)
    batch = batch_of()
    a, p, n = (batch.embeddings[rows] for rows in TRIPLETS)
    generated = functional.normalize(loss.generator(torch.cat([a, p, n], dim=1)))

    generator_loss = squared_distances(generated, a) + 0.7 * squared_distances(generated, n)
    generator_loss = generator_loss + 0.3 * torch.relu(
        squared_distances(generated, a) - squared_distances(p, a) - 0.5
    )
    metric, _ = triplet_loss(a, p, n, 0.5)
    synthetic, _ = triplet_loss(a, p, generated, 0.5)
    torch.testing.assert_close(loss(batch).loss, metric + 0.4 * synthetic + generator_loss.mean())


@pytest.mark.parametrize("make", [hdml, daml])
def test_each_part_trains_only_its_own(make):
    loss, batch = make(), batch_of()
    loss(batch).loss.backward()
    gradients = [weight.grad.clone() for weight in loss.parameters()]
    encoder = batch.features.grad.clone()
    # The generator's own loss alone gives the same gradient at the generator, none at the encoder.
    second_loss, second_batch = make(), batch_of()
    a, p, n = (second_batch.embeddings[rows] for rows in TRIPLETS)
    if make is daml:
        second_loss.generator_loss(a.detach(), p.detach(), n.detach()).backward()
    else:
        hard_negatives = harden(a, p, n, 0.1, second_loss.inner.on_points(a, p, n).loss.detach())
        labels = second_batch.labels[TRIPLETS[2]]
        second_loss.generator_loss(n.detach(), hard_negatives.detach(), labels).backward()
    for gradient, second_gradient in zip(
        gradients, (weight.grad for weight in second_loss.parameters()), strict=True
    ):
        torch.testing.assert_close(gradient, second_gradient)
    assert encoder.any()
    assert second_batch.features.grad is None


@pytest.mark.parametrize("make", [hdml, daml])
def test_generators_learn(make):
    loss, batch = make(), batch_of()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(batch)
        value.loss.backward(retain_graph=True)
        optimizer.step()
        values.append(value.loss.item())
        assert 0 <= value.synthetic <= 1
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("make", [hdml, daml])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_points_give_finite_gradients(make, scale):
    batch, loss = batch_of(scale=scale), make()
    loss(batch).loss.backward()
    assert torch.isfinite(batch.features.grad).all()
    assert all(torch.isfinite(weight.grad).all() for weight in loss.parameters())
