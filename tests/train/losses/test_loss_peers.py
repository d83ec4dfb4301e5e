"""Losses against pytorch-metric-learning where it is right, and its own losses by name."""

import pytest
import torch
from torch.nn import functional

from remine.data.errors import InputError
from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch
from remine.train.losses.config import (
    AngularConfig,
    ContrastiveConfig,
    LiftedConfig,
    MarginConfig,
    NPairConfig,
    TripletConfig,
)
from remine.train.losses.contrastive import ContrastiveLoss
from remine.train.losses.external import ExternalLoss, parse_options
from remine.train.losses.lifted import LiftedStructureLoss
from remine.train.losses.margin import MarginLoss
from remine.train.losses.n_pair import NPairLoss
from remine.train.losses.triplet import TripletLoss

LABELS = torch.arange(24) // 4


@pytest.fixture(scope="module")
def peers():
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    return losses, distances, reducers


def batch_of(labels=LABELS, d=8, *, triplets=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(labels), d, generator=generator, dtype=torch.float64)
    features = features.requires_grad_()
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=labels,
        items=torch.arange(len(labels)),
        triplets=triplets,
    )


def check(ours, theirs, batch, points=None):
    """The same value and the same gradient at the features."""
    loss = ours(batch).loss
    expected = theirs(points if points is not None else batch.features, batch.labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(loss, batch.features, retain_graph=True),
        torch.autograd.grad(expected, batch.features),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("distance", "power"), [("squared", 2), ("unsquared", 1)])
def test_batch_all(peers, distance, power):
    losses, distances, _ = peers
    theirs = losses.TripletMarginLoss(margin=0.3, distance=distances.LpDistance(power=power))
    check(TripletLoss(TripletConfig(distance=distance), 0.3), theirs, batch_of())


def test_contrastive_pulls_alike(peers):
    # Its push is [m - D]+ or [m - D^2]+, never the square of Hadsell et al.; only the pull is.
    losses, distances, reducers = peers
    theirs = losses.ContrastiveLoss(
        pos_margin=0,
        neg_margin=0,
        distance=distances.LpDistance(power=2),
        reducer=reducers.AvgNonZeroReducer(),
    )
    check(ContrastiveLoss(ContrastiveConfig(margin=1e-9)), theirs, batch_of())


def test_lifted_structure(peers):
    losses, distances, _ = peers
    theirs = losses.LiftedStructureLoss(neg_margin=1, pos_margin=0)
    # Theirs counts each pair in both directions and takes the mean: the same number.
    check(LiftedStructureLoss(LiftedConfig()), theirs, batch_of())
    assert distances


def test_margin(peers):
    losses, _, _ = peers
    triplets = torch.tensor([[0, 4, 8, 1], [1, 5, 9, 2], [4, 8, 0, 20]])
    theirs = losses.MarginLoss(margin=0.2, beta=1.2, learn_beta=True).double()
    ours = MarginLoss(MarginConfig(), classes=6, items=24).double()
    batch = batch_of(triplets=triplets)
    check(ours, lambda x, y: theirs(x, y, tuple(triplets)), batch)
    ours(batch).loss.backward()
    theirs(batch.features, LABELS, tuple(triplets)).backward()
    torch.testing.assert_close(ours.beta.grad, theirs.beta.grad.squeeze())


def test_n_pair(peers):
    # Theirs does not normalise either; pairs are its first two of each class.
    losses, distances, _ = peers
    labels = torch.arange(16) // 2
    theirs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
    check(NPairLoss(NPairConfig(l2=0.0)), theirs, batch_of(labels))


def test_angular_where_the_points_are_on_the_sphere(peers):
    # Theirs leaves the negatives unnormalised: 5 x the inputs and it answers something else.
    losses, _, _ = peers
    labels = torch.arange(16) // 2
    batch = batch_of(labels)
    units = batch.embeddings.detach().requires_grad_()
    anchors = torch.arange(0, 16, 2)
    # Its negatives are all items of other classes; so these triplets name every item once.
    negatives = anchors.roll(-1)
    pairs = torch.stack([anchors, anchors + 1])
    batch = batch_of(labels, triplets=torch.stack([*pairs, negatives]))
    ours = AngularLoss(AngularConfig(degrees=40.0), NPairConfig())(batch)
    theirs = losses.AngularLoss(alpha=40)
    expected = theirs(units, labels, (pairs[0], pairs[1], pairs[0], negatives))
    assert ours.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    scales = theirs(5 * units, labels, (pairs[0], pairs[1], pairs[0], negatives))
    assert scales.item() != pytest.approx(expected.item(), rel=0.1)


@pytest.mark.parametrize("name", ["ContrastiveLoss", "MultiSimilarityLoss", "ProxyAnchorLoss"])
@pytest.mark.usefixtures("peers")
def test_theirs_by_name(name):
    loss = ExternalLoss(name, {}, dimensions=8, classes=6).double()
    batch = batch_of()
    value = loss(batch)
    assert value.loss > 0
    value.loss.backward()
    assert batch.features.grad.any()
    assert bool(list(loss.parameters())) == name.startswith("Proxy")


def test_theirs_on_our_triplets_and_older_items(peers):
    losses, _, _ = peers
    triplets = torch.tensor([[0, 4], [1, 5], [4, 24]])
    memory = functional.normalize(torch.randn(3, 8, dtype=torch.float64))
    plain_batch = batch_of(triplets=triplets)
    batch = Batch(
        **{
            **{k: getattr(plain_batch, k) for k in ("features", "embeddings", "labels", "items")},
            "triplets": triplets,
            "memory_embeddings": memory,
            "memory_labels": torch.tensor([9, 9, 9]),
            "memory_items": torch.tensor([90, 91, 92]),
        }
    )
    loss = ExternalLoss("TripletMarginLoss", {"margin": 0.5}, 8, 6)(batch).loss
    x = batch.pool
    d = [(x[triplets[0]] - x[row]).norm(dim=1) for row in triplets[1:]]
    terms = torch.relu(d[0] - d[1] + 0.5)
    assert loss.item() == pytest.approx(terms[terms > 0].mean().item())
    assert losses


@pytest.mark.usefixtures("peers")
def test_bad_names_and_options_of_theirs_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"'pml:NoLoss'; known: AngularLoss, ArcFaceLoss"):
        ExternalLoss("NoLoss", {}, 8, 6)
    with pytest.raises(InputError, match=r"'pml:ContrastiveLoss': .*margn"):
        ExternalLoss("ContrastiveLoss", {"margn": 1}, 8, 6)


def test_options_are_read_as_toml():
    assert parse_options(["pos_margin=0.1", "a = 3", "b='x'", "c=true"]) == {
        "pos_margin": 0.1,
        "a": 3,
        "b": "x",
        "c": True,
    }
    for bad in ("pos_margin", "=3", "a=b c", "a-b=1"):
        with pytest.raises(InputError, match=r"train\.losses\.pml"):
            parse_options([bad])
