"""Statistics of a comparison: means, intervals, paired differences, and the verdict in words.

Pure functions over the tables that a comparison writes. The page and the command line state what
these functions return and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from remine.index.metric_names import METRIC_NAMES

LEVEL = 0.95
OFFLINE = ("offline", "hybrid")
START = "before training"
"""The arm of the results that stands for the checkpoint that all arms of a seed start from."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over n seeds and its 95 % interval by Student's t; unbounded if n is 1."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The best arm that mines the dataset against the best online arm, both chosen on val.

    means: `metric` on test, of the offline and the online arm, as shares.
    difference: Offline minus online, paired by seed, as a share.
    at: "selected" checkpoints, or "equal seconds".
    """

    offline: str
    online: str
    metric: str
    at: str
    means: tuple[float, float]
    difference: Interval

    @property
    def words(self) -> str:
        """The conclusion that the interval supports."""
        if self.difference.n < 2:
            return "one seed gives no interval: run more seeds"
        if self.difference.low > 0:
            return f"{self.offline} is better"
        if self.difference.high < 0:
            return f"{self.online} is better"
        return "no difference shown"


def interval(values: Sequence[float]) -> Interval:
    """The mean of `values` and the 95 % confidence interval of the true mean."""
    from scipy.stats import t

    sample = np.asarray(values, float)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Interval(mean=mean, low=-np.inf, high=np.inf, n=n)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * sample.std(ddof=1) / np.sqrt(n))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def by_seed(results: pd.DataFrame, arm: str, metric: str, checkpoint: str, split: str) -> pd.Series:
    """The values of one arm's metric by seed, at its "selected" or its "final" checkpoint."""
    rows = results[
        (results["arm"] == arm)
        & (results["metric"] == metric)
        & (results["which"] == checkpoint)
        & (results["split"] == split)
    ]
    return rows.set_index("seed")["value"].sort_index()


def paired_difference(first: pd.Series, second: pd.Series) -> Interval:
    """First minus second, seed by seed: both arms start a seed from the same weights."""
    difference = (first - second).dropna()
    return interval(difference.to_numpy())


def best_arm(results: pd.DataFrame, families: Sequence[str], select: str) -> str | None:
    """The arm of these families with the best mean of metric `select` on val, None without arms.

    Test data have no part in the choice.
    """
    arms = results.loc[results["family"].isin(families), "arm"].unique()
    scores = {arm: by_seed(results, arm, select, "selected", "val").mean() for arm in arms}
    return max(scores, key=lambda arm: scores[arm]) if scores else None


def contrasts(results: pd.DataFrame, points: pd.DataFrame, select: str) -> list[Contrast]:
    """R@1 and MAP@R on test of the two best arms, at equal budget and at equal seconds.

    Empty if all arms are online, or none is.
    """
    offline, online = best_arm(results, OFFLINE, select), best_arm(results, ("online",), select)
    if offline is None or online is None:
        return []
    result = []
    for metric in ("recall@1", "map@r"):
        values = [by_seed(results, arm, metric, "selected", "test") for arm in (offline, online)]
        result.append(_contrast(offline, online, metric, "selected", values))
    for metric in ("recall@1", "map@r"):
        values = _at_equal_seconds(points, offline, online, metric)
        result.append(_contrast(offline, online, metric, "equal seconds", values))
    return result


def verdict(contrasts: Sequence[Contrast], results: pd.DataFrame, costs: pd.DataFrame) -> list[str]:
    """The verdict as sentences."""
    if not contrasts:
        return [
            "No contrast: it needs at least one online arm and one that mines the whole dataset."
        ]
    first = contrasts[0]
    families = results.drop_duplicates("arm")["family"]
    offline_count, online_count = families.isin(OFFLINE).sum(), (families == "online").sum()
    return [
        (
            f"Best on val: {first.offline} among {offline_count} arms that mine the whole dataset,"
            f" {first.online} among {online_count} online arms."
        ),
        *map(_sentence, contrasts),
        _cost_sentence(first, costs),
    ]


