"""Validation of the arguments of `mine`: what cannot be mined is refused with a one-line error."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, TypeGuard

import numpy as np

from remine.data.errors import InputError
from remine.data.types import Embeddings, Float32, Int32, Int64, unit
from remine.mining.problem import Problem, by_label, by_labels, by_pairs

LABEL_LISTS = (list, tuple, set, frozenset, np.ndarray)
LARGEST_SEED = 2**63 - 1  # hashes take 64 bits


def make_problem(
    vectors: Float32,
    labels: Sequence[object] | Sequence[Sequence[str]] | None,
    ids: Int64 | None,
    queries: Float32 | None,
    positives: Mapping[int, Sequence[int]] | None,
) -> Problem:
    """The problem that the arguments of `mine` describe.

    Args:
        vectors: (n, d) numbers, scaled to unit length here.
        labels: n labels, or n lists of labels; None with queries.
        ids: (n,) unique integers; 0 to n - 1 if None.
        queries: (q, d) numbers, or None with labels.
        positives: Query number to the ids of its answers; None with labels.

    Raises:
        InputError: An argument is missing, malformed or inconsistent with another.
    """
    vectors = unit_rows("vector", vectors)
    n = len(vectors)
    if not n:
        raise InputError("there are no vectors")
    item_ids = np.arange(n) if ids is None else whole_numbers("ids", ids)
    if item_ids.shape != (n,) or len(np.unique(item_ids)) < n:
        raise InputError(f"ids must be {n} different integers, one for each vector")
    order = np.argsort(item_ids, kind="stable")
    if ids is not None:
        item_ids, vectors = item_ids[order], vectors[order]
    if queries is None and positives is None:
        if not _is_sequence(labels) or len(labels) != n:
            raise InputError(f"{n} vectors need {n} labels, or queries and positives")
        return _problem_from_labels(item_ids, vectors, labels, order)
    if queries is None or positives is None:
        raise InputError("queries and positives (query number -> ids of its answers) go together")
    if labels is not None:
        raise InputError("give labels, or queries with positives; not both")
    query_vectors = unit_rows("query", queries)
    if query_vectors.shape[1] != vectors.shape[1]:
        raise InputError(
            f"queries have {query_vectors.shape[1]} dimensions, vectors {vectors.shape[1]}"
        )
    return by_pairs(
        query_vectors, np.arange(len(query_vectors)), vectors, item_ids, _check_positives(positives)
    )


def unit_rows(row_name: str, numbers: Any) -> Float32:
    """Rows (n, d) of numbers as float32 of length 1.

    Args:
        row_name: What a row is called in error messages.
        numbers: Anything that NumPy turns into a matrix of numbers.
    """
    try:
        array = np.asarray(numbers)
    except ValueError:
        raise InputError(f"{row_name} rows differ in length; they must be (n, d) numbers") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{row_name} rows are {array.dtype} of shape {array.shape}; they must be (n, d) numbers"
        )
    with np.errstate(over="ignore"):  # overflow gives infinity, which `unit` refuses
        return unit(array.astype(np.float32, copy=False), row_name)


def whole_numbers(name: str, numbers: Any) -> Int64:
    """Integers of any shape as int64, without overflow or truncation."""
    try:
        array = np.asarray(numbers)
    except (ValueError, OverflowError):
        raise InputError(f"{name} must be integers of 64 bits") from None
    if not array.size:
        return array.astype(np.int64)
    large = array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max
    if array.dtype.kind not in "iu" or large:
        raise InputError(f"{name} are {array.dtype}; they must be integers of 64 bits")
    return array.astype(np.int64)


def check_seed(seed: int) -> int:
    """The seed as an int; refuses one that does not fit the 64-bit hashes."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed is {seed!r}; it must be an integer from 0 to {LARGEST_SEED}")
    return int(seed)


def id_pairs(same_as: Any) -> Int64:
    """The pairs of ids of `same_as`, (p, 2) int64."""
    pairs = whole_numbers("same_as ids", same_as)
    if not pairs.size:
        return np.empty((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"same_as has shape {pairs.shape}; it must be (p, 2) ids")
    return pairs


def _is_sequence(labels: Any) -> TypeGuard[Sequence[object]]:
    """Whether labels come one after the other: an array or a sequence that is not text."""
    if hasattr(labels, "__array__"):
        return bool(np.ndim(labels))
    return isinstance(labels, Sequence) and not isinstance(labels, str | bytes)


def _problem_from_labels(ids: Int64, vectors: Float32, labels: Any, order: Int64) -> Problem:
    """The problem of items with one label each, or with a list of labels each.

    Args:
        ids: (n,) ascending.
        vectors: (n, d) in the order of ids.
        labels: n labels in the order in which the caller gave the items.
        order: (n,) where the i-th id stands among `labels`.
    """
    label_list = np.asarray(labels).tolist() if hasattr(labels, "__array__") else list(labels)
    is_list = [isinstance(label, LABEL_LISTS) for label in label_list]
    if not any(is_list):
        codes = _codes(label_list, np.arange(len(label_list)))
        return by_label(Embeddings(ids=ids, label_codes=codes[order], vectors=vectors))
    if not all(is_list):
        raise InputError(
            f"label {is_list.index(False)} is not a list but others are; make all of them lists"
        )
    sizes = [len(item_labels) for item_labels in label_list]
    codes = _codes(
        [label for item_labels in label_list for label in item_labels],
        np.repeat(np.arange(len(sizes)), sizes),
    )
    edges = np.cumsum([0, *sizes])
    return by_labels(ids, vectors, [codes[edges[row] : edges[row + 1]] for row in order])


def _codes(labels: list[Any], owners: Int64) -> Int32:
    """An int32 code for each label, the same for equal labels.

    In plain Python: NumPy would turn numbers into text where both occur, put all NaN in one class,
    and take as much memory for every text as for the longest.

    Args:
        labels: Hashable values that sort among themselves.
        owners: The vector that each label belongs to, for error messages.
    """
    for label, owner in zip(labels, owners, strict=True):
        if label is None or (isinstance(label, float) and isnan(label)):
            raise InputError(f"the label of vector {owner} is missing")
    try:
        code_of = {label: code for code, label in enumerate(sorted(set(labels)))}
    except TypeError:
        names = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise InputError(f"labels are of types that do not sort: {names}; make them one") from None
    return np.array([code_of[label] for label in labels], np.int32)


def _check_positives(positives: Any) -> Mapping[int, Sequence[int]]:
    """`positives` with its types checked; `by_pairs` checks which ids exist."""
    if not isinstance(positives, Mapping):
        raise InputError("positives must map query number -> ids of its answers")
    for query, answer_ids in positives.items():
        if not isinstance(query, int | np.integer):
            raise InputError(f"positives: query {query!r} is not an integer")
        name = f"positives of query {query}"
        is_list = isinstance(answer_ids, LABEL_LISTS)
        if not is_list or whole_numbers(name, list(answer_ids)).ndim != 1:
            raise InputError(f"{name} are {answer_ids!r}; they must be a list of ids")
    return positives
