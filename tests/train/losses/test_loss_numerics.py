"""Losses where numbers are extreme: coinciding, opposite and long points, bf16, B = 512."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch
from remine.train.losses.batch_all import batch_all_loss
from remine.train.losses.config import (
    AngularConfig,
    ContrastiveConfig,
    LiftedConfig,
    MarginConfig,
    NPairConfig,
    TripletConfig,
)
from remine.train.losses.contrastive import ContrastiveLoss
from remine.train.losses.lifted import LiftedStructureLoss
from remine.train.losses.margin import MarginLoss
from remine.train.losses.n_pair import NPairLoss
from remine.train.losses.softmax import SoftmaxLoss
from remine.train.losses.triplet import TripletLoss, triplet_loss

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
D = 4


def triplet(form="hinge", distance="squared"):
    return lambda: TripletLoss(TripletConfig(form=form, distance=distance), 0.4)


MAKERS = {
    "triplet": triplet(),
    "triplet unsquared": triplet(distance="unsquared"),
    "triplet soft": triplet(form="soft"),
    "triplet soft unsquared": triplet(form="soft", distance="unsquared"),
    "contrastive": lambda: ContrastiveLoss(ContrastiveConfig(margin=1.2)),
    "n-pair": lambda: NPairLoss(NPairConfig(l2=0.01)),
    "lifted": lambda: LiftedStructureLoss(LiftedConfig()),
    "angular": lambda: AngularLoss(AngularConfig(), NPairConfig()),
    "angular and n-pair": lambda: AngularLoss(AngularConfig(n_pair=True), NPairConfig()),
    "margin": lambda: MarginLoss(MarginConfig(per_class=True, per_item=True, nu=0.1), 4, 8),
    "softmax": lambda: SoftmaxLoss(D, 4),
    "l2 softmax": lambda: SoftmaxLoss(D, 4, alpha=16),
}
WITH_TRIPLETS = torch.tensor([[0, 1, 3, 5], [1, 2, 4, 6], [3, 7, 0, 2]])


def batch_of(features, *, triplets=False):
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=LABELS,
        items=torch.arange(8),
        triplets=WITH_TRIPLETS if triplets else None,
    )


def random_features(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, D, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("triplets", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_gradients_are_those_of_the_values(name, triplets):
    loss = MAKERS[name]().double()
    features = random_features().requires_grad_()
    assert gradcheck(lambda x: loss(batch_of(x, triplets=triplets)).loss, (features,))


def edge_features(edge):
    if edge == "identical":
        return torch.ones(8, D)
    if edge == "two identical":
        features = random_features(torch.float32)
        features[1] = features[3] = features[0]
        return features
    if edge == "antipodal":
        return torch.ones(8, D) * torch.tensor([1, -1, 1, -1, 1, -1, 1, -1.0])[:, None]
    scale = {"long": 100.0, "very long": 1e4, "short": 1e-6}[edge]
    return scale * random_features(torch.float32)


EDGES = ["identical", "two identical", "antipodal", "long", "very long", "short"]


@pytest.mark.parametrize("triplets", [False, True])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", MAKERS)
def test_values_and_gradients_are_finite(name, edge, triplets):
    loss = MAKERS[name]()
    features = edge_features(edge).requires_grad_()
    value = loss(batch_of(features, triplets=triplets))
    value.loss.backward()
    assert torch.isfinite(value.loss)
    assert torch.isfinite(features.grad).all()
    assert 0 <= value.active <= 1
    for parameter in loss.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("triplets", [False, True])
@pytest.mark.parametrize("edge", ["two identical", "antipodal", "long"])
@pytest.mark.parametrize("name", MAKERS)
def test_float32_is_close_to_float64(name, edge, triplets):
    torch.manual_seed(0)
    loss = MAKERS[name]()
    single = loss(batch_of(edge_features(edge), triplets=triplets)).loss
    double = loss.double()(batch_of(edge_features(edge).double(), triplets=triplets)).loss
    torch.testing.assert_close(single.double(), double, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("triplets", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_bf16_is_as_good_as_its_inputs(name, triplets):
    # Computed in float32 whatever comes in: equal to the loss of the rounded features.
    torch.manual_seed(0)
    loss = MAKERS[name]()
    bf16_features = functional.normalize(random_features(torch.float32)).bfloat16()
    units = functional.normalize(bf16_features.float()).bfloat16()
    value, expected = (
        loss(
            Batch(
                features=cast(bf16_features),
                embeddings=cast(units),
                labels=LABELS,
                items=torch.arange(8),
                triplets=WITH_TRIPLETS if triplets else None,
            )
        )
        for cast in (lambda x: x, lambda x: x.float())
    )
    assert value.loss.dtype == torch.float32
    assert torch.equal(value.loss, expected.loss)


def test_bf16_gradients_reach_the_features():
    features = random_features(torch.bfloat16).requires_grad_()
    TripletLoss(TripletConfig(), 0.4)(batch_of(features)).loss.backward()
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.any()
    loss, _ = triplet_loss(*features.detach()[:6].chunk(3), margin=0.2)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", [n for n in MAKERS if "softmax" not in n])
def test_nothing_to_learn_from_is_no_loss_and_a_zero_gradient(name):
    features = random_features(torch.float32).requires_grad_()
    lonely = Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.arange(8),
        items=torch.arange(8),
    )
    loss = MAKERS[name]() if name != "margin" else MarginLoss(MarginConfig(), 8, 8)
    value = loss(lonely)
    if name not in ("contrastive", "margin"):  # they push negatives apart without positives
        assert value.loss.item() == 0
        assert value.active.item() == 0
    value.loss.backward()
    assert torch.isfinite(features.grad).all()


def test_squared_distances_do_not_move_a_hard_negative_and_unsquared_ones_do():
    # Why the unsquared form exists: the pull on a negative vanishes where it meets the anchor.
    anchor = torch.tensor([[1.0, 0, 0, 0]])
    positive = torch.tensor([[0, 1.0, 0, 0]])
    lengths = []
    for distance in ("squared", "unsquared"):
        negative = functional.normalize(anchor + torch.tensor([[0, 0, 1e-3, 0]])).requires_grad_()
        loss = TripletLoss(TripletConfig(distance=distance), 0.2)
        loss.on_points(anchor, positive, negative).loss.backward()
        lengths.append(negative.grad.norm().item())
    assert lengths[0] == pytest.approx(2e-3, rel=0.01)
    assert lengths[1] == pytest.approx(1, rel=0.01)


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        return out


@pytest.mark.parametrize("per_class", [4, 64])
def test_batch_all_of_512_makes_nothing_near_the_cubic_tensor(per_class):
    generator = torch.Generator().manual_seed(0)
    points = functional.normalize(torch.randn(512, 16, generator=generator)).requires_grad_()
    labels = torch.arange(512) // per_class
    batch = Batch(features=points, embeddings=points, labels=labels, items=torch.arange(512))
    with Largest() as tensors:
        TripletLoss(TripletConfig(), 0.2)(batch).loss.backward()
    # At most a dozen live at a time; benchmarks/batch_all.py measures the peak.
    assert tensors.largest < 512**3 * 4 / 100
    assert points.grad.any()


def test_blocks_do_not_change_batch_all(monkeypatch):
    from remine.train.losses import batch_all

    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(20, 30, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.arange(30) % 4
    positive = (labels[:20, None] == labels) & ~torch.eye(20, 30, dtype=torch.bool)
    negative = labels[:20, None] != labels
    results = []
    for block in (1, 7 * 30, 1 << 18):
        monkeypatch.setattr(batch_all, "BLOCK", block)
        loss, active = batch_all_loss(distances, positive, negative, margin=0.1)
        results.append((loss, active, *torch.autograd.grad(loss, distances)))
    for result in results[1:]:
        for value, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(value, expected)
