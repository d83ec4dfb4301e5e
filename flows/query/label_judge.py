"""The embeddings that judge the labels of a version's items, and what is said of them.

The served ones, or those before the labels were learnt: see `remine.mining.label_judges`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from remine.data.errors import InputError, StoreError
from remine.data.items.catalogue import TRAIN, UNKNOWN
from remine.data.types import Embeddings
from remine.flows.query.snapshot import Snapshot
from remine.flows.query.start_vectors import is_untrained, start_vectors
from remine.mining.label_judges import choose_judge
from remine.mining.suspects import CentroidDistances, centroid_distances

Wish = Literal["auto", "start", "served"]
"""Which embeddings are to judge: the better ones, those before training, or the served ones."""


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
    number, known = snapshot.version.number, snapshot.catalogue.splits != UNKNOWN
    served = LabelJudge(name="served", version=number, reason="this was asked for")

    def distances(vectors: Any) -> CentroidDistances:
        catalogue = snapshot.catalogue
        codes = catalogue.label_codes
        every = Embeddings(ids=catalogue.ids, label_codes=codes, vectors=vectors)
        return centroid_distances(every.take(known))

    served_distances = distances(snapshot.searcher.vectors(snapshot.catalogue.ids))
    if wish == "served":
        return served_distances, served
    if is_untrained(snapshot.version):
        reason = "its encoder has not been trained"
        return served_distances, LabelJudge(name="served", version=number, reason=reason)
    try:
        start = start_vectors(snapshot, progress)
    except (InputError, StoreError) as error:
        if wish == "start":
            raise
        reason = f"the encoder before training is not to be had ({error})"
        return served_distances, LabelJudge(name="served", version=number, reason=reason)
    start_distances = distances(start.vectors)
    if wish == "start":
        reason = "this was asked for"
        return start_distances, LabelJudge(name="start", version=start.version, reason=reason)
    in_train = snapshot.catalogue.splits[known] == TRAIN
    choice = choose_judge(start_distances, served_distances, in_train)
    if choice.name == "trained":
        reason = choice.reason
        return served_distances, LabelJudge(name="served", version=number, reason=reason)
    judge = LabelJudge(name="start", version=start.version, reason=choice.reason)
    return start_distances, judge
