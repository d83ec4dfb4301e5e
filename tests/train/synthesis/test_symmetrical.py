"""Symmetrical Synthesis: reflections keep lengths and distances, and losses take the hardest."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional

from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch
from remine.train.losses.config import (
    AngularConfig,
    LiftedConfig,
    NPairConfig,
    SymmetricalConfig,
    TripletConfig,
)
from remine.train.losses.lifted import LiftedStructureLoss
from remine.train.losses.n_pair import NPairLoss
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.symmetrical import SymmetricalLoss, reflect, with_reflections

CONFIG = SymmetricalConfig()
numbers = st.floats(-3, 3, allow_subnormal=False)
vectors = st.integers(2, 6).flatmap(
    lambda d: st.tuples(*[st.lists(numbers, min_size=d, max_size=d)] * 2)
)


@settings(max_examples=200, deadline=None)
@given(vectors)
def test_a_reflection_keeps_length_product_and_distance(pair):
    point, axis = (torch.tensor([x], dtype=torch.float64) for x in pair)
    if axis.norm() < 1e-3:
        return
    reflection = reflect(point, axis)
    torch.testing.assert_close(reflection.norm(), point.norm())
    torch.testing.assert_close((reflection * axis).sum(), (point * axis).sum())
    torch.testing.assert_close(
        (reflection - axis).norm(), (point - axis).norm(), atol=1e-7, rtol=1e-7
    )
    torch.testing.assert_close(reflect(reflection, axis), point)  # twice is none
    # Point, reflection and axis lie in one plane, the axis halfway.
    torch.testing.assert_close(
        reflection + point,
        2 * (point * axis).sum() / axis.square().sum() * axis,
        atol=1e-7,
        rtol=1e-7,
    )


def test_where_there_is_no_axis_or_no_difference():
    zero, point = torch.zeros(1, 3), torch.tensor([[1.0, 2, 3]])
    assert torch.equal(reflect(point, zero), -point)
    torch.testing.assert_close(reflect(point, point), point)
    features = torch.zeros(1, 3, requires_grad=True)
    reflect(features, features).sum().backward()
    assert torch.isfinite(features.grad).all()


LABELS = [0, 0, 1, 1, 2, 2, 2, 2]


def batch_of(*, triplets=None, partners=None, seed=0, d=4):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(8, d, generator=generator, dtype=torch.float64).requires_grad_()
    return made_of(features, triplets, partners)


def made_of(features, triplets=None, partners=None):
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.tensor(LABELS),
        items=torch.arange(8),
        triplets=None if triplets is None else torch.tensor(triplets),
        partners=None if partners is None else torch.tensor(partners),
    )


TRIPLETS = [[0, 2, 5], [1, 3, 4], [2, 6, 0]]
PARTNERS = [3, 6, 1]  # the second negative stands for itself
ONLINE = [(0, 1), (2, 3), (4, 5), (6, 7)]


def mirror(p, a):
    u = dot(p, a) / dot(a, a)
    return [2 * u * x - y for x, y in zip(a, p, strict=True)]


def dot(x, y):
    return sum(u * v for u, v in zip(x, y, strict=True))


def squared(x, y):
    return sum((u - v) ** 2 for u, v in zip(x, y, strict=True))


def quad(x, i, j):
    return [x[i], x[j], mirror(x[i], x[j]), mirror(x[j], x[i])]


def all_pairs(has_triplets):
    """(pairs, candidate pairs) by row number."""
    if has_triplets:
        pairs = list(zip(*TRIPLETS[:2], strict=True))
        return pairs, [*pairs, *zip(TRIPLETS[2], PARTNERS, strict=True)]
    return ONLINE, ONLINE


def setting(has_triplets):
    if has_triplets:
        return batch_of(triplets=TRIPLETS, partners=PARTNERS)
    return batch_of()


def least(x, pair, candidate):
    return min(squared(u, v) for u in quad(x, *pair) for v in quad(x, *candidate))


def hinge(d_ap, d_an, *, soft, power):
    gap = d_ap ** (power / 2) - d_an ** (power / 2)
    return math.log1p(math.exp(3 * gap)) if soft else max(0.0, gap + 0.5)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("distance", "power"), [("squared", 2), ("unsquared", 1)])
@pytest.mark.parametrize("has_triplets", [False, True])
def test_triplet_takes_the_least_of_16_distances(soft, distance, power, has_triplets):
    batch = setting(has_triplets)
    x = batch.embeddings.tolist()
    terms = []
    if has_triplets:
        for a, p, n, m in zip(*TRIPLETS, PARTNERS, strict=True):
            d_an = least(x, (a, p), (n, m))
            terms.append(hinge(squared(x[a], x[p]), d_an, soft=soft, power=power))
        expected = sum(terms) / len(terms)
    else:
        for pair, candidate in itertools.product(ONLINE, ONLINE):
            if LABELS[pair[0]] != LABELS[candidate[0]]:
                d_ap = squared(x[pair[0]], x[pair[1]])
                terms.append(hinge(d_ap, least(x, pair, candidate), soft=soft, power=power))
        active = [value for value in terms if value > 0]
        expected = sum(active) / len(active)
    config = TripletConfig(distance=distance, form="soft" if soft else "hinge", scale=3.0)
    result = SymmetricalLoss(TripletLoss(config, 0.5), CONFIG)(batch)
    assert result.loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("has_triplets", [False, True])
def test_n_pair_takes_the_largest_of_16_products(has_triplets):
    batch = setting(has_triplets)
    f, terms = batch.features.tolist(), []
    pairs, candidates = all_pairs(has_triplets)
    for pair in pairs:
        total = 1.0
        for candidate in candidates:
            if LABELS[pair[0]] != LABELS[candidate[0]]:
                top = max(dot(u, v) for u in quad(f, *pair) for v in quad(f, *candidate))
                total += math.exp(top - dot(f[pair[0]], f[pair[1]]))
        terms.append(math.log(total))
    lengths = sum(dot(f[i], f[i]) for pair in pairs for i in pair) / len(pairs)
    expected = sum(terms) / len(terms) + 0.02 / 4 * lengths
    result = SymmetricalLoss(NPairLoss(NPairConfig(l2=0.02)), CONFIG)(batch)
    assert result.loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("has_triplets", [False, True])
@pytest.mark.parametrize("with_n_pair", [False, True])
def test_angular_takes_the_largest_of_all_sums_and_negatives(has_triplets, with_n_pair):
    batch = setting(has_triplets)
    x, terms, t = batch.embeddings.tolist(), [], math.tan(math.radians(40)) ** 2
    pairs, candidates = all_pairs(has_triplets)
    for pair in pairs:
        total = 1.0
        for candidate in candidates:
            if LABELS[pair[0]] != LABELS[candidate[0]]:
                top = max(
                    dot(u, n) + dot(v, n)
                    for u, v in itertools.combinations(quad(x, *pair), 2)
                    for n in quad(x, *candidate)
                )
                total += math.exp(4 * t * top - 2 * (1 + t) * dot(x[pair[0]], x[pair[1]]))
        terms.append(math.log(total))
    expected = sum(terms) / len(terms)
    if with_n_pair:
        n_pair = SymmetricalLoss(NPairLoss(NPairConfig()), CONFIG)(batch).loss.item()
        expected = n_pair + 2 * expected
    inner = AngularLoss(AngularConfig(degrees=40.0, n_pair=with_n_pair), NPairConfig())
    assert SymmetricalLoss(inner, CONFIG)(batch).loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("has_triplets", [False, True])
def test_lifted_structure_takes_the_least_of_16_distances(has_triplets):
    batch = setting(has_triplets)
    x, terms = batch.embeddings.tolist(), []
    pairs, candidates = all_pairs(has_triplets)
    for pair in pairs:
        push = [
            math.exp(1 - math.sqrt(least(x, pair, candidate)))
            for candidate in candidates
            if LABELS[pair[0]] != LABELS[candidate[0]]
        ]
        terms.append(max(0.0, math.log(sum(push)) + math.sqrt(squared(x[pair[0]], x[pair[1]]))))
    expected = sum(v * v for v in terms) / (2 * len(terms))
    result = SymmetricalLoss(LiftedStructureLoss(LiftedConfig()), CONFIG)(batch)
    assert result.loss.item() == pytest.approx(expected, abs=1e-9)


INNER = {
    "triplet": lambda: TripletLoss(TripletConfig(), 0.5),
    "triplet unsquared": lambda: TripletLoss(TripletConfig(distance="unsquared"), 0.5),
    "n-pair": lambda: NPairLoss(NPairConfig()),
    "lifted": lambda: LiftedStructureLoss(LiftedConfig()),
    "angular": lambda: AngularLoss(AngularConfig(n_pair=True), NPairConfig()),
}
either = pytest.mark.parametrize("has_triplets", [False, True])


@either
@pytest.mark.parametrize("name", INNER)
def test_synthetic_points_are_part_of_the_graph(name, has_triplets):
    loss = SymmetricalLoss(INNER[name](), CONFIG)
    triplets = (TRIPLETS, PARTNERS) if has_triplets else ()
    features = batch_of().features.detach().requires_grad_()
    assert gradcheck(lambda x: loss(made_of(x, *triplets)).loss, (features,))


@either
@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_coinciding_points_give_finite_gradients(name, has_triplets, scale):
    features = (scale * torch.ones(8, 4)).requires_grad_()
    triplets = (TRIPLETS, PARTNERS) if has_triplets else ()
    value = SymmetricalLoss(INNER[name](), CONFIG)(made_of(features, *triplets))
    value.loss.backward()
    assert torch.isfinite(value.loss)
    assert torch.isfinite(features.grad).all()
    assert value.synthetic.item() == 0  # a reflection that is no harder is not the negative


@either
@pytest.mark.parametrize("name", INNER)
def test_the_share_of_synthetics_is_told(name, has_triplets):
    value = SymmetricalLoss(INNER[name](), CONFIG)(setting(has_triplets))
    assert 0 < value.synthetic.item() <= 1


def test_by_hand_a_reflection_is_the_negative():
    # Degrees on a circle: A at 0, P at 20, so A' is at 40 and P' at -20; N at 50, N2 at 60, so
    # their reflections are at 70 and 40. A' meets one of them.
    def at(degrees) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]

    features = torch.tensor([at(0), at(20), at(50), at(60), *[at(180)] * 4], dtype=torch.float64)
    batch = made_of(features, [[0], [1], [2]], [3])
    assert with_reflections(features[:1], features[1:2], CONFIG).shape == (4, 1, 2)
    value = SymmetricalLoss(TripletLoss(TripletConfig(), 0.5), CONFIG)(batch)
    d_ap = 2 - 2 * math.cos(math.radians(20))
    assert value.loss.item() == pytest.approx(d_ap + 0.5, abs=1e-9)
    assert value.synthetic.item() == 1


def test_a_negative_alone_stands_for_itself():
    alone = batch_of(triplets=TRIPLETS, partners=TRIPLETS[2])
    without = batch_of(triplets=TRIPLETS)
    loss = SymmetricalLoss(INNER["triplet"](), CONFIG)
    torch.testing.assert_close(loss(alone).loss, loss(without).loss)


def test_positive_sides_are_those_of_the_plain_loss():
    # Far negatives: both losses are 0 together; the pull of the pair is the same where all is on.
    batch = batch_of(triplets=TRIPLETS, partners=PARTNERS)
    plain, synthetic_loss = (
        TripletLoss(TripletConfig(), 4.0),
        SymmetricalLoss(TripletLoss(TripletConfig(), 4.0), CONFIG),
    )
    assert synthetic_loss(batch).loss >= plain(batch).loss


@pytest.mark.parametrize("name", INNER)
def test_one_class_alone_has_no_negative_and_no_loss(name):
    features = batch_of().features
    lonely = Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.zeros(8, dtype=torch.int64),
        items=torch.arange(8),
    )
    inner = INNER[name]() if "pair" not in name else NPairLoss(NPairConfig(l2=0.0))
    if name == "angular":
        inner = AngularLoss(AngularConfig(), NPairConfig())
    value = SymmetricalLoss(inner, CONFIG)(lonely)
    value.loss.backward()
    assert value.loss.item() == 0
    assert not features.grad.any()
