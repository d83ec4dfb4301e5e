"""Exact mining against plain loops: the same triplets, the same ranks, on everything odd."""

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mining.exact
from data.types import HARD, SEMI_HARD, Embeddings, Triplets, unit
from mining.config import MiningConfig
from mining.exact import CODES, mine_block
from mining.pairs import find_pairs

ALL = MiningConfig(max_positives=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Many tiny galleries on several threads would mostly wait for one another."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def gallery_of(codes, vectors, ids=None):
    codes = np.array(codes, np.int32)
    ids = np.arange(len(codes)) * 5 + 2**35 if ids is None else np.array(ids)
    vectors = np.ascontiguousarray(unit(np.asarray(vectors, np.float32)))
    return Embeddings(ids=ids, label_codes=codes, vectors=vectors)


def random_gallery(n, d, classes, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, d))
    codes = rng.integers(0, classes, n)
    return gallery_of(codes * 3, centres[codes] + 1.5 * rng.standard_normal((n, d)))


def mine(gallery, config=ALL, seed=0):
    return mine_block(gallery, np.arange(len(gallery)), config, seed)


def rows_of(triplets):
    """Plain tuples, in order."""
    names = ("anchor_id", "positive_id", "negative_id", "kind", "negative_rank", "d_ap", "d_an")
    return list(zip(*(getattr(triplets, name).tolist() for name in names), strict=True))


def loop_rows(gallery, config, anchors):
    """What mining should give, one anchor, positive and negative at a time."""
    wanted = []
    vectors, ids = gallery.vectors.astype(np.float64), gallery.ids.tolist()
    for a in anchors:
        near = np.float32(((vectors - vectors[a]) ** 2).sum(axis=1))
        same = gallery.label_codes == gallery.label_codes[a]
        negatives = sorted((near[n], ids[n]) for n in np.flatnonzero(~same))
        for d_ap, p in sorted((near[p], ids[p]) for p in np.flatnonzero(same) if p != a):
            window = d_ap + np.float32(config.margin)
            for kind in config.kinds:
                if kind == "hard":
                    fits = [n for n in negatives if n[0] <= d_ap][:1]
                else:
                    fits = [n for n in negatives if n[0] > d_ap][:1]
                    fits = [n for n in fits if n[0] < window]
                for d_an, n in fits:
                    rank = sum(other < d_an for other, _ in negatives)
                    wanted.append((ids[a], p, n, CODES[kind], rank, float(d_ap), float(d_an)))
    return wanted


def assert_equals_loops(gallery, config=ALL):
    triplets, stats = mine(gallery, config)
    wanted = loop_rows(gallery, config, range(len(gallery)))
    assert rows_of(triplets) == wanted
    sizes = np.unique(gallery.label_codes, return_counts=True)[1]
    assert stats.anchors == len(gallery)
    assert stats.singletons == (sizes == 1).sum()
    assert stats.pairs == (sizes * (sizes - 1)).sum()
    for kind in config.kinds:
        count = sum(row[3] == CODES[kind] for row in wanted)
        assert stats.answered[kind] == count
        assert stats.to_json()["none_exists"][kind] == stats.pairs - count


@st.composite
def galleries(draw):
    """Few directions for many items, so that duplicates and ties are the rule; odd ids and codes.

    The rows are not in the order of the ids, so that the lowest id is not the first row.
    """
    n = draw(st.integers(1, 30))
    d = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = rng.choice([-2, -1, 0, 1, 2], (draw(st.integers(1, 40)), d))
    pool[~pool.any(axis=1)] = 1
    shaken = pool + draw(st.sampled_from([0, 0, 1e-7, 0.1])) * rng.standard_normal(pool.shape)
    codes = draw(st.lists(st.sampled_from([0, 1, 4, 1000]), min_size=n, max_size=n))
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n, unique=True))
    return gallery_of(codes, shaken[rng.integers(0, len(pool), n)], ids)


@settings(max_examples=200, deadline=None)
@given(
    gallery=galleries(),
    margin=st.sampled_from([1e-6, 0.05, 0.2, 1.0, 4.0]),
    kinds=st.sampled_from(
        [("hard",), ("semi_hard",), ("semi_hard", "hard"), ("hard", "semi_hard")]
    ),
    tiles=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_equals_the_loops(gallery, margin, kinds, tiles):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining.exact, "TILE_ANCHORS", tiles[0])
        patch.setattr(mining.exact, "TILE_GALLERY", tiles[1])
        config = MiningConfig(kinds=kinds, margin=margin, max_positives=0)
        assert_equals_loops(gallery, config)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loops_on_a_real_size(seed):
    assert_equals_loops(random_gallery(250, 24, 12, seed))


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_equals_the_loops_where_float32_products_cannot_tell(noise):
    # All distances lie within or near the error of a float32 product.
    rng = np.random.default_rng(0)
    shaken = rng.standard_normal(384) + noise * rng.standard_normal((150, 384))
    assert_equals_loops(gallery_of(rng.integers(0, 5, 150), shaken))


