"""What may be asked of mining: settings, arguments, and the engine that follows from them."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
import torch

import remine.mining.engines.engine_choice
import remine.mining.search.processor
from remine.data.errors import InputError
from remine.mining import MiningConfig, mine
from remine.mining.config import NEGATIVES, POSITIVES
from remine.mining.engines.engine_choice import (
    EXACT_LIMIT,
    choose_engine,
    expect,
    unit_anchors,
    windows_of,
)
from remine.mining.problem import by_pairs
from remine.mining.search.processor import accelerator, fast_half

AUTO = MiningConfig()
RANGES = {
    "max_positives": (0, 1_000_000),
    "per_pair": (1, 1000),
    "pool": (16, 1_000_000),
    "skip_ranks": (0, 1000),
    "absolute_margin": (0, 4),
    "relative_margin": (0, 1),
    "near_duplicate": (0, 4),
    "positive_duplicate": (0, 4),
    "hub_cap": (0, 2**31 - 1),
    "recall": (0.5, 1),
    "recall_neighbours": (0.5, 1),
    "candidates": (1, 10_000),
    "memory_gb": (0.00001, 10_000),
    "unit_anchors": (0, 1_000_000),
}


@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_range_are_refused(name):
    low, high = RANGES[name]
    complete = isinstance(getattr(AUTO, name), int)
    for value in (low - 1, high + 1, *([] if complete else [float("nan")])):
        with pytest.raises(InputError) as error:
            MiningConfig(**{name: value})
        page_text = value if complete else float(value)
        limits = f"{low:,} to {high:,}" if low != 0.00001 else "0.00001 to 10,000 (gigabytes)"
        message = str(error.value).removesuffix(" (squared Euclidean distance)")
        assert message == f"mining.{name} is {page_text}; it must be {limits}"
    for value in (low, high):
        assert getattr(MiningConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"positives": "best"},
            "mining.positives is 'best'; it must be one of all, random, hardest, easiest",
        ),
        (
            {"negatives": ()},
            r"mining.negatives is \[\]; it must be a list of one or more of semi_hard, hard,",
        ),
        (
            {"negatives": ("hard", "soft")},
            r"mining.negatives is \['hard', 'soft'\]; it must be a list of one",
        ),
        ({"negatives": ("hard", "hard")}, "mining.negatives is .*; name each strategy once"),
        ({"margin": 0.0}, "mining.margin is 0.0; it must be above 0 and at most 4"),
        ({"margin": 4.1}, "mining.margin is 4.1; it must be above 0 and at most 4"),
        ({"margin": float("nan")}, "mining.margin is nan; it must be above 0"),
        ({"band": (5, 5)}, r"mining.band is \[5, 5\]; the first rank must be below"),
        ({"band": (-1, 5)}, r"mining.band is \[-1, 5\]; it must be a list of 2 whole numbers: 0"),
        ({"band": (0, 1001)}, r"mining.band is \[0, 1001\]; it must be a list of 2 whole"),
        ({"band": (5,)}, r"mining.band is \[5\]; it must be a list of 2 whole numbers"),
        (
            {"engine": "fast"},
            "mining.engine is 'fast'; it must be one of auto, exact, approximate or",
        ),
        ({"per_pair": 1.5}, "mining.per_pair is 1.5; it must be a whole number"),
        ({"per_pair": True}, "mining.per_pair is True; it must be a whole number"),
        ({"recall": "high"}, "mining.recall is 'high'; it must be a number"),
        ({"second_negative": 1}, "mining.second_negative is 1; it must be true or false"),
        ({"engine": None}, "mining.engine is None; it must be one of auto"),
        ({"negatives": "hard"}, "mining.negatives is 'hard'; it must be a list of one or more of"),
        ({"band": (1.5, 3)}, r"mining.band is \[1.5, 3\]; it must be a list of 2 whole numbers"),
        (
            {"engine": "faiss"},
            "mining.engine is 'faiss'; it must be one of auto, exact, approximate or",
        ),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        MiningConfig(**values)


def test_every_strategy_is_known():
    for positives in POSITIVES:
        assert MiningConfig(positives=positives, negatives=NEGATIVES, band=(0, 1000))


def test_numbers_of_numpy_are_numbers():
    config = MiningConfig(per_pair=np.int64(2), margin=np.float32(0.5), recall=1)
    assert (config.per_pair, config.margin, config.recall) == (2, 0.5, 1)


LABELS = ["a"] * 3
QUERY = np.ones((1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "3 vectors need 3 labels"),
        ({"labels": "aaa"}, "3 vectors need 3 labels"),
        ({"labels": np.array(3)}, "3 vectors need 3 labels"),
        ({"labels": {0: "a", 1: "a", 2: "a"}}, "3 vectors need 3 labels"),
        ({"labels": [1, "1", 1]}, "labels are of types that do not sort: int, str; make them one"),
        ({"labels": ["a", None, "a"]}, "the label of vector 1 is missing"),
        ({"labels": np.array([1, 2, np.nan])}, "the label of vector 2 is missing"),
        (
            {"labels": [["a"], "a", ["a"]]},
            "label 1 is not a list but others are; make all of them lists",
        ),
        ({"labels": [["a"], ["a"], ["a", None]]}, "the label of vector 2 is missing"),
        ({"labels": [["a"], [1], ["a"]]}, "labels are of types that do not sort: int, str"),
        ({"labels": LABELS, "ids": np.arange(3) + 0.5}, "ids are float64; they must be integers"),
        ({"labels": LABELS, "ids": ["a", "b", "c"]}, "ids are <U1; they must be integers"),
        ({"labels": LABELS, "ids": np.arange(3)[:, None]}, "ids must be 3 different integers"),
        ({"labels": LABELS, "ids": np.array([1, 2, 2**63], np.uint64)}, "ids are uint64; they"),
        ({"labels": LABELS, "seed": -1}, "seed is -1; it must be an integer from 0 to"),
        ({"labels": LABELS, "seed": 2**63}, "seed is 9223372036854775808; it must be an integer"),
        ({"labels": LABELS, "seed": 0.5}, "seed is 0.5; it must be an integer"),
        ({"labels": LABELS, "same_as": [0, 1]}, r"same_as has shape \(2,\); it must be \(p, 2\)"),
        ({"labels": LABELS, "same_as": [[0, 0.5]]}, "same_as ids are float64; they must be"),
        ({"labels": LABELS, "config": {}}, "config must be a MiningConfig, and index an index"),
        ({"labels": LABELS, "index": "x"}, "config must be a MiningConfig, and index an index"),
        ({"labels": LABELS, "queries": QUERY, "positives": {}}, "give labels, or queries with"),
        ({"positives": {0: [1]}}, "queries and positives .* go together"),
        ({"queries": np.ones(2), "positives": {}}, r"query rows are float64 of shape \(2,\);"),
        ({"queries": np.ones((1, 3)), "positives": {}}, "queries have 3 dimensions, vectors 2"),
        ({"queries": QUERY * np.nan, "positives": {}}, "query 0 has length nan: it has no"),
        ({"queries": QUERY, "positives": {1: [0]}}, "positives name query 1, which does not exist"),
        ({"queries": QUERY, "positives": [[0]]}, "positives must map query number -> ids"),
        ({"queries": QUERY, "positives": {"a": [0]}}, "positives: query 'a' is not an integer"),
        ({"queries": QUERY, "positives": {0: 1}}, "positives of query 0 are 1; they must be a"),
        ({"queries": QUERY, "positives": {0: [[1]]}}, r"positives of query 0 are \[\[1\]\]; they"),
        ({"queries": QUERY, "positives": {0: ["a"]}}, "positives of query 0 are <U1; they must"),
        ({"labels": ["a", "b"]}, "3 vectors need 3 labels"),
        ({"labels": ["a"] * 3, "ids": np.array([1, 1, 2])}, "3 different integers"),
        ({"labels": ["a"] * 3, "ids": np.array([1, 2, 3, 4])}, "3 different integers"),
        ({"queries": np.ones((1, 2))}, "queries and positives .* go together"),
        ({"queries": np.ones((1, 2)), "positives": {0: [9]}}, "its positive 9 is not in the"),
        ({"labels": ["a"] * 3, "same_as": np.array([[0, 9]])}, "one of the ids is not in the"),
        (
            {"labels": [["a"]] * 3, "config": MiningConfig(second_negative=True)},
            "mining.second_negative needs items with one label each",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    vectors = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match=message):
        mine(vectors, **arguments)


@pytest.mark.parametrize("bad", [0, np.nan, np.inf])
def test_vectors_without_direction_are_refused(bad):
    vectors = np.ones((3, 2), np.float32)
    vectors[1] = bad
    with pytest.raises(InputError, match="vector 1 has length"):
        mine(vectors, ["a"] * 3)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(3), r"vector rows are float64 of shape \(3,\); they must be \(n, d\) numbers"),
        ([["a", "b"]] * 3, r"vector rows are <U1 of shape \(3, 2\); they must be"),
        ([[1, 2], [1], [1, 2]], r"vector rows differ in length; they must be \(n, d\) numbers"),
        (np.ones((3, 2)) * 1j, "vector rows are complex128"),
        (np.array([[1, 1], [1e300, 1], [1, 1]]), "vector 1 has length inf: it has no direction"),
        (np.ones((3, 0)), "vector 0 has length 0"),
    ],
)
def test_what_are_no_vectors_is_refused(vectors, message):
    with pytest.raises(InputError, match=message):
        mine(vectors, ["a"] * 3)


def test_a_bad_vector_is_named_by_its_place_not_by_its_id():
    vectors = np.ones((3, 2))
    vectors[2] = 0
    with pytest.raises(InputError, match="vector 2 has length 0"):
        mine(vectors, ["a"] * 3, ids=np.array([9, 8, 7]))


def test_the_largest_seed_mines(clusters):
    vectors, labels = clusters(300)
    config = MiningConfig(engine="approximate")
    assert len(mine(vectors, labels, config=config, seed=2**63 - 1).triplets)


def test_no_vectors_at_all_are_refused():
    with pytest.raises(InputError):
        mine(np.zeros((0, 4), np.float32), [])


def test_no_queries_give_no_triplets():
    mining_result = mine(np.eye(3), queries=np.zeros((0, 3)), positives={})
    assert len(mining_result.triplets) == 0


def test_vectors_of_any_length_and_type_are_scaled():
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    one = mine(vectors, [0, 1] * 10).triplets
    two = mine((vectors * np.linspace(1, 9, 20)[:, None]).tolist(), [0, 1] * 10).triplets
    np.testing.assert_array_equal(one.negative_id, two.negative_id)
    np.testing.assert_allclose(one.d_an, two.d_an, atol=1e-6)


def test_labels_of_any_kind_that_sorts():
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    kinds = [[i % 3 for i in range(12)], [f"{i % 3}" for i in range(12)], np.arange(12) % 3 * 0.5]
    kinds.append([{f"{i % 3}"} for i in range(12)])
    kinds.append([date(2000, 1, 1 + i % 3) for i in range(12)])
    kinds.append([True if i % 3 == 1 else i % 3 for i in range(12)])
    mining_result = [mine(vectors, labels).triplets for labels in kinds]
    for second in mining_result[1:]:
        np.testing.assert_array_equal(second.negative_id, mining_result[0].negative_id)


def test_items_without_a_label_have_no_positives():
    mining_result = mine(np.random.default_rng(0).normal(size=(6, 3)), [[], [1], [1], [], [2], [2]])
    assert set(mining_result.triplets.anchor_id.tolist()) <= {1, 2, 4, 5}
    assert mining_result.stats.singletons == 2


def test_a_query_that_is_the_id_of_an_item_is_another_thing():
    # Query 0 lies where item 0 does, and item 0 is its negative all the same.
    corpus = np.eye(3, dtype=np.float32)
    problem = by_pairs(corpus[:1], np.array([0]), corpus, np.arange(3), {0: [1]})
    assert problem.self_rows.tolist() == [-1]
    mining_result = mine(corpus, queries=corpus[:1], positives={0: [1]})
    hard = mining_result.triplets.take(mining_result.triplets.kind == 0)
    assert hard.negative_id.tolist() == [0]


RATE = 1e11


def test_small_galleries_are_mined_exactly_and_large_ones_by_lists():
    assert choose_engine(EXACT_LIMIT, 64, AUTO).engine == "exact"
    assert choose_engine(EXACT_LIMIT + 1, 64, AUTO).engine == "approximate"
    assert choose_engine(10**6, 64, MiningConfig(recall=1.0)).engine == "exact"


@pytest.mark.parametrize("engine", ["exact", "approximate", "faiss:Flat", "faiss:"])
@pytest.mark.parametrize("n", [10, 10**6])
def test_who_names_an_engine_gets_it(engine, n):
    choice = choose_engine(n, 64, MiningConfig(engine=engine))
    assert choice.engine == engine.partition(":")[0]
    assert choice.reason == "mining.engine asks for it"


def test_a_gallery_over_the_memory_is_cut_in_shards():
    n, d = 10**6, 128
    need = n * (4 * d + 12) / 2**30
    enough, little = MiningConfig(memory_gb=need * 1.01), MiningConfig(memory_gb=0.1)
    one, five = choose_engine(n, d, enough), choose_engine(n, d, little)
    assert (one.engine, one.shards) == ("approximate", 1)
    assert (five.engine, five.shards) == ("exact", 5)
    assert "cut in shards" in five.reason
    costs = [expect(n, n, d, config, RATE).memory_gb for config in (little, enough)]
    assert costs == sorted(costs)


@pytest.mark.parametrize("engine", ["approximate", "faiss:Flat"])
def test_what_needs_all_of_the_gallery_is_refused_where_it_does_not_fit(engine):
    config = MiningConfig(engine=engine, memory_gb=0.1)
    with pytest.raises(InputError, match=r'over mining.memory_gb = 0.1: raise it, or take "exact"'):
        choose_engine(10**6, 128, config)
    assert choose_engine(10**5, 128, config).shards == 1


def test_shards_grow_with_the_gallery_and_shrink_with_memory():
    shards = [choose_engine(n, 64, MiningConfig(memory_gb=0.05)).shards for n in (10, 10**5, 10**6)]
    assert shards == sorted(shards)
    assert shards[0] == 1 < shards[-1]
    shards = [choose_engine(10**6, 64, MiningConfig(memory_gb=m)).shards for m in (0.01, 0.1, 1)]
    assert shards == sorted(shards, reverse=True)


@pytest.mark.parametrize("engine", ["exact", "approximate", "auto"])
def test_costs_grow_with_the_work(engine):
    config = MiningConfig(engine=engine)
    for sizes in (
        [(10**k, 10**5, 64) for k in range(2, 7)],
        [(1000, 10**k, 64) for k in range(2, 6)],
        [(1000, 10**4, d) for d in (8, 64, 512)],
    ):
        costs = [expect(*size, config, RATE) for size in sizes]
        assert all(a.seconds < b.seconds for a, b in pairwise(costs))
        assert all(a.memory_gb <= b.memory_gb for a, b in pairwise(costs))


def test_lists_cost_less_than_exact_where_they_are_chosen():
    n = 3 * EXACT_LIMIT
    configs = [MiningConfig(engine=engine) for engine in ("auto", "exact")]
    lists, exact = (expect(n, n, 128, config, RATE) for config in configs)
    assert lists.seconds < exact.seconds


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, (8, 1)),
        ({"max_positives": 3, "negatives": ("semi_hard", "random_semi_hard")}, (3, 0)),
        ({"max_positives": 3, "negatives": ("hard", "rank_band")}, (0, 1)),
        ({"max_positives": 3, "negatives": ("hard",), "relative_margin": 0.95}, (3, 0)),
        ({"positives": "random", "max_positives": 3}, (1, 1)),
        ({"positives": "hardest", "max_positives": 0}, (1, 1)),
        ({"negatives": ("uniform",)}, (0, 0)),
    ],
)
def test_a_forecast_counts_the_windows_that_are_searched(values, wanted):
    assert windows_of(MiningConfig(**values)) == wanted


def test_more_windows_cost_more():
    configs = [MiningConfig(max_positives=k) for k in (1, 4, 16)]
    for engine in ("exact", "approximate"):
        costs = [
            expect(10**6, 10**6, 64, replace(config, engine=engine), RATE).seconds
            for config in configs
        ]
        assert all(a < b for a, b in pairwise(costs))


def test_a_faster_machine_takes_less_time():
    slow, fast = (expect(10**5, 10**5, 64, AUTO, rate).seconds for rate in (RATE, 10 * RATE))
    assert fast < slow


@pytest.mark.parametrize(
    ("flags", "capability", "wanted"),
    [
        ("fpu avx2 avx512f avx512_bf16", "AVX512", True),
        ("fpu amx_bf16 amx_tile", "AVX512", True),
        ("fpu avx2 avx512f avx512_vnni", "AVX512", False),
        ("fpu avx512_bf16", "AVX2", False),  # as ATEN_CPU_CAPABILITY=avx2 has it
        ("fpu avx512_bf16x", "AVX512", False),
        (None, "AVX512", False),
    ],
)
def test_products_are_halved_by_what_the_processor_says(
    monkeypatch, tmp_path, flags, capability, wanted
):
    if flags:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: x\n")
    monkeypatch.setattr(remine.mining.search.processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    fast_half.cache_clear()
    try:
        assert fast_half() is wanted
    finally:
        fast_half.cache_clear()


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    assert (accelerator() is not None) == torch.cuda.is_available()
    monkeypatch.setattr(
        remine.mining.engines.engine_choice, "accelerator", lambda: torch.device("cuda")
    )
    assert choose_engine(10**6, 64, AUTO).engine == "exact"
    assert choose_engine(10**7, 64, AUTO).engine == "approximate"


def test_nothing_is_timed_when_mining_is_decided(monkeypatch, clusters):
    def stopped() -> float:
        raise AssertionError

    monkeypatch.setattr(remine.mining.engines.engine_choice, "perf_counter", stopped)
    for engine in ("auto", "approximate"):
        mine(*clusters(300), config=MiningConfig(engine=engine))
    with pytest.raises(AssertionError):
        remine.mining.engines.engine_choice.product_rate()


def test_a_unit_of_work_holds_a_bounded_number_of_answers():
    lists = {"engine": "approximate"}
    assert unit_anchors("approximate", MiningConfig(**lists)) == 262_144
    assert unit_anchors("approximate", MiningConfig(unit_anchors=99)) == 99
    for config in (
        MiningConfig(negatives=("semi_hard", "rank_band"), band=(10, 500)),
        MiningConfig(per_pair=100, max_positives=30),
        MiningConfig(negatives=("hard",), skip_ranks=1000),
    ):
        depth = max(config.per_pair + config.skip_ranks, config.band[1])
        windows = sum(windows_of(config))
        size = unit_anchors("approximate", config)
        assert size * windows * depth <= 4_000_000 or size == 1024
        assert size >= 1024
