"""Embeddings to a FAISS index with a card that tells how exact it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import Embeddings
from remine.index.config import IndexConfig
from remine.index.factory_choice import choose
from remine.index.knob import inner_of, knob_of, lists_of
from remine.index.recall import Point, curve, exact

HELD_OUT = 1_000
HELD_SHARE = 10


@dataclass(frozen=True, kw_only=True)
class IndexCard:
    """What an index is and how exact it answers.

    reason: why this factory. knob: what trades recall for time (nprobe, efSearch, none). curve:
    recall over the knob, measured on `held_out` random items before they were added themselves.
    wished: the recall@10 that was asked for. setting, recall: the first point that reaches it, or
    the best one.
    """

    factory: str
    reason: str
    items: int
    dimensions: int
    knob: str
    curve: tuple[Point, ...]
    held_out: int
    wished: float
    setting: int
    recall: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "curve": [point.to_json() for point in self.curve]}

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Self:
        """The card that `to_json` wrote; what else stands there is left out."""
        points = tuple(Point(**point) for point in card["curve"])
        known = {name: card[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "curve": points})


def build_index(
    embeddings: Embeddings, config: IndexConfig, seed: int = 0
) -> tuple[faiss.Index, IndexCard]:
    """An index that answers with item ids and squared distances, and its measured card."""
    n, d = embeddings.vectors.shape
    name, reason = _chosen(n, d, config)
    inner = _made(name, d)
    asked, rest = held_out(n, seed)
    vectors = np.ascontiguousarray(embeddings.vectors[rest])
    index = faiss.IndexIDMap2(inner)
    try:
        inner.train(vectors)
        index.add_with_ids(vectors, embeddings.ids[rest])
    except RuntimeError:
        raise _misfit(name, n, d) from None
    inner.this.disown()  # type: ignore[attr-defined]  # the index owns it now
    index.own_fields = True
    # Asked before they are stored: strangers, as queries are.
    queries = np.ascontiguousarray(embeddings.vectors[asked])
    points = curve(inner_of(index), knob_of(inner_of(index)), exact(queries, vectors))
    if len(rest) < n:
        index.add_with_ids(queries, embeddings.ids[asked])
    if lists := lists_of(inner_of(index)):
        lists.make_direct_map()  # from a place to its vector: items are queries too
    best = setting_for(points, config.recall)
    card = IndexCard(
        factory=name,
        reason=reason,
        items=n,
        dimensions=d,
        knob=knob_of(inner_of(index)).name,
        curve=tuple(points),
        held_out=len(asked),
        wished=config.recall,
        setting=best.setting,
        recall=best.recall_10,
    )
    return index, card


def setting_for(points: Sequence[Point], wished: float, k: int = 10) -> Point:
    """The first point whose recall@k reaches `wished`; the best one where none does."""
    reached = (point for point in points if point.recall(k) >= wished)
    return next(reached, max(points, key=lambda point: point.recall(k)))


def check_factory(config: IndexConfig, n: int, d: int) -> None:
    """Refuse an index that cannot be built over n vectors of d dimensions."""
    name, _ = _chosen(n, d, config)
    index = _made(name, d)
    lists = lists_of(index)
    codes = getattr(faiss.downcast_index(lists) if lists else index, "pq", None)
    needed = max(lists.nlist if lists else 0, codes.ksub if codes else 0)
    if needed > len(held_out(n, 0)[1]):
        raise _misfit(name, n, d, needed)


def _chosen(n: int, d: int, config: IndexConfig) -> tuple[str, str]:
    """The factory string and the reason for it."""
    if config.factory != "auto":
        return config.factory, "index.factory asks for it"
    choice = choose(n, d, config.memory)
    return choice.factory, choice.reason


def held_out(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that measure the recall, and the rows that are stored first, both ascending.

    Below ten items nothing can be spared: all are stored, and all are asked.
    """
    count = min(HELD_OUT, n // HELD_SHARE)
    if not count:
        return np.arange(n), np.arange(n)
    asked = np.zeros(n, bool)
    asked[np.random.default_rng(seed).choice(n, count, replace=False)] = True
    return np.flatnonzero(asked), np.flatnonzero(~asked)


def _made(name: str, d: int) -> faiss.Index:
    try:
        return faiss.index_factory(d, name, faiss.METRIC_L2)
    except RuntimeError:
        raise InputError(
            f"index.factory {name!r} is not one that FAISS knows for {d} dimensions"
        ) from None


def _misfit(name: str, n: int, d: int, needed: int = 0) -> InputError:
    if not needed:
        return InputError(f"index.factory {name!r} does not fit {n} vectors of {d} dimensions")
    held = min(HELD_OUT, n // HELD_SHARE)
    beside = f" beside the {held} that measure its recall" if held else ""
    return InputError(
        f"index.factory {name!r} needs {needed} vectors or more{beside}; there are {n}"
    )