def start_sentences(results: pd.DataFrame, select: str, test_classes_seen: int) -> list[str]:
    """What training brought at all: the arms against the checkpoint that they start from.

    Args:
        results: The results, with the arm START.
        select: The metric that selects on val.
        test_classes_seen: Test classes that are also trained on.
    """
    arms = [arm for arm in results["arm"].unique() if arm != START]
    if START not in set(results["arm"]):  # a comparison of 0.1
        return []
    values = {arm: by_seed(results, arm, select, "selected", "test") for arm in [START, *arms]}
    start, name = values[START], METRIC_NAMES[select]
    gains = {arm: float((values[arm] - start).mean()) for arm in arms}
    best = max(gains, key=lambda arm: gains[arm])
    text = f"Before training, {name} on test is {100 * start.mean():.1f} %"
    if gains[best] <= 0:
        text += f"; no arm is above it at its selected checkpoint, the nearest, {best}, at"
        text += f" {100 * gains[best]:+.1f}: train with other settings, or not at all."
    else:
        above = sum(gain > 0 for gain in gains.values())
        text += f"; {above} of {len(arms)} arms are above it at their selected checkpoints."
    sentences = [text]
    if count := _selected_starts(results, arms):
        sentences.append(
            f"In {count} of {len(arms) * len(start)} runs val selects the start: training made"
            " nothing better there."
        )
    if test_classes_seen:
        sentences.append(
            f"{test_classes_seen:,} test classes are also trained on (a closed set): the numbers"
            " speak of known classes, not of new ones."
        )
    return sentences


def _selected_starts(results: pd.DataFrame, arms: Sequence[str]) -> int:
    """The number of runs whose selected checkpoint is the start."""
    rows = results[(results["which"] == "selected") & results["arm"].isin(arms)]
    return int((rows.groupby(["arm", "seed"])["step"].max() == 0).sum())


def _contrast(
    offline: str, online: str, metric: str, at: str, values: Sequence[pd.Series]
) -> Contrast:
    """The contrast of `values`, of the offline and the online arm by seed."""
    return Contrast(
        offline=offline,
        online=online,
        metric=metric,
        at=at,
        means=(float(values[0].mean()), float(values[1].mean())),
        difference=paired_difference(*values),
    )


def _at_equal_seconds(
    points: pd.DataFrame, offline: str, online: str, metric: str
) -> list[pd.Series]:
    """Both arms on test by seed, after the seconds of the cheaper; linear between evaluations."""
    test = points[points["split"] == "test"].sort_values("seconds")
    arms = [dict(list(test[test["arm"] == arm].groupby("seed"))) for arm in (offline, online)]
    # By seed, since both arms start a seed from the same weights.
    limits = {seed: min(by_arm[seed]["seconds"].max() for by_arm in arms) for seed in arms[0]}
    return [
        pd.Series(
            {
                seed: np.interp(limit, by_arm[seed]["seconds"], by_arm[seed][metric])
                for seed, limit in limits.items()
            }
        )
        for by_arm in arms
    ]


def _sentence(contrast: Contrast) -> str:
    """A contrast in words, in per cent."""
    name, (a, b), d = METRIC_NAMES[contrast.metric], contrast.means, contrast.difference
    checkpoint = (
        "at the checkpoints selected on val"
        if contrast.at == "selected"
        else "at the same seconds of work"
    )
    interval_text = ""
    if d.n > 1:
        interval_text = (
            f", 95 % interval {100 * d.low:+.1f} to {100 * d.high:+.1f} over {d.n} seeds"
        )
    return (
        f"{name} on test {checkpoint}: {100 * a:.1f} % against {100 * b:.1f} % (difference"
        f" {100 * d.mean:+.1f}{interval_text}): {contrast.words}."
    )


def _cost_sentence(contrast: Contrast, costs: pd.DataFrame) -> str:
    """Seconds that a run of each arm takes."""
    by_arm = costs.set_index("arm")
    offline, online = by_arm.loc[contrast.offline], by_arm.loc[contrast.online]
    mining_seconds = offline["embed"] + offline["index"] + offline["mine"]
    return (
        f"Cost of a run: {contrast.offline} {offline['seconds']:.0f} s, of which"
        f" {100 * mining_seconds / offline['seconds']:.0f} % embedding and mining;"
        f" {contrast.online} {online['seconds']:.0f} s."
    )


def cost_table(points: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a run by stage, its steps and forwards: one row for each arm, means over seeds."""
    # Usage is cumulative, so the last evaluation of a seed has the total.
    ends = points[points["split"] == "test"].sort_values("step").groupby(["arm", "seed"]).last()
    columns = ["step", "forwards", "seconds", "embed", "index", "mine", "train"]
    means = ends.groupby("arm", sort=False)[columns].mean()
    order = points["arm"].drop_duplicates()
    return means.loc[order].reset_index()
