"""Every loss against plain loops in float64, written from the formulas alone."""

import math

import pytest
import torch
from torch.nn import functional

from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch, class_pairs
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
from remine.train.losses.softmax import SoftmaxLoss, check_alpha, least_alpha
from remine.train.losses.triplet import TripletLoss


def batch_of(labels, d=5, seed=0, *, items=None, older=(), triplets=None, scale=2.0):
    """A float64 batch whose features ask for a gradient."""
    generator = torch.Generator().manual_seed(seed)
    m, o = len(labels), len(older)
    draw = torch.randn(m + o, d, generator=generator, dtype=torch.float64)
    features = (scale * draw[:m]).requires_grad_()
    extra = {}
    if o:
        extra = {
            "memory_embeddings": functional.normalize(draw[m:]),
            "memory_labels": torch.tensor(older),
            "memory_items": torch.arange(100, 100 + o),
        }
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.tensor(labels),
        items=torch.arange(m) if items is None else torch.tensor(items),
        triplets=None if triplets is None else torch.tensor(triplets),
        **extra,
    )


def dot(x, y):
    return sum(u * v for u, v in zip(x, y, strict=True))


def dist(x, y):
    return math.sqrt(sum((u - v) ** 2 for u, v in zip(x, y, strict=True)))


class Plain:
    """A batch as lists."""

    def __init__(self, batch) -> None:
        self.x = batch.pool.tolist()
        self.f = batch.features.tolist()
        self.y = batch.pool_labels.tolist()
        self.id = batch.pool_items.tolist()
        self.m = len(self.f)

    def positives(self, i):
        return [
            j for j in range(len(self.x)) if self.y[j] == self.y[i] and self.id[j] != self.id[i]
        ]

    def negatives(self, i):
        return [j for j in range(len(self.x)) if self.y[j] != self.y[i]]

    def triplets(self):
        return [
            (a, p, n) for a in range(self.m) for p in self.positives(a) for n in self.negatives(a)
        ]


LABELS = [3, 3, 3, 0, 0, 1, 1, 2]  # of three, of two, a singleton
CASES = {
    "plain": {"labels": LABELS},
    "one item twice": {"labels": LABELS, "items": [0, 1, 0, 3, 4, 5, 6, 7]},
    "with older": {"labels": LABELS, "older": [3, 2, 9, 1]},
    "one class": {"labels": [1, 1, 1]},
    "singletons": {"labels": [1, 2, 3]},
}


def mean(values):
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("distance", ["squared", "unsquared"])
@pytest.mark.parametrize("form", ["hinge", "soft"])
@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_batch_all(case, distance, form, margin):
    batch = batch_of(**CASES[case])
    plain, power = Plain(batch), 2 if distance == "squared" else 1
    terms = []
    for a, p, n in plain.triplets():
        gap = dist(plain.x[a], plain.x[p]) ** power - dist(plain.x[a], plain.x[n]) ** power
        terms.append(math.log1p(math.exp(3 * gap)) if form == "soft" else max(0, gap + margin))
    config = TripletConfig(distance=distance, form=form, scale=3.0)
    result = TripletLoss(config, margin)(batch)
    active = [value for value in terms if value > 1e-16]
    assert result.loss.item() == pytest.approx(mean(active), abs=1e-9)
    assert result.active.item() == pytest.approx(len(active) / max(1, len(terms)))


TRIPLETS = [[0, 3, 5, 1], [1, 4, 6, 2], [3, 0, 7, 5]]


