"""What a comparison may say: from intervals alone, by arms and checkpoints that val chose."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from remine.flows.compare.verdict import (
    best_arm,
    by_seed,
    contrasts,
    cost_table,
    interval,
    paired_difference,
    verdict,
)

FAMILIES = {"hard": "online", "easy": "online", "mined": "offline", "mixed": "hybrid"}


def results_of(test, val=None):
    """Long results from {arm: R@1 by seed} on test, and on val where it differs."""
    return pd.DataFrame(
        {
            "arm": arm,
            "family": FAMILIES[arm],
            "seed": seed,
            "which": which,
            "split": split,
            "metric": metric,
            "value": value if which == "selected" else -1.0,
        }
        for split, values in (("test", test), ("val", val or test))
        for arm, scores in values.items()
        for seed, value in enumerate(scores)
        for which in ("selected", "final")
        for metric in ("recall@1", "map@r")
    )


def points_of(arms, seconds=None):
    """Two evaluations an arm and seed; the second after `seconds`."""
    rows = []
    for arm in arms:
        for seed in range(2):
            for step in (0, 100):
                cost = (seconds or {}).get(arm, 10.0) * step / 100
                rows.append(
                    {
                        "arm": arm,
                        "family": FAMILIES[arm],
                        "seed": seed,
                        "split": "test",
                        "step": step,
                        "forwards": 96 * step,
                        "seconds": cost,
                        "embed": 0.0,
                        "index": 0.0,
                        "mine": cost / 2,
                        "train": cost / 2,
                        "recall@1": 0.5 + step / 1000,
                        "map@r": 0.4 + step / 1000,
                    }
                )
    return pd.DataFrame(rows)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8, unique=True))
def test_the_interval_is_that_of_the_paired_t_test(values):
    ours = interval(values)
    reference = ttest_rel(values, np.zeros(len(values))).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_one_seed_has_no_interval():
    assert interval([0.5]).low == -np.inf
    results = results_of({"hard": [0.7], "mined": [0.9]})
    first = contrasts(results, points_of(FAMILIES), "recall@1")[0]
    assert first.words == "one seed gives no interval: run more seeds"


@pytest.mark.parametrize(
    ("mined", "words"),
    [
        ([0.90, 0.91, 0.92], "mined is better"),
        ([0.50, 0.51, 0.52], "hard is better"),
        ([0.60, 0.71, 0.90], "no difference shown"),
    ],
)
def test_the_words_follow_from_the_interval(mined, words):
    results = results_of({"hard": [0.70, 0.71, 0.72], "mined": mined})
    assert contrasts(results, points_of(FAMILIES), "recall@1")[0].words == words


def test_seeds_are_paired():
    # Far apart from seed to seed, and always one per cent better.
    first, second = pd.Series([0.2, 0.5, 0.8]), pd.Series([0.19, 0.49, 0.79])
    assert paired_difference(first, second).low == pytest.approx(0.01)


def test_arms_are_chosen_on_val_though_test_says_otherwise():
    test = {"hard": [0.9, 0.9], "easy": [0.1, 0.1], "mined": [0.2, 0.2], "mixed": [0.8, 0.8]}
    val = {"hard": [0.1, 0.1], "easy": [0.9, 0.9], "mined": [0.7, 0.7], "mixed": [0.6, 0.6]}
    results = results_of(test, val)
    assert best_arm(results, ("online",), "recall@1") == "easy"
    first = contrasts(results, points_of(FAMILIES), "recall@1")[0]
    assert (first.offline, first.online) == ("mined", "easy")
    assert first.means == pytest.approx((0.2, 0.1))


def test_at_equal_seconds_the_dearer_arm_is_read_earlier():
    results = results_of({"hard": [0.7, 0.7], "mined": [0.9, 0.9]})
    points = points_of(("hard", "mined"), seconds={"hard": 10.0, "mined": 30.0})
    by_kind = {(c.at, c.metric): c for c in contrasts(results, points, "recall@1")}
    # Hard's 10 s are a third of what mined took from 0.5 to 0.6.
    assert by_kind["equal seconds", "recall@1"].means == pytest.approx((0.5 + 0.1 / 3, 0.6))


def test_one_side_alone_is_no_contrast():
    results = results_of({"hard": [0.7, 0.7], "easy": [0.9, 0.9]})
    assert contrasts(results, points_of(("hard", "easy")), "recall@1") == []
    assert "needs at least one online arm" in verdict([], results, pd.DataFrame())[0]


def test_the_cost_is_split():
    results = results_of({"hard": [0.7, 0.7], "mined": [0.9, 0.9]})
    points = points_of(("hard", "mined"), seconds={"hard": 10.0, "mined": 30.0})
    costs = cost_table(points)
    assert costs.set_index("arm").loc["mined", ["seconds", "mine"]].tolist() == [30.0, 15.0]
    lines = verdict(contrasts(results, points, "recall@1"), results, costs)
    assert "mined 30 s, of which 50 % embedding and mining; hard 10 s" in lines[-1]
    assert by_seed(results, "hard", "recall@1", "selected", "test").tolist() == [0.7, 0.7]