def test_all_vectors_equal():
    gallery = gallery_of([0, 1, 0, 1, 2], np.ones((5, 3)))
    assert_equals_loops(gallery)
    triplets, _ = mine(gallery)
    # At distance 0 everything is hard and nothing is farther; the lowest id wins.
    assert (triplets.kind == HARD).all()
    assert triplets.negative_id.tolist() == gallery.ids[[1, 0, 1, 0]].tolist()


def test_a_duplicate_of_another_class_is_hard_and_not_semi_hard():
    # The negatives lie exactly where the positive lies: d_an == d_ap.
    gallery = gallery_of([7, 7, 1, 1], [[1, 0], [1, 1], [1, 1], [1, 1]])
    triplets, stats = mine_block(gallery, np.array([0]), ALL)
    assert triplets.kind.tolist() == [HARD]
    assert triplets.d_an == triplets.d_ap
    assert triplets.negative_id.tolist() == [gallery.ids[2]]
    assert stats.answered == {"semi_hard": 0, "hard": 1}


def test_the_margin_is_not_part_of_the_window():
    # Right angles: d_ap is 0 and d_an exactly 2.
    gallery = gallery_of([0, 0, 1], [[1, 0], [1, 0], [0, 1]])
    for margin, found in ((2.0, 0), (2.0000005, 1)):
        _, stats = mine_block(gallery, np.array([0]), MiningConfig(margin=margin))
        assert stats.answered["semi_hard"] == found


@pytest.mark.parametrize("codes", [[3] * 8, list(range(8)), [5]])
def test_one_class_or_only_singletons_give_nothing(codes):
    gallery = gallery_of(codes, np.random.default_rng(0).standard_normal((len(codes), 4)))
    triplets, stats = mine(gallery)
    assert len(triplets) == 0
    assert stats.answered == {"semi_hard": 0, "hard": 0}
    assert_equals_loops(gallery)


@pytest.mark.parametrize("cap", [1, 4, 100])
def test_a_cap_answers_the_chosen_pairs_as_before(cap):
    gallery, anchors = random_gallery(120, 8, 6), np.arange(120)
    config = MiningConfig(max_positives=cap)
    triplets, stats = mine(gallery, config, seed=4)
    pairs = find_pairs(gallery, anchors, cap, seed=4)
    asked = set(zip(gallery.ids[pairs.anchor], gallery.ids[pairs.positive], strict=True))
    assert rows_of(triplets) == [r for r in loop_rows(gallery, ALL, anchors) if r[:2] in asked]
    assert stats.pairs == len(asked)


def test_kinds_and_roles_are_right_by_definition():
    gallery = random_gallery(300, 16, 10)
    triplets, _ = mine(gallery)
    hard, semi = (triplets.take(triplets.kind == kind) for kind in (HARD, SEMI_HARD))
    assert min(len(hard), len(semi)) > 1000
    assert (hard.d_an <= hard.d_ap).all()
    assert (hard.negative_rank == 0).all()
    assert (semi.d_ap < semi.d_an).all()
    assert (semi.d_an < semi.d_ap + np.float32(0.2)).all()
    codes = dict(zip(gallery.ids.tolist(), gallery.label_codes.tolist(), strict=True))
    for anchor, positive, negative, *_ in rows_of(triplets):
        assert len({anchor, positive, negative}) == 3
        assert codes[anchor] == codes[positive] != codes[negative]


def test_semi_hard_is_the_nearest_of_those_that_another_library_finds():
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, miners

    gallery = random_gallery(80, 16, 6)
    theirs = miners.TripletMarginMiner(
        margin=0.2, type_of_triplets="semihard", distance=distances.LpDistance(power=2)
    )
    vectors, codes = torch.from_numpy(gallery.vectors), torch.from_numpy(gallery.label_codes)
    nearest = {}
    for a, p, n in zip(*(rows.tolist() for rows in theirs(vectors, codes)), strict=True):
        d_an = float(((vectors[a] - vectors[n]) ** 2).sum())
        nearest[a, p] = min(nearest.get((a, p), (d_an, n)), (d_an, n))
    triplets, _ = mine(gallery, MiningConfig(kinds=("semi_hard",), max_positives=0))
    found = {(a, p): n for a, p, n, *_ in rows_of(triplets)}
    ids = gallery.ids.tolist()
    assert len(found) > 300
    assert found == {(ids[a], ids[p]): ids[n] for (a, p), (_, n) in nearest.items()}


@pytest.mark.parametrize("block", [1, 64, 299])
def test_anchors_in_blocks_give_what_all_at_once_give(block):
    gallery, config = random_gallery(300, 16, 10), MiningConfig(max_positives=3)
    whole, stats = mine(gallery, config, seed=1)
    anchors = np.split(np.arange(300), range(block, 300, block))
    parts = [mine_block(gallery, some, config, 1) for some in anchors]
    assert rows_of(Triplets.concatenate([part for part, _ in parts])) == rows_of(whole)
    assert sum((part for _, part in parts[1:]), parts[0][1]) == stats
