"""From a comparison's results to what may be said: means, intervals, paired differences, words.

Pure functions over the tables that a comparison leaves: the page and the command line say what
comes out of here and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from remine.flows.report.metric_names import NAMES

LEVEL = 0.95
OFFLINE = ("offline", "hybrid")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over n seeds and its 95 % interval by Student's t; unbounded where n is 1."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The better of the arms that mine the dataset against the better online arm, both by val.

    difference: of `metric` on test, by seed, the first minus the second; shares, not per cent.
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
        """What the interval allows to say."""
        if self.difference.n < 2:
            return "one seed shows no interval: run more"
        if self.difference.low > 0:
            return f"{self.offline} is better"
        if self.difference.high < 0:
            return f"{self.online} is better"
        return "no difference shown"


def interval(values: Sequence[float]) -> Interval:
    """The mean of `values` and where the true mean lies with 95 % confidence."""
    from scipy.stats import t

    sample = np.asarray(values, float)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Interval(mean=mean, low=-np.inf, high=np.inf, n=n)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * sample.std(ddof=1) / np.sqrt(n))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def by_seed(results: pd.DataFrame, arm: str, metric: str, which: str, split: str) -> pd.Series:
    """The values of one arm's metric, by seed."""
    chosen = results[
        (results["arm"] == arm)
        & (results["metric"] == metric)
        & (results["which"] == which)
        & (results["split"] == split)
    ]
    return chosen.set_index("seed")["value"].sort_index()


def paired(first: pd.Series, second: pd.Series) -> Interval:
    """The difference of two arms seed by seed: both started from the same weights."""
    difference = (first - second).dropna()
    return interval(difference.to_numpy())


def best(results: pd.DataFrame, families: Sequence[str], select: str) -> str | None:
    """The arm of these families that is best on val, at its selected checkpoints; no test data."""
    arms = results.loc[results["family"].isin(families), "arm"].unique()
    scores = {arm: by_seed(results, arm, select, "selected", "val").mean() for arm in arms}
    return max(scores, key=lambda arm: scores[arm]) if scores else None


def contrasts(results: pd.DataFrame, points: pd.DataFrame, select: str) -> list[Contrast]:
    """R@1 and MAP@R on test of the two chosen arms, at equal budget and at equal seconds.

    Empty where all arms are of one side.
    """
    offline, online = best(results, OFFLINE, select), best(results, ("online",), select)
    if offline is None or online is None:
        return []
    found = []
    for metric in ("recall@1", "map@r"):
        ends = [by_seed(results, arm, metric, "selected", "test") for arm in (offline, online)]
        found.append(_contrast(offline, online, metric, "selected", ends))
    for metric in ("recall@1", "map@r"):
        ends = _at_equal_seconds(points, offline, online, metric)
        found.append(_contrast(offline, online, metric, "equal seconds", ends))
    return found


def verdict(contrasts: Sequence[Contrast], results: pd.DataFrame, costs: pd.DataFrame) -> list[str]:
    """The sentences that follow."""
    if not contrasts:
        return ["No contrast: all arms are of one side; name an online arm and one that mines."]
    first = contrasts[0]
    families = results.drop_duplicates("arm")["family"]
    several = f"{families.isin(OFFLINE).sum()} that mine the whole dataset"
    online = f"{(families == 'online').sum()} online"
    return [
        f"Chosen on val: {first.offline}, of {several}, and {first.online}, of {online} arms.",
        *map(_sentence, contrasts),
        _cost_sentence(first, costs),
    ]


def _contrast(
    offline: str, online: str, metric: str, at: str, values: Sequence[pd.Series]
) -> Contrast:
    return Contrast(
        offline=offline,
        online=online,
        metric=metric,
        at=at,
        means=(float(values[0].mean()), float(values[1].mean())),
        difference=paired(*values),
    )


def _at_equal_seconds(
    points: pd.DataFrame, offline: str, online: str, metric: str
) -> list[pd.Series]:
    """Each arm on test after the seconds that both had, by seed; linear between evaluations."""
    test = points[points["split"] == "test"].sort_values("seconds")
    sides = [dict(list(test[test["arm"] == arm].groupby("seed"))) for arm in (offline, online)]
    limits = {seed: min(side[seed]["seconds"].max() for side in sides) for seed in sides[0]}
    return [
        pd.Series(
            {
                seed: np.interp(limit, side[seed]["seconds"], side[seed][metric])
                for seed, limit in limits.items()
            }
        )
        for side in sides
    ]


def _sentence(contrast: Contrast) -> str:
    name, (a, b), d = NAMES[contrast.metric], contrast.means, contrast.difference
    where = (
        "at the checkpoints that val chose"
        if contrast.at == "selected"
        else "at the same seconds of work"
    )
    spread = ""
    if d.n > 1:
        spread = f", 95 % interval {100 * d.low:+.1f} to {100 * d.high:+.1f} over {d.n} seeds"
    return (
        f"{name} on test {where}: {100 * a:.1f} % against {100 * b:.1f} % (difference"
        f" {100 * d.mean:+.1f}{spread}): {contrast.words}."
    )


def _cost_sentence(contrast: Contrast, costs: pd.DataFrame) -> str:
    """What the whole budget took, of both."""
    parts = costs.set_index("arm")
    mine, other = parts.loc[contrast.offline], parts.loc[contrast.online]
    beside = mine["embed"] + mine["index"] + mine["mine"]
    return (
        f"Cost of a run: {contrast.offline} {mine['seconds']:.0f} s, of which"
        f" {100 * beside / mine['seconds']:.0f} % embedding and mining; {contrast.online}"
        f" {other['seconds']:.0f} s."
    )


def cost_table(points: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a whole run by stage, steps and forwards: means over the seeds, by arm."""
    ends = points[points["split"] == "test"].sort_values("step").groupby(["arm", "seed"]).last()
    columns = ["step", "forwards", "seconds", "embed", "index", "mine", "train"]
    means = ends.groupby("arm", sort=False)[columns].mean()
    order = points["arm"].drop_duplicates()
    return means.loc[order].reset_index()
