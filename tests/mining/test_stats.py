"""Counts of mining, and how they add up."""

from mining.stats import MiningStats

ONE = MiningStats(anchors=10, singletons=2, pairs=30, answered={"hard": 4, "semi_hard": 21})
TWO = MiningStats(anchors=5, singletons=0, pairs=8, answered={"hard": 0, "semi_hard": 8})


def test_counts_add_up():
    both = MiningStats(anchors=15, singletons=2, pairs=38, answered={"hard": 4, "semi_hard": 29})
    assert ONE + TWO == TWO + ONE == both


def test_adding_changes_neither():
    before = dict(ONE.answered)
    assert (ONE + TWO).answered is not ONE.answered
    assert ONE.answered == before


def test_sums_start_from_nothing():
    assert sum([ONE, TWO], MiningStats()) == ONE + TWO
    assert MiningStats() + ONE == ONE


def test_a_kind_that_nobody_answered_stays_a_zero():
    none = MiningStats(anchors=1, pairs=3, answered={"hard": 0})
    assert (none + none).answered == {"hard": 0}
    assert (none + none).to_json()["none_exists"] == {"hard": 6}


def test_json_tells_what_does_not_exist():
    assert ONE.to_json() == {
        "anchors": 10,
        "singletons": 2,
        "pairs": 30,
        "answered": {"hard": 4, "semi_hard": 21},
        "none_exists": {"hard": 26, "semi_hard": 9},
    }
