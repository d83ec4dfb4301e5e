"""The scan on a device, on CPU tensors: the bits of the compiled loops."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import remine.mining.search.gpu_scan
import remine.mining.search.scan
from remine.data.types import unit
from remine.mining import MiningConfig
from remine.mining.arguments import make_problem
from remine.mining.config import NEGATIVES
from remine.mining.engines.engines import ListJoinEngine
from remine.mining.miner import mine_block, mine_problem, mine_shards
from remine.mining.search.gpu_scan import in_order_distances, scan_on
from remine.mining.search.list_join import ListIndex
from remine.mining.search.scan import scan
from remine.mining.search.scan_kernels import exact_distances
from remine.mining.search.windows import WindowMatches, Windows

CPU = torch.device("cpu")
CONFIG = MiningConfig(negatives=NEGATIVES, max_positives=3, per_pair=2, margin=1.0)


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def on_device(request, monkeypatch):
    """Every scan runs as on a GPU, in small pieces."""
    use_device(monkeypatch, half=request.param)


def use_device(patch, *, half, sizes=(64, 96, 16, 60, 500, 1000)):
    patch.setattr(remine.mining.search.scan, "accelerator", lambda: CPU)
    patch.setattr(remine.mining.search.scan, "fast_half", lambda _device: half)
    patch.setattr(remine.mining.search.scan, "MAX_UNDECIDED", 2)
    names = ("ANCHORS", "TILE", "CHUNK", "PIECE", "CANDIDATES", "SLAB")
    for name, size in zip(names, sizes, strict=True):
        patch.setattr(remine.mining.search.gpu_scan, name, size)


@pytest.fixture(scope="module")
def problem(problem_of):
    """120 items, a third of them near one another and some exactly equal."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((120, 40))
    vectors[80:] = vectors[80] + 1e-3 * rng.standard_normal((40, 40))
    vectors[110:] = vectors[0]
    return problem_of(unit(vectors.astype(np.float32)), rng.integers(0, 8, 120))


@pytest.fixture(scope="module")
def wanted(problem, as_bytes):
    return as_bytes(mine_problem(problem, CONFIG).triplets)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        (4096, 2**15, 256, 2**18, 2**20, 2**22),
        (64, 96, 16, 60, 500, 1000),
        (50, 64, 32, 1000, 300, 41),
    ],
)
def test_the_bits_are_those_of_the_compiled_loops(
    problem, wanted, as_bytes, monkeypatch, half, sizes
):
    use_device(monkeypatch, half=half, sizes=sizes)
    assert as_bytes(mine_problem(problem, CONFIG).triplets) == wanted


@pytest.mark.usefixtures("on_device")
def test_shards_of_the_gallery_do_not_matter(problem, wanted, as_bytes):
    shards = [(i, problem.gallery[i:j].copy()) for i, j in pairwise([0, 40, 41, 120])]
    assert as_bytes(mine_shards(problem, shards[::-1], CONFIG)[0]) == wanted


@pytest.mark.parametrize("strategy", NEGATIVES)
@pytest.mark.usefixtures("on_device")
def test_every_strategy_agrees_with_the_plain_loop(oracle_of, clusters, problem_of, strategy):
    problem = problem_of(*clusters(60, d=5))
    config = MiningConfig(
        negatives=(strategy,), per_pair=3, band=(2, 9), skip_ranks=1, pool=10_000, margin=0.5
    )
    mining_result = mine_problem(problem, config)
    oracle_of(problem, config).check(mining_result.triplets, mining_result.stats)


@pytest.mark.usefixtures("on_device")
def test_what_lists_leave_open_is_searched_on_the_device(
    clusters, problem_of, as_bytes, monkeypatch
):
    problem = problem_of(*clusters(800))
    engine = ListJoinEngine(
        lists=ListIndex.of(problem, problem.gallery[::40].copy()), levels=((2, 0.1),)
    )
    one, stats = mine_block(engine, slice(800), CONFIG)
    assert sum(stats.not_found.values()) > 0  # answered by lists
    monkeypatch.setattr(remine.mining.search.scan, "scan_on", None)
    with pytest.raises(TypeError):
        mine_block(engine, slice(800), CONFIG)
    monkeypatch.setattr(remine.mining.search.scan, "accelerator", lambda: None)
    assert as_bytes(one) == as_bytes(mine_block(engine, slice(800), CONFIG)[0])


