"""The embeddings that judge the labels of a version's items, and what is said of them.

The served ones, or those before the labels were learnt: see `remine.mining.label_judges`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import TEST, TRAIN, UNKNOWN, VAL
from remine.data.types import Embeddings, Float32
from remine.flows.query.snapshot import Snapshot
from remine.flows.query.start_vectors import is_untrained, start_vectors
from remine.index.metrics import mean_scores, query_scores
from remine.mining.label_judges import choose_judge
from remine.mining.suspects import CentroidDistances, centroid_distances
from remine.train.encoders.design import Design

Wish = Literal["auto", "start", "served"]
"""Which embeddings are to judge: the better ones, those before training, or the served ones."""
ASKED = "this was asked for"
QUERIES = 2_000
"""Queries by which the two are compared."""


@dataclass(frozen=True, kw_only=True)
class LabelJudge:
    """Which embeddings judged labels.

    Attributes:
        name: "served", or "start" for those before training.
        version: Number of the version that has them; 0 if they were made anew.
        reason: Why these, as a clause.
    """

    name: Literal["served", "start"]
    version: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @property
    def line(self) -> str:
        """One line of text."""
        if self.name == "served":
            return f"judged by version {self.version}, the one searched: {self.reason}"
        origin = f"version {self.version}" if self.version else "embedded again"
        return f"judged by the encoder before training ({origin}): {self.reason}"


def judged(
    snapshot: Snapshot, wish: Wish, progress: Callable[[int, int], None]
) -> tuple[CentroidDistances, LabelJudge]:
    """The distances of all known items to the centroids of classes, in the better embeddings.

    Args:
        snapshot: The version.
        wish: Which embeddings judge.
        progress: Called while the items are embedded by the encoder before training, if they are.

    Returns:
        The distances of the items that are not of the split unknown, in the order of ids; and
        whose they are.

    Raises:
        InputError, StoreError: The encoder before training is wished and cannot be built.
    """
    vectors = snapshot.searcher.vectors(snapshot.catalogue.ids)
    served_distances = centroid_distances(_known_items(snapshot, vectors))

    def by_served(reason: str) -> tuple[CentroidDistances, LabelJudge]:
        number = snapshot.version.number
        return served_distances, LabelJudge(name="served", version=number, reason=reason)

    if wish == "served":
        return by_served(ASKED)
    if is_untrained(snapshot.version):
        return by_served("its encoder has not been trained")
    if wish == "auto" and not _had_knowledge(snapshot):
        return by_served("its encoder started from scratch, and knew nothing before training")
    try:
        start = start_vectors(snapshot, progress)
    except (InputError, StoreError) as error:
        if wish == "start":
            raise
        return by_served(f"the encoder before training is not to be had ({error})")
    start_distances, reason = centroid_distances(_known_items(snapshot, start.vectors)), ASKED
    if wish == "auto":
        in_train = snapshot.catalogue.splits[snapshot.catalogue.splits != UNKNOWN] == TRAIN
        maps = _map_at_r(snapshot, start.vectors), _map_at_r(snapshot, vectors)
        choice = choose_judge(start_distances, served_distances, in_train, maps)
        if choice.name == "trained":
            return by_served(choice.reason)
        reason = choice.reason
    return start_distances, LabelJudge(name="start", version=start.version, reason=reason)


def _had_knowledge(snapshot: Snapshot) -> bool:
    """Whether the version's encoder is a pretrained network, or one of the user's."""
    design = Design.from_json(snapshot.version.artifacts["checkpoint"].card["encoder"])
    return design.config.has_backbone


def _known_items(snapshot: Snapshot, vectors: Float32) -> Embeddings:
    catalogue = snapshot.catalogue
    codes = catalogue.label_codes
    embeddings = Embeddings(ids=catalogue.ids, label_codes=codes, vectors=vectors)
    return embeddings.take(catalogue.splits != UNKNOWN)


def _map_at_r(snapshot: Snapshot, vectors: Float32) -> float:
    """MAP@R among the items that were not trained on, of a sample of queries."""
    catalogue = snapshot.catalogue
    rows = np.flatnonzero(np.isin(catalogue.splits, (VAL, TEST)))
    items = Embeddings(
        ids=catalogue.ids[rows], label_codes=catalogue.label_codes[rows], vectors=vectors[rows]
    )
    return mean_scores(query_scores(items, queries=QUERIES)).get("map@r", 0.0)
