"""What `mine` is given, checked: whatever cannot be mined is refused in one line."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, TypeGuard

import numpy as np

from remine.data.errors import InputError
from remine.data.types import Embeddings, Float32, Int32, Int64, unit
from remine.mining.problem import Problem, by_label, by_labels, by_pairs

SEVERAL = (list, tuple, set, frozenset, np.ndarray)
LARGEST_SEED = 2**63 - 1  # hashes take 64 bits


def make_problem(
    vectors: Float32,
    labels: Sequence[object] | Sequence[Sequence[str]] | None,
    ids: Int64 | None,
    queries: Float32 | None,
    positives: Mapping[int, Sequence[int]] | None,
) -> Problem:
    """The problem that `mine` is given; see there."""
    vectors = unit_rows("vector", vectors)
    n = len(vectors)
    if not n:
        raise InputError("there are no vectors")
    known = np.arange(n) if ids is None else whole_numbers("ids", ids)
    if known.shape != (n,) or len(np.unique(known)) < n:
        raise InputError(f"ids must be {n} different integers, one for each vector")
    order = np.argsort(known, kind="stable")
    if ids is not None:
        known, vectors = known[order], vectors[order]
    if queries is None and positives is None:
        if not _counted(labels) or len(labels) != n:
            raise InputError(f"{n} vectors need {n} labels, or queries and positives")
        return _labelled(known, vectors, labels, order)
    if queries is None or positives is None:
        raise InputError("queries need positives, and these queries: number -> ids of its answers")
    if labels is not None:
        raise InputError("give labels, or queries with positives; not both")
    asked = unit_rows("query", queries)
    if asked.shape[1] != vectors.shape[1]:
        raise InputError(f"queries have {asked.shape[1]} dimensions, vectors {vectors.shape[1]}")
    return by_pairs(asked, np.arange(len(asked)), vectors, known, _answers(positives))


def unit_rows(what: str, given: Any) -> Float32:
    """Rows (n, d) of numbers as float32 of length 1; `what` names one in messages."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{what} rows differ in length; they must be (n, d) numbers") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{what} rows are {array.dtype} of shape {array.shape}; they must be (n, d) numbers"
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused
        return unit(array.astype(np.float32, copy=False), what)


def whole_numbers(what: str, given: Any) -> Int64:
    """Integers of any shape as int64; never cut off, never wrapped around."""
    try:
        array = np.asarray(given)
    except (ValueError, OverflowError):
        raise InputError(f"{what} must be integers of 64 bits") from None
    if not array.size:
        return array.astype(np.int64)
    large = array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max
    if array.dtype.kind not in "iu" or large:
        raise InputError(f"{what} are {array.dtype}; they must be integers of 64 bits")
    return array.astype(np.int64)


def check_seed(seed: int) -> int:
    """`seed` where it can be hashed."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed is {seed!r}; it must be a whole number, 0 to {LARGEST_SEED}")
    return int(seed)


def id_pairs(given: Any) -> Int64:
    """same_as: pairs (p, 2) of ids."""
    pairs = whole_numbers("same_as ids", given)
    if not pairs.size:
        return np.empty((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"same_as has shape {pairs.shape}; it must be (p, 2) ids")
    return pairs


def _counted(labels: Any) -> TypeGuard[Sequence[object]]:
    """Whether these are labels one after the other."""
    if hasattr(labels, "__array__"):
        return bool(np.ndim(labels))
    return isinstance(labels, Sequence) and not isinstance(labels, str | bytes)


def _labelled(ids: Int64, vectors: Float32, labels: Any, order: Int64) -> Problem:
    """The problem of items under one label each, or under several. order: of `labels` by id."""
    listed = np.asarray(labels).tolist() if hasattr(labels, "__array__") else list(labels)
    several = [isinstance(label, SEVERAL) for label in listed]
    if not any(several):
        codes = _codes(listed, np.arange(len(listed)))
        return by_label(Embeddings(ids=ids, label_codes=codes[order], vectors=vectors))
    if not all(several):
        raise InputError(f"label {several.index(False)} is no list, others are; make all lists")
    sizes = [len(own) for own in listed]
    codes = _codes(
        [label for own in listed for label in own], np.repeat(np.arange(len(sizes)), sizes)
    )
    edges = np.cumsum([0, *sizes])
    return by_labels(ids, vectors, [codes[edges[row] : edges[row + 1]] for row in order])


def _codes(labels: list[Any], owners: Int64) -> Int32:
    """A number for each label, the same for equal ones. owners: whose each is, for messages.

    Not by numpy, which would make texts of numbers where both are there, one class of all NaN, and
    of all texts the size of the longest.
    """
    for label, owner in zip(labels, owners, strict=True):
        if label is None or (isinstance(label, float) and isnan(label)):
            raise InputError(f"the label of vector {owner} is missing")
    try:
        known = {label: code for code, label in enumerate(sorted(set(labels)))}
    except TypeError:
        names = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise InputError(f"labels are of types that do not sort: {names}; make them one") from None
    return np.array([known[label] for label in labels], np.int32)


def _answers(positives: Any) -> Mapping[int, Sequence[int]]:
    """positives, checked for its types; which ids there are is checked by by_pairs."""
    if not isinstance(positives, Mapping):
        raise InputError("positives must map query number -> ids of its answers")
    for query, own in positives.items():
        if not isinstance(query, int | np.integer):
            raise InputError(f"positives: query {query!r} is no whole number")
        if not isinstance(own, SEVERAL):
            raise InputError(f"positives of query {query} are {own!r}; they must be a list of ids")
        if whole_numbers(f"positives of query {query}", list(own)).ndim != 1:
            raise InputError(f"positives of query {query} are {own!r}; they must be a list of ids")
    return positives