@pytest.mark.parametrize("distance", ["squared", "unsquared"])
@pytest.mark.parametrize("form", ["hinge", "soft"])
def test_given_triplets_are_averaged_over_all(distance, form):
    batch = batch_of(LABELS, triplets=TRIPLETS)
    x, power = Plain(batch).x, 2 if distance == "squared" else 1
    gaps = [
        dist(x[a], x[p]) ** power - dist(x[a], x[n]) ** power
        for a, p, n in zip(*TRIPLETS, strict=True)
    ]
    terms = [math.log1p(math.exp(3 * g)) if form == "soft" else max(0, g + 0.3) for g in gaps]
    config = TripletConfig(distance=distance, form=form, scale=3.0)
    result = TripletLoss(config, 0.3)(batch)
    assert result.loss.item() == pytest.approx(mean(terms), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("margin", [0.5, 1.4])
def test_contrastive(case, margin):
    batch = batch_of(**CASES[case])
    plain = Plain(batch)
    pull = [dist(plain.x[i], plain.x[j]) ** 2 for i in range(plain.m) for j in plain.positives(i)]
    push = [
        max(0, margin - dist(plain.x[i], plain.x[j])) ** 2
        for i in range(plain.m)
        for j in plain.negatives(i)
    ]
    active = [value for value in push if value > 0]
    result = ContrastiveLoss(ContrastiveConfig(margin=margin))(batch)
    assert result.loss.item() == pytest.approx(mean(pull) + mean(active), abs=1e-9)
    share = (len(pull) + len(active)) / max(1, len(pull) + len(push))
    assert result.active.item() == pytest.approx(share)


def test_contrastive_on_given_triplets():
    batch = batch_of(LABELS, triplets=TRIPLETS)
    x = Plain(batch).x
    pull = [dist(x[a], x[p]) ** 2 for a, p in zip(*TRIPLETS[:2], strict=True)]
    push = [max(0, 1.4 - dist(x[a], x[n])) ** 2 for a, _, n in zip(*TRIPLETS, strict=True)]
    result = ContrastiveLoss(ContrastiveConfig(margin=1.4))(batch)
    assert result.loss.item() == pytest.approx(
        mean(pull) + mean([value for value in push if value > 0]), abs=1e-9
    )


def pair_rows(labels, items=None):
    items = items or list(range(len(labels)))
    rows = []
    for label in sorted(set(labels)):
        class_rows = [i for i in range(len(labels)) if labels[i] == label]
        rows += [(class_rows[k], class_rows[k + 1]) for k in range(0, len(class_rows) - 1, 2)]
    return [(i, j) for i, j in rows if items[i] != items[j]]


@pytest.mark.parametrize(
    ("labels", "items"),
    [
        (LABELS, None),
        ([1, 2, 1, 2, 1, 1], None),
        ([5], None),
        ([1, 2], None),
        ([1, 1, 1, 1], [7, 7, 8, 9]),
    ],
)
def test_pairs_are_two_by_two_within_a_class(labels, items):
    numbers = torch.tensor(items or list(range(len(labels))))
    pairs = class_pairs(torch.tensor(labels), numbers)
    assert [tuple(pair) for pair in pairs.T.tolist()] == pair_rows(labels, items)


def pair_setting(case):
    """The anchors, positives and the candidates' rows, as lists, beside the batch."""
    if case == "triplets":
        batch = batch_of(LABELS, triplets=TRIPLETS)
        pairs = list(zip(*TRIPLETS[:2], strict=True))
        return batch, pairs, [*TRIPLETS[1], *TRIPLETS[2]]
    labels = {"online": LABELS, "two pairs a class": [0, 0, 0, 0, 1, 1, 2, 2]}[case]
    pairs = pair_rows(labels)
    return batch_of(labels), pairs, [p for _, p in pairs]


PAIR_CASES = ["online", "two pairs a class", "triplets"]


def n_pair_by_hand(batch, pairs, candidates, l2):
    plain, terms = Plain(batch), []
    for a, p in pairs:
        gaps = [
            dot(plain.f[a], plain.f[c]) - dot(plain.f[a], plain.f[p])
            for c in candidates
            if plain.y[c] != plain.y[a]
        ]
        terms.append(math.log(1 + sum(math.exp(gap) for gap in gaps)))
    lengths = mean([dot(plain.f[a], plain.f[a]) for a, _ in pairs])
    lengths += mean([dot(plain.f[p], plain.f[p]) for _, p in pairs])
    return mean(terms) + l2 / 4 * lengths


@pytest.mark.parametrize("case", PAIR_CASES)
@pytest.mark.parametrize("l2", [0.0, 0.02])
def test_n_pair(case, l2):
    batch, pairs, candidates = pair_setting(case)
    result = NPairLoss(NPairConfig(l2=l2))(batch)
    expected = n_pair_by_hand(batch, pairs, candidates, l2)
    assert result.loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", PAIR_CASES)
@pytest.mark.parametrize("degrees", [36.0, 45.0])
@pytest.mark.parametrize("with_n_pair", [False, True])
def test_angular(case, degrees, with_n_pair):
    batch, pairs, candidates = pair_setting(case)
    plain, t, terms = Plain(batch), math.tan(math.radians(degrees)) ** 2, []
    for a, p in pairs:
        pair_sum = [u + v for u, v in zip(plain.x[a], plain.x[p], strict=True)]
        pair_term = 2 * (1 + t) * dot(plain.x[a], plain.x[p])
        negatives = [c for c in candidates if plain.y[c] != plain.y[a]]
        terms.append(
            math.log(
                1 + sum(math.exp(4 * t * dot(pair_sum, plain.x[c]) - pair_term) for c in negatives)
            )
        )
    config = AngularConfig(degrees=degrees, n_pair=with_n_pair, weight=2.0)
    result = AngularLoss(config, NPairConfig(l2=0.02))(batch)
    expected = mean(terms)
    if with_n_pair:
        expected = n_pair_by_hand(batch, pairs, candidates, 0.02) + 2 * expected
    assert result.loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if case != "with older"])