@st.composite
def questions(draw):
    """A problem and windows of any kind: any floors and ceilings, none or many an anchor."""
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["normal", "equal", "copies", "near", "grid"]))
    vectors = rng.normal(size=(n, d))
    if kind == "equal":
        vectors[:] = vectors[0]
    elif kind == "copies":
        vectors = vectors[rng.integers(0, max(1, n // 3), n)]
    elif kind == "near":
        vectors = vectors[0] + 1e-4 * vectors
    elif kind == "grid":
        vectors = rng.integers(-1, 2, (n, d)).astype(float)
        vectors[~vectors.any(axis=1)] = 1
    labels = rng.integers(0, draw(st.integers(1, 5)), n)
    problem = make_problem(vectors.astype(np.float32), labels, None, None, None)
    counts = rng.integers(0, 4, n)
    edges = np.r_[0, counts.cumsum()]
    gap = exact_distances(
        problem.anchors,
        np.repeat(np.arange(n), counts),
        problem.gallery,
        rng.integers(0, n, edges[-1]),
    )
    floor = np.where(rng.random(edges[-1]) < 0.3, np.float32(-1), gap)
    ceiling = np.where(rng.random(edges[-1]) < 0.5, np.float32(5), floor + np.float32(0.3))
    windows = Windows(
        starts=edges[:-1],
        stops=edges[1:],
        floor=floor.astype(np.float32),
        ceiling=ceiling.astype(np.float32),
        depth=draw(st.integers(1, 6)),
    )
    return problem, windows


@settings(max_examples=60, deadline=None)
@given(
    questions(), st.booleans(), st.sampled_from([(64, 96, 16, 7, 50, 1000), (5, 8, 4, 2, 3, 11)])
)
def test_any_windows_are_answered_alike(question, half, sizes):
    problem, windows = question
    one, two = WindowMatches.empty(windows), WindowMatches.empty(windows)
    scan(problem, windows, one)
    with pytest.MonkeyPatch.context() as patch:
        use_device(patch, half=half, sizes=sizes)
        scan_on(CPU, problem, windows, two, half=half)
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(one.distances, two.distances)
    np.testing.assert_array_equal(one.closer, two.closer)


@pytest.mark.parametrize("d", [1, 7, 128, 1000])
def test_distances_have_the_bits_of_the_compiled_loop(d):
    rng = np.random.default_rng(d)
    a, b = (unit(rng.standard_normal((500, d)).astype(np.float32)) for _ in range(2))
    b[:100] = np.nextafter(a[:100], np.float32(2))
    rows = np.arange(500)
    result = in_order_distances(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(result, exact_distances(a, rows, b, rows))


def test_few_scores_are_looked_at(problem, monkeypatch):
    # Not the whole tile: what the slack decides is never summed again.
    summed = []
    distances = remine.mining.search.gpu_scan.in_order_distances

    def counted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        summed.append(len(a))
        return distances(a, b)

    use_device(monkeypatch, half=True, sizes=(64, 96, 16, 10_000, 10_000, 1000))
    monkeypatch.setattr(remine.mining.search.gpu_scan, "in_order_distances", counted)
    rates = problem.block(np.arange(60))
    windows = Windows(
        starts=np.arange(60),
        stops=np.arange(60) + 1,
        floor=np.full(60, -1, np.float32),
        ceiling=np.full(60, 5, np.float32),
        depth=1,
    )
    scan(rates, windows, WindowMatches.empty(windows))
    assert 60 <= sum(summed) < 0.1 * 60 * 120


def test_the_settings_of_products_are_put_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with remine.mining.search.gpu_scan._full_precision_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
