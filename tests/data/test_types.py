"""Arrays with names refuse what does not fit."""

from dataclasses import fields

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.data.types import EASY, HARD, KINDS, SEMI_HARD, Embeddings, Neighbours, Triplets, unit

EMBEDDINGS = {
    "ids": np.array([3, 5, 9]),
    "label_codes": np.array([0, 1, 0], np.int32),
    "vectors": np.eye(3, 4, dtype=np.float32),
}
NEIGHBOURS = {
    "ids": np.array([[1, 2], [3, -1]]),
    "distances": np.array([[0.5, 1], [2, np.inf]], np.float32),
}
TRIPLETS = {
    "anchor_id": np.array([0, 1, 2]),
    "positive_id": np.array([1, 0, 3]),
    "negative_id": np.array([4, 5, 6]),
    "d_ap": np.array([0.5, 0.5, 1], np.float32),
    "d_an": np.array([0.4, 0.6, 3], np.float32),
    "kind": np.array([HARD, SEMI_HARD, EASY], np.int8),
    "negative_rank": np.array([0, 1, 9], np.int32),
    "negative2_id": np.array([7, -1, 8]),
}
ALL = [(Embeddings, EMBEDDINGS), (Neighbours, NEIGHBOURS), (Triplets, TRIPLETS)]
FIELDS = [pytest.param(k, v, n, id=f"{k.__name__}.{n}") for k, v in ALL for n in v]


def test_kinds_are_numbered():
    assert (KINDS[HARD], KINDS[SEMI_HARD], KINDS[EASY]) == ("hard", "semi_hard", "easy")


@pytest.mark.parametrize(("kind", "values", "name"), FIELDS)
def test_what_fits_is_kept(kind, values, name):
    assert {f.name for f in fields(kind)} == set(values)
    assert getattr(kind(**values), name) is values[name]


@pytest.mark.parametrize("change", [lambda a: a.astype(np.float64), lambda a: a.astype(np.uint16)])
@pytest.mark.parametrize(("kind", "values", "name"), FIELDS)
def test_another_dtype_is_refused(kind, values, name, change):
    with np.errstate(invalid="ignore"):
        second = change(values[name])
    with pytest.raises(ValueError, match=f"^{name} must be {values[name].dtype} of shape"):
        kind(**{**values, name: second})


@pytest.mark.parametrize("change", [lambda a: a[..., None], lambda a: a[:-1]])
@pytest.mark.parametrize(("kind", "values", "name"), FIELDS)
def test_another_shape_is_refused(kind, values, name, change):
    with pytest.raises(ValueError, match=r" must be \w+ of shape .*, got "):
        kind(**{**values, name: change(values[name])})


def test_any_number_of_dimensions_neighbours_and_rows():
    for n, d in ((0, 4), (1, 1), (5, 300)):
        ids, codes = np.arange(n), np.zeros(n, np.int32)
        vectors = np.zeros((n, d), np.float32)
        assert len(Embeddings(ids=ids, label_codes=codes, vectors=vectors)) == n
        Neighbours(ids=np.zeros((n, d), np.int64), distances=vectors)


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True]), np.arange(0)])
@pytest.mark.parametrize(("kind", "values"), [ALL[0], ALL[2]])
def test_take_takes_the_same_rows_of_all(kind, values, rows):
    taken = kind(**values).take(rows)
    assert type(taken) is kind
    assert len(taken) == len(values[next(iter(values))][rows])
    for name, array in values.items():
        np.testing.assert_array_equal(getattr(taken, name), array[rows])


def test_concatenate_keeps_the_order():
    complete = Triplets(**TRIPLETS)
    parts = [
        complete.take(np.array([1, 2])),
        complete.take(np.arange(0)),
        complete.take(np.array([0])),
    ]
    joined = Triplets.concatenate(parts)
    for name, array in TRIPLETS.items():
        np.testing.assert_array_equal(getattr(joined, name), array[[1, 2, 0]])


def test_unit_keeps_the_direction():
    # The squares of the last two rows under- and overflow float32.
    vectors = np.array([[3, 4], [-0.1, 0], [1e-11, 0], [3e30, 4e30]], np.float32)
    expected = [[0.6, 0.8], [-1, 0], [1, 0], [0.6, 0.8]]
    scales = unit(vectors)
    assert scales.dtype == np.float32
    np.testing.assert_allclose(scales, expected, rtol=1e-6)


def test_unit_of_many():
    vectors = np.random.default_rng(0).normal(size=(500, 37)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(unit(vectors), axis=1), 1, rtol=1e-6)
    assert unit(vectors[:0]).shape == (0, 37)


@pytest.mark.parametrize("bad", [[0, 0], [np.nan, 1], [np.inf, 1], [1e-20, 0]])
def test_unit_refuses_what_has_no_direction(bad):
    vectors = np.array([[1, 0], bad, bad], np.float32)
    with pytest.raises(InputError, match=r"^vector 1 has length .*: it has no direction$"):
        unit(vectors)
