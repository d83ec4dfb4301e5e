"""Which round of a cycle is served: the best on val, the one before any training included.

Breiman et al. 1984 (section 3.4.3) choose the simplest model within one standard error of the best.
Here the simplest is the start, the model that is served already: a round replaces it only if its
gain on val exceeds one standard error of the paired difference. Among the rounds that do, the best
mean is chosen. Items of a class are alike, so that the standard error is over classes, not queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from remine.data.store.pins import CHOICE, chosen_version
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.flows.stages.evaluate import VAL_SCORES
from remine.flows.stages.rounds.settings import kind_of_checkpoint
from remine.index.metric_names import METRIC_NAMES

BEST, LAST, NO_VAL = "best on val", "run.publish is last", "no val items"
"""Why a round is chosen."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The mean difference of two rounds on val, 0 to 1, and its standard error over classes."""

    mean: float
    error: float

    @property
    def is_shown(self) -> bool:
        """Whether the gain is above one standard error."""
        return self.mean > self.error


def paired_gain(before: pd.DataFrame, after: pd.DataFrame, metric: str) -> Gain:
    """The gain of `after` over `before` on the same queries.

    Args:
        before: Scores of (q,) queries, with the column `label_code`.
        after: The scores of the same queries in the same order.
        metric: The column to compare.

    Returns:
        The mean over queries, and the standard error of this ratio of sums over the classes
        (Cochran 1977, section 9A.2); the mean's size if there is a single class.
    """
    difference = after[metric] - before[metric]
    mean = float(difference.mean())
    by_class = difference.groupby(before["label_code"]).agg(["sum", "size"])
    classes = len(by_class)
    if classes < 2:
        return Gain(mean=mean, error=abs(mean))
    residuals = by_class["sum"] - mean * by_class["size"]
    variance = classes / (classes - 1) * float((residuals**2).sum()) / len(difference) ** 2
    return Gain(mean=mean, error=float(np.sqrt(variance)))


def choose_round(
    store: Store, publish: str, metric: str, embeddings: Artifact, rounds: Sequence[Artifact]
) -> Artifact:
    """Choose the round to serve.

    Args:
        store: The store with the metrics.
        publish: "best" or "last".
        metric: The metric on val that chooses.
        embeddings: Those of the last round.
        rounds: The metrics of all rounds so far, from round 0 on.

    Returns:
        A choice: its card has the `round`, the digest of its `embeddings`, the `reason`, and, where
        there are val items, the `metric`, the `scores` on val by round, and the gain and error of
        each round over the start.
    """
    last = len(rounds) - 1
    if any("val" not in metrics.card for metrics in rounds):
        return _choice(last, embeddings.digest, {"reason": LAST if publish == "last" else NO_VAL})
    scores = [float(metrics.card["val"][metric]) for metrics in rounds]
    tables = [_val_scores(store, metrics) for metrics in rounds]
    gains = [paired_gain(tables[0], table, metric) for table in tables]
    candidates = [0, *(number for number, gain in enumerate(gains) if gain.is_shown)]
    best = max(candidates, key=lambda number: scores[number])
    number = last if publish == "last" else best
    card = {
        "reason": LAST if publish == "last" else BEST,
        "metric": metric,
        "scores": scores,
        "best": best,
        "gains": [gain.mean for gain in gains],
        "errors": [gain.error for gain in gains],
    }
    return _choice(number, rounds[number].card["embeddings"], card)


def rounds_without_gain(choice: Artifact) -> int:
    """The number of last rounds that were not above all before them on val; 0 without val."""
    scores = choice.card.get("scores", [0.0])
    return len(scores) - 1 - int(np.argmax(scores))


def choice_line(store: Store, version: Version) -> str:
    """One line of text if the served round is not the last, or not known to be good; else empty."""
    choice = version.artifacts.get(CHOICE)
    if choice is None or version.round == 0:
        return ""
    if choice.card["reason"] == NO_VAL:
        return (
            "there are no val items, so the last round is served whether or not it is better: set"
            " data.val_share or data.val_from_train"
        )
    if choice.card["round"] == version.round:
        return ""
    comparison = _comparison(choice.card, version.round, choice.card["round"])
    return f"{comparison}: version {chosen_version(store, version).number} is served"


def advice(version: Version) -> str:
    """What to try if no round of a cycle was better on val than its start; else empty."""
    choice = version.artifacts.get(CHOICE)
    if choice is None or choice.card.get("best") != 0 or version.round == 0:
        return ""
    hints = "a lower train.learning_rate or fewer train.steps"
    if kind_of_checkpoint(version.artifacts["checkpoint"]) not in ("head", "scratch"):
        hints = "a lower train.learning_rate, fewer train.steps, or encoder.frozen = true"
    return (
        f"no round was better than the start: try {hints}; `remine compare` tries ways to choose"
        " triplets"
    )


def _comparison(card: Any, last: int, number: int) -> str:
    """The last round compared with the served one, in words."""
    name = METRIC_NAMES[card["metric"]]
    here, there = (100 * card["scores"][n] for n in (last, number))
    if card["scores"][last] > card["scores"][number]:
        gain, error = 100 * card["gains"][last], 100 * card["errors"][last]
        return (
            f"round {last} is not shown to be above round {number} on val ({name} {here:.1f} %"
            f" against {there:.1f} %, gain {gain:.1f} with a standard error of {error:.1f})"
        )
    relation = "is below" if f"{here:.1f}" != f"{there:.1f}" else "is no better than"
    return (
        f"round {last} {relation} round {number} on val ({name} {here:.1f} % against {there:.1f} %)"
    )


def _choice(number: int, embeddings: str, card: dict[str, Any]) -> Artifact:
    return Artifact(
        kind="choice", files=(), card={"round": number, "embeddings": embeddings, **card}
    )


def _val_scores(store: Store, metrics: Artifact) -> pd.DataFrame:
    file = next(file for file in metrics.files if file.name == VAL_SCORES)
    return pd.read_parquet(store.path(file))
