"""Which of two embeddings judges labels: the one before training, or the trained one.

Training pulls an item towards its label, the wrong one, too. Items that are not trained on (val and
test) show what training alone changes. Three cases follow from two comparisons, neither of which
needs to know a wrong label:

- Training took away a large part of what lacked to perfect retrieval among the items not trained
  on: the start could not tell classes apart, as a network from scratch, and the trained one judges.
- Else, of what the start suspects most, the trained one may still suspect a clearly smaller share
  among the training items than among the others: it has learnt their wrong labels, and the start
  judges.
- Else it has not learnt them, and the trained one judges.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remine.mining.suspects import CentroidDistances, SuspectConfig

SHARE = 0.05
"""The share of the items, those with the highest scores, that the start is taken to suspect."""
USELESS = 0.6
"""The start judges only if training left at least this part of what lacked to MAP@R 1."""
LEARNT = 0.97
"""The trained embedding has learnt wrong labels if the share of suspects that it retains among the
training items is below this part of the share among the others. Near 1, since the start errs little
where the trained one would be better, and the trained one without bound where it has learnt them.
"""
TYPICAL = 0.9
"""The share of the start's suspects among the items not trained on that counts as retained at
least: where the trained embedding's distances are small, its margin is lowered to that.
"""
LEAST = 10
"""Suspects in each group below which nothing is concluded from them."""

Name = Literal["start", "trained"]


@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Which embedding judges, and why.

    Attributes:
        start_map, trained_map: MAP@R among the items not trained on, before training and after.
        retained: Share of the start's suspects among the training items that the trained embedding
            still suspects.
        retained_others: The same among the items not trained on.
        suspects: The smaller number of suspects that these shares are of.
    """

    start_map: float
    trained_map: float
    retained: float
    retained_others: float
    suspects: int

    @property
    def name(self) -> Name:
        """The embedding that judges."""
        if not self.start_tells_classes:
            return "trained"
        if self.suspects < LEAST:
            return "start"
        return "start" if self.retained < LEARNT * self.retained_others else "trained"

    @property
    def start_tells_classes(self) -> bool:
        """Whether the start told classes apart, by the items not trained on."""
        return 1 - self.trained_map >= USELESS * (1 - self.start_map)

    @property
    def reason(self) -> str:
        """Why it judges, as a clause."""
        if not self.start_tells_classes:
            return (
                "before training the encoder told classes apart too poorly: MAP@R of the items not"
                f" trained on was {100 * self.start_map:.1f} %, now {100 * self.trained_map:.1f} %"
            )
        if self.suspects < LEAST:
            return "too few suspects to tell whether training has learnt wrong labels"
        evidence = (
            f"of the items suspected before training, {self.retained:.0%} are still suspected where"
            f" they were trained on, and {self.retained_others:.0%} where they were not"
        )
        learnt = "has" if self.name == "start" else "has not"
        return f"training {learnt} learnt wrong labels: {evidence}"


def choose_judge(
    start: CentroidDistances,
    trained: CentroidDistances,
    in_train: NDArray[np.bool_],
    maps: tuple[float, float],
) -> JudgeChoice:
    """Choose the embedding that judges labels.

    Args:
        start: The n items before training.
        trained: The same items afterwards.
        in_train: (n,) whether an item was trained on.
        maps: MAP@R among the other items, before training and afterwards.
    """
    suspects, others = (
        trained.score[_most_suspect(start.score, np.flatnonzero(group))]
        for group in (in_train, ~in_train)
    )
    margin = _margin(others)
    return JudgeChoice(
        start_map=maps[0],
        trained_map=maps[1],
        retained=_share(suspects >= margin),
        retained_others=_share(others >= margin),
        suspects=min(len(suspects), len(others)),
    )


def _margin(scores: NDArray[np.float32]) -> float:
    """The default margin, or a lower one that TYPICAL of the scores reach."""
    if not len(scores):
        return 0.0
    return min(SuspectConfig().margin, float(np.quantile(scores, 1 - TYPICAL, method="lower")))


def _most_suspect(score: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the SHARE of `rows` with the highest scores that are above 0."""
    order = rows[np.argsort(-score[rows], kind="stable")]
    suspects = order[: int(np.ceil(SHARE * len(rows)))]
    return suspects[score[suspects] > 0]


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else 0.0