@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_lifted_structure(case, margin):
    batch = batch_of(**CASES[case])
    plain, terms = Plain(batch), []
    for i in range(plain.m):
        for j in plain.positives(i):
            if j > i and plain.negatives(i):
                push = sum(
                    math.exp(margin - dist(plain.x[i], plain.x[k])) for k in plain.negatives(i)
                )
                push += sum(
                    math.exp(margin - dist(plain.x[j], plain.x[k])) for k in plain.negatives(j)
                )
                terms.append(max(0, math.log(push) + dist(plain.x[i], plain.x[j])))
    result = LiftedStructureLoss(LiftedConfig(margin=margin))(batch)
    assert result.loss.item() == pytest.approx(mean([v * v for v in terms]) / 2, abs=1e-9)
    assert result.active.item() == pytest.approx(mean([v > 0 for v in terms]))


@pytest.mark.parametrize("case", [*CASES, "triplets"])
@pytest.mark.parametrize("nu", [0.0, 0.3])
@pytest.mark.parametrize(("per_class", "per_item"), [(False, False), (True, False), (True, True)])
def test_margin_with_learned_boundaries(case, nu, per_class, per_item):
    batch = batch_of(LABELS, triplets=TRIPLETS) if case == "triplets" else batch_of(**CASES[case])
    config = MarginConfig(alpha=0.3, beta=1.1, nu=nu, per_class=per_class, per_item=per_item)
    loss = MarginLoss(config, classes=10, items=200).double()
    beta = [loss.beta.item()] * 200
    with torch.no_grad():
        if per_class:
            loss.beta_class.copy_(torch.linspace(-0.2, 0.2, 10))
        if per_item:
            loss.beta_item.copy_(torch.linspace(0.1, -0.1, 200))
    plain = Plain(batch)
    for i in range(plain.m):
        beta[i] += loss.beta_class[plain.y[i]].item() if per_class else 0
        beta[i] += loss.beta_item[plain.id[i]].item() if per_item else 0
    if case == "triplets":
        positive_pairs = [(a, p) for a, p, _ in zip(*TRIPLETS, strict=True)]
        negative_pairs, anchors = [(a, n) for a, _, n in zip(*TRIPLETS, strict=True)], TRIPLETS[0]
    else:
        positive_pairs = [(i, j) for i in range(plain.m) for j in plain.positives(i)]
        negative_pairs = [(i, j) for i in range(plain.m) for j in plain.negatives(i)]
        anchors = range(plain.m)
    terms = [max(0, 0.3 + dist(plain.x[i], plain.x[j]) - beta[i]) for i, j in positive_pairs]
    terms += [max(0, 0.3 + beta[i] - dist(plain.x[i], plain.x[j])) for i, j in negative_pairs]
    count = sum(value > 0 for value in terms)
    expected = (sum(terms) + nu * sum(beta[i] for i in anchors)) / max(1, count)
    result = loss(batch)
    assert result.loss.item() == pytest.approx(expected, abs=1e-7)  # beta starts as a float32
    assert result.active.item() == pytest.approx(count / max(1, len(terms)))


def test_boundaries_are_learned():
    loss = MarginLoss(MarginConfig(per_class=True, per_item=True), classes=10, items=8).double()
    loss(batch_of(LABELS)).loss.backward()
    assert loss.beta.grad != 0
    assert set(loss.beta_class.grad.nonzero().ravel().tolist()) <= {0, 1, 2, 3}
    assert loss.beta_item.grad.any()


@pytest.mark.parametrize("alpha", [0.0, 12.0])
def test_softmax(alpha):
    batch = batch_of(LABELS)
    loss = SoftmaxLoss(5, 4, alpha).double()
    weight, bias = loss.classifier.weight.tolist(), loss.classifier.bias.tolist()
    terms = []
    for f, y in zip(batch.features.tolist(), LABELS, strict=True):
        length = math.sqrt(dot(f, f))
        g = [alpha * u / length for u in f] if alpha else f
        logits = [dot(w, g) + b for w, b in zip(weight, bias, strict=True)]
        terms.append(math.log(sum(math.exp(v) for v in logits)) - logits[y])
    assert loss(batch).loss.item() == pytest.approx(mean(terms), abs=1e-9)


@pytest.mark.parametrize(("classes", "least"), [(98, 6.76), (11_318, 11.53), (2, 0), (1, 0)])
def test_the_bound_of_alpha(classes, least):
    assert least_alpha(classes, 0.9) == pytest.approx(least, abs=0.006)
    check_alpha(least + 0.02, classes, 0.9)
    if least:
        with pytest.raises(ValueError, match=rf"alpha is {least - 0.02:.2f}.* {classes} classes"):
            check_alpha(round(least - 0.02, 2), classes, 0.9)


def test_at_the_bound_the_probability_is_reached_and_not_below():
    # C centres as far apart as C <= d + 1 can be: a regular simplex, each class at its centre.
    c, p = 50, 0.9
    centres = functional.normalize(torch.eye(c, dtype=torch.float64) - 1 / c)
    for alpha, is_reached in ((least_alpha(c, p), True), (least_alpha(c, p) - 1, False)):
        chance = torch.softmax(alpha * centres @ centres.T, dim=1).diagonal().min()
        assert (chance.item() >= p - 0.01) == is_reached
