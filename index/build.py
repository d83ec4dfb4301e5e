"""Building a FAISS index from embeddings, with a card that states its measured recall."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import Embeddings
from remine.index.config import IndexConfig
from remine.index.factory_choice import choose_factory
from remine.index.recall import RecallPoint, distance_limit, exact_neighbours, recall_curve
from remine.index.search_setting import inner_of, knob_of, lists_of

HELD_OUT = 1_000
HELD_OUT_EVERY = 10
LATER_FIELD = "distance_limit"
"""A field that cards of version 0.1 lack."""


@dataclass(frozen=True, kw_only=True)
class IndexCard:
    """What an index is and how exactly it answers; the field names are the keys of its JSON.

    Attributes:
        factory: FAISS factory string.
        reason: Why this factory, for people.
        items, dimensions: Of the stored vectors.
        knob: What trades recall for time: nprobe, efSearch or none.
        curve: Recall by setting of the knob, measured on held-out items before they were added.
        held_out: How many items that were.
        wished: The recall@10 requested in the configuration.
        setting, recall: The first point of the curve that reaches it, or the best one.
        distance_limit: Squared distance from the index within which 99 % of the held-out items
            lie, see `recall.distance_limit`; None if it was not measured, as by older versions.
    """

    factory: str
    reason: str
    items: int
    dimensions: int
    knob: str
    curve: tuple[RecallPoint, ...]
    held_out: int
    wished: float
    setting: int
    recall: float
    distance_limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "curve": [point.to_json() for point in self.curve]}

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Self:
        """The card that `to_json` wrote; other keys are ignored."""
        points = tuple(RecallPoint(**point) for point in card["curve"])
        values = {name: card[name] for name in cls.__dataclass_fields__ if name != LATER_FIELD}
        values[LATER_FIELD] = card.get(LATER_FIELD)
        return cls(**{**values, "curve": points})


def build_index(
    embeddings: Embeddings, config: IndexConfig, seed: int = 0
) -> tuple[faiss.Index, IndexCard]:
    """Build an index over all embeddings and measure its recall.

    Returns:
        An IDMap2 that answers with item ids and squared distances, and its card.

    Raises:
        InputError: config.factory is unknown or needs more vectors.
    """
    n, d = embeddings.vectors.shape
    name, reason = _factory(n, d, config)
    inner = _empty_index(name, d)
    query_rows, stored_rows = held_out(n, seed)
    vectors = np.ascontiguousarray(embeddings.vectors[stored_rows])
    index = faiss.IndexIDMap2(inner)
    try:
        inner.train(vectors)
        index.add_with_ids(vectors, embeddings.ids[stored_rows])
    except RuntimeError:
        raise _too_few(name, n, d) from None
    inner.this.disown()  # type: ignore[attr-defined]  # the index frees it
    index.own_fields = True
    # Before they are stored themselves: real queries are not in the index either.
    queries = np.ascontiguousarray(embeddings.vectors[query_rows])
    inner, truth = inner_of(index), exact_neighbours(queries, vectors)
    points = recall_curve(inner, knob_of(inner), truth)
    limit = distance_limit(inner, knob_of(inner), truth) if len(stored_rows) < n else None
    if len(stored_rows) < n:
        index.add_with_ids(queries, embeddings.ids[query_rows])
    if lists := lists_of(inner_of(index)):
        lists.make_direct_map()  # needed to reconstruct items, which are queries too
    best = setting_for(points, config.recall)
    card = IndexCard(
        factory=name,
        reason=reason,
        items=n,
        dimensions=d,
        knob=knob_of(inner_of(index)).name,
        curve=tuple(points),
        held_out=len(query_rows),
        wished=config.recall,
        setting=best.setting,
        recall=best.recall_10,
        distance_limit=limit,
    )
    return index, card


def setting_for(points: Sequence[RecallPoint], target: float, k: int = 10) -> RecallPoint:
    """The first point whose recall@k reaches `target`, or the point with the best recall."""
    sufficient = (point for point in points if point.recall(k) >= target)
    return next(sufficient, max(points, key=lambda point: point.recall(k)))


def check_factory(config: IndexConfig, n: int, d: int) -> None:
    """Refuse an index that cannot be built over n vectors of d dimensions."""
    name, _ = _factory(n, d, config)
    index = _empty_index(name, d)
    lists = lists_of(index)
    codes = getattr(faiss.downcast_index(lists) if lists else index, "pq", None)
    min_vectors = max(lists.nlist if lists else 0, codes.ksub if codes else 0)
    if min_vectors > len(held_out(n, 0)[1]):
        raise _too_few(name, n, d, min_vectors)


def _factory(n: int, d: int, config: IndexConfig) -> tuple[str, str]:
    """The factory string and the reason for it."""
    if config.factory != "auto":
        return config.factory, "index.factory asks for it"
    choice = choose_factory(n, d, config.memory)
    return choice.factory, choice.reason


def held_out(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide n rows into queries that measure the recall and rows to store first, both ascending.

    Below ten items none can be held out: all rows are stored, and all are queries.
    """
    count = min(HELD_OUT, n // HELD_OUT_EVERY)
    if not count:
        return np.arange(n), np.arange(n)
    is_query = np.zeros(n, bool)
    is_query[np.random.default_rng(seed).choice(n, count, replace=False)] = True
    return np.flatnonzero(is_query), np.flatnonzero(~is_query)


def _empty_index(name: str, d: int) -> faiss.Index:
    """An untrained index of the factory string; refuses an unknown one."""
    try:
        return faiss.index_factory(d, name, faiss.METRIC_L2)
    except RuntimeError:
        raise InputError(
            f"index.factory {name!r} is not one that FAISS knows for {d} dimensions"
        ) from None


def _too_few(name: str, n: int, d: int, min_vectors: int = 0) -> InputError:
    """The error for a factory that needs more vectors than there are."""
    if not min_vectors:
        return InputError(f"index.factory {name!r} does not fit {n} vectors of {d} dimensions")
    queries = min(HELD_OUT, n // HELD_OUT_EVERY)
    beside = f" beside the {queries} that measure its recall" if queries else ""
    return InputError(
        f"index.factory {name!r} needs {min_vectors} vectors or more{beside}; there are {n}"
    )
