"""Counts of mining, and how they add up."""

from remine.mining.stats import MiningStats

ONE = MiningStats(
    anchors=10,
    singletons=2,
    pairs=30,
    kinds={"hard": 4, "semi_hard": 21},
    answered={"hard": 4, "semi_hard": 21},
    none_exists={"hard": 20, "semi_hard": 9},
    not_found={"hard": 6, "semi_hard": 0},
)
TWO = MiningStats(
    anchors=5, pairs=8, capped=3, positive_copies=2, answered={"hard": 0, "semi_hard": 8}
)


def test_counts_add_up():
    pair = ONE + TWO
    assert (pair.anchors, pair.singletons, pair.pairs, pair.capped) == (15, 2, 38, 3)
    assert pair.positive_copies == 2
    assert pair.answered == {"hard": 4, "semi_hard": 29}
    assert pair.not_found == ONE.not_found
    assert pair == TWO + ONE
    assert pair.triplets == 33


def test_adding_changes_neither():
    before = dict(ONE.answered)
    assert (ONE + TWO).answered is not ONE.answered
    assert ONE.answered == before


def test_sums_start_from_nothing():
    assert sum([ONE, TWO], MiningStats()) == ONE + TWO
    assert (MiningStats() + ONE).to_json() == ONE.to_json()


def test_a_strategy_that_nobody_answered_stays_a_zero():
    none = MiningStats(anchors=1, pairs=3, answered={"hard": 0})
    assert (none + none).answered == {"hard": 0}
