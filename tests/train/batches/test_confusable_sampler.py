"""Batches of confusable classes: who is in them, how often, and the same after a kill."""

from itertools import islice

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.train.batches.confusable_sampler import ConfusableSampler

CLASSES = 20


def ring(classes=CLASSES, m=4):
    """Class i is taken for i + 1, i - 1, i + 2, ... around a ring."""
    steps = [(i // 2 + 1) * (-1) ** i for i in range(m)]
    return (np.arange(classes)[:, None] + np.array(steps)) % classes


def sampler_of(classes_wanted=5, share=0.0, sizes=None, neighbours=None, seed=0):
    labels = np.repeat(np.arange(CLASSES), sizes or [6] * CLASSES)
    labels = np.random.default_rng(1).permutation(np.concatenate([labels, [-1] * 7]))
    return ConfusableSampler(
        labels=labels.astype(np.int64),
        batch=3 * classes_wanted,
        per_class=3,
        seed=seed,
        neighbours=ring() if neighbours is None else neighbours,
        random_share=share,
    )


def classes_of(sampler, count, start=0):
    """(count, P) class numbers of batches; every class has K rows of its own."""
    batches = []
    for rows in islice(sampler.batches(start), count):
        classes = sampler.labels[rows].reshape(-1, sampler.per_class)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == len(classes)
        batches.append(classes[:, 0].tolist())
    return batches


def test_a_batch_is_a_class_and_its_neighbours_in_order():
    for first, *remainder in classes_of(sampler_of(), 40):
        assert remainder == ring()[first].tolist()


def test_an_epoch_starts_at_every_class_once():
    batches = classes_of(sampler_of(), 2 * CLASSES)
    firsts = [first for first, *_ in batches]
    assert sorted(firsts[:CLASSES]) == sorted(firsts[CLASSES:]) == list(range(CLASSES))
    assert firsts[:CLASSES] != firsts[CLASSES:]


def test_longer_batches_go_on_with_the_neighbours_neighbours():
    for first, *remainder in classes_of(sampler_of(8), 20):
        around = ring()
        expected = []
        for label in (first, *around[first]):
            expected += [c for c in around[label].tolist() if c != first and c not in expected]
        assert remainder == expected[:7]


@pytest.mark.parametrize(("share", "neighbour_count"), [(0.0, 4), (0.25, 3), (0.5, 2), (1.0, 0)])
def test_a_share_is_drawn_from_all_classes(share, neighbour_count):
    batches = classes_of(sampler_of(5, share), 200)
    random_classes = [tail[neighbour_count:] for _, *tail in batches]
    assert all(
        tail[:neighbour_count] == ring()[first, :neighbour_count].tolist()
        for first, *tail in batches
    )
    if share:
        counts = np.bincount(np.concatenate(random_classes), minlength=CLASSES)
        assert counts.min() > 0
        assert counts.max() < 3 * counts.mean()


def test_where_the_lists_end_classes_are_drawn():
    pairs = np.arange(CLASSES)[:, None] ^ 1  # 0 with 1, 2 with 3, and nothing leads out
    batches = classes_of(sampler_of(5, neighbours=pairs), 30)
    assert all(second == first ^ 1 for first, second, *_ in batches)
    assert len({tuple(remainder) for _, _, *remainder in batches}) > 20


def test_classes_of_one_item_are_passed_over():
    sizes = [1 if i % 4 == 0 else 5 for i in range(CLASSES)]
    sampler = sampler_of(4, sizes=sizes)
    for first, *remainder in classes_of(sampler, 30):
        assert all(c % 4 for c in (first, *remainder))
        assert remainder[0] in ring()[first]


@pytest.mark.parametrize("start", [0, 3, 19, 20, 47])
def test_any_batch_is_the_same_whatever_was_read_before(start):
    all_batches = np.stack(list(islice(sampler_of(share=0.5).batches(), start + 3)))
    later_batches = np.stack(list(islice(sampler_of(share=0.5).batches(start), 3)))
    np.testing.assert_array_equal(all_batches[start:], later_batches)


def test_another_seed_gives_other_batches():
    assert classes_of(sampler_of(seed=1), 20) != classes_of(sampler_of(seed=2), 20)


def test_too_few_classes_are_refused():
    with pytest.raises(InputError, match="20 training classes have 2 or more items"):
        next(sampler_of(21).batches())
