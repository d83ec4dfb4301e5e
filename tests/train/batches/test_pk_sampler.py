"""PK batches: K of each of P classes, every class once an epoch, batch b always the same."""

from itertools import islice

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.train.batches.pk_sampler import PKSampler


def labels_of(sizes, seed=0):
    """Class numbers in a random order, with some rows left out."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.concatenate([labels, np.full(5, -1)])
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def sampler_of(sizes, batch, per_class, seed=0):
    return PKSampler(labels=labels_of(sizes), batch=batch, per_class=per_class, seed=seed)


def first_batches(sampler, count, start=0):
    return np.stack(list(islice(sampler.batches(start), count)))


@pytest.mark.parametrize("sizes", [[9] * 7, [2, 5, 3, 9, 1, 2, 4], [1, 1, 8, 8, 8]])
@pytest.mark.parametrize("per_class", [2, 3, 4])
def test_k_of_each_of_p_classes(sizes, per_class):
    sampler = sampler_of(sizes, 3 * per_class, per_class)
    for rows in first_batches(sampler, 20):
        assert rows.dtype == np.int64
        classes = sampler.labels[rows].reshape(3, per_class)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == 3
        assert (classes >= 0).all()
        for class_rows in rows.reshape(3, per_class):
            size = sizes[sampler.labels[class_rows[0]]]
            assert size > 1
            assert len(set(class_rows.tolist())) == min(size, per_class)


def test_every_class_once_an_epoch():
    sampler = sampler_of([6] * 12, 8, 2)
    epochs = first_batches(sampler, 9).reshape(3, 24)
    for epoch in epochs:
        assert sorted(set(sampler.labels[epoch].tolist())) == list(range(12))
    assert len({str(epoch.tolist()) for epoch in epochs}) == 3


def test_in_time_every_item_comes():
    sampler = sampler_of([2, 7, 5, 9], 8, 2)
    assert set(first_batches(sampler, 60).ravel().tolist()) == set(
        np.flatnonzero(sampler.labels >= 0)
    )


@pytest.mark.parametrize("start", [1, 2, 3, 17, 1000])
def test_batch_b_is_the_same_from_wherever_one_starts(start):
    sampler = sampler_of([5] * 10, 12, 4)
    all_batches = first_batches(sampler, 20)
    np.testing.assert_array_equal(first_batches(sampler, 20), all_batches)
    if start < 20:
        np.testing.assert_array_equal(
            first_batches(sampler, 20 - start, start), all_batches[start:]
        )
    second_sampler = sampler_of([5] * 10, 12, 4)
    np.testing.assert_array_equal(
        first_batches(second_sampler, 3, start), first_batches(sampler, 3, start)
    )


def test_the_seed_decides():
    assert (
        first_batches(sampler_of([5] * 10, 12, 4, 1), 3).tolist()
        != first_batches(sampler_of([5] * 10, 12, 4, 2), 3).tolist()
    )


def test_singletons_are_counted_and_left_out_unless_no_pair_is_asked():
    assert sampler_of([1, 1, 4, 4], 4, 2).singletons == 2
    sampler = sampler_of([1, 1, 4, 4], 4, 1)
    assert sampler.singletons == 0
    assert sorted(set(sampler.labels[first_batches(sampler, 1)[0]].tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize(("sizes", "batch"), [([5, 5], 6), ([1, 1, 1, 5], 4), ([9], 2), ([], 4)])
def test_too_few_classes_are_refused(sizes, batch):
    with pytest.raises(InputError, match=r"training classes have 2 or more items") as refusal:
        next(sampler_of(sizes, batch, 2).batches())
    assert "\n" not in str(refusal.value)
