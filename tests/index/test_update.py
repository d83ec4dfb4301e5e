"""An index that follows its items answers as one that is built anew."""

import numpy as np
import pytest

from remine.data.faiss_library import faiss
from remine.data.types import Embeddings, unit
from remine.index.build import IndexCard, build_index
from remine.index.config import IndexConfig
from remine.index.search import Searcher
from remine.index.update import (
    can_follow,
    differences,
    index_ids,
    recall_drop,
    same_kind,
    update_index,
)

KINDS = ("Flat", "SQfp16", "SQ8", "IVF16,Flat", "IVF16,SQfp16", "IVF16,SQ8", "PQ4", "IVF16,PQ4")


def clusters(n: int, seed: int = 0) -> Embeddings:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 20, n).astype(np.int32)
    centres = np.random.default_rng(7).standard_normal((20, 16))
    vectors = unit((centres[codes] + 0.5 * rng.standard_normal((n, 16))).astype(np.float32))
    ids = np.sort(rng.choice(10 * n, n, replace=False)) + 2**40
    return Embeddings(ids=ids, label_codes=codes, vectors=vectors)


@pytest.fixture(scope="module")
def before() -> Embeddings:
    return clusters(3000)


@pytest.fixture(scope="module")
def after(before: Embeddings) -> Embeddings:
    """A tenth deleted, 50 changed, 200 new between and behind the others."""
    remainder = before.take(np.arange(len(before)) % 10 != 3)
    vectors = remainder.vectors.copy()
    vectors[::54] = clusters(len(vectors[::54]), 5).vectors
    extra = clusters(400, 9)
    extra = extra.take(np.isin(extra.ids, before.ids, invert=True))
    late = Embeddings(
        ids=extra.ids + 2**41, label_codes=extra.label_codes, vectors=extra.vectors[::-1].copy()
    )
    ids = np.concatenate([remainder.ids, extra.ids, late.ids])
    order = np.argsort(ids)
    return Embeddings(
        ids=ids[order],
        label_codes=np.concatenate([p.label_codes for p in (remainder, extra, late)])[order],
        vectors=np.concatenate([vectors, extra.vectors, late.vectors])[order],
    )


def followed(before: Embeddings, after: Embeddings, factory: str) -> tuple[faiss.Index, IndexCard]:
    index, card = build_index(before, IndexConfig(factory=factory))
    return index, update_index(index, card, after, *differences([before], after))


def test_differences_by_a_plain_loop(before, after):
    old = {i: v.tobytes() for i, v in zip(before.ids.tolist(), before.vectors, strict=True)}
    new = {i: v.tobytes() for i, v in zip(after.ids.tolist(), after.vectors, strict=True)}
    leave, come = differences([before], after)
    assert leave.tolist() == sorted(i for i in old if old[i] != new.get(i))
    assert come.tolist() == sorted(i for i in new if new[i] != old.get(i))
    assert len(set(leave.tolist()) & set(come.tolist())) == 50


@pytest.mark.parametrize("factory", KINDS)
def test_every_stored_code_is_its_items_own(before, after, factory, tmp_path):
    index, card = followed(before, after, factory)
    assert sorted(index_ids(index).tolist()) == after.ids.tolist()
    assert (card.items, index.ntotal, card.factory) == (len(after), len(after), factory)
    faiss.write_index(index, str(tmp_path / "index"))
    searcher = Searcher(tmp_path / "index", card)
    store_rows = searcher.vectors(after.ids)
    # As exact as the codec, which was trained before: the same as if it encoded them now.
    codec = build_index(before, IndexConfig(factory=factory))[0]
    faiss.downcast_index(codec.index).reset()
    codec.id_map.clear()
    codec.ntotal = 0
    codec.construct_rev_map()
    codec.add_with_ids(after.vectors, after.ids)
    inner = faiss.downcast_index(codec.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.make_direct_map()
    np.testing.assert_array_equal(store_rows, inner.reconstruct_n(0, len(after)))
    result, _ = searcher.search(after.vectors, 10)
    assert np.isin(result.ids, after.ids).all()


def test_flat_answers_exactly(before, after):
    index, card = followed(before, after, "Flat")
    assert card.recall == 1.0
    wide = after.vectors.astype(np.float64)
    _, result = index.search(after.vectors[::40], 5)
    for row, query in enumerate(wide[::40]):
        rates = ((wide - query) ** 2).sum(axis=1)
        inputs = rates[np.searchsorted(after.ids, result[row])]  # some are equally far
        np.testing.assert_allclose(inputs, np.sort(rates)[:5], atol=1e-6)


def test_the_recall_is_measured_on_strangers(before, after):
    _, card = followed(before, after, "IVF16,Flat")
    assert card.held_out == len(after) // 10
    # With the queries in the index, each would find itself first.
    assert card.curve[0].recall_1 < 1
    assert [p.setting for p in card.curve][:2] == [1, 2]


def test_the_same_changes_give_the_same_bits(before, after):
    files = [faiss.serialize_index(followed(before, after, "IVF16,SQ8")[0]) for _ in range(2)]
    np.testing.assert_array_equal(*files)


def test_again_and_again(before, after):
    index, card = followed(before, after, "IVF16,Flat")
    card = update_index(index, card, before, *differences([after], before))
    assert card.items == len(before)
    result = index.search(before.vectors, 1)[1][:, 0]
    assert (result == before.ids).mean() > 0.95


@pytest.mark.parametrize(
    ("factory", "able"),
    [*((kind, True) for kind in KINDS), ("HNSW8", False), ("PCA8,Flat", False)],
)
def test_which_kinds_can(before, factory, able):
    assert can_follow(build_index(before, IndexConfig(factory=factory))[0]) == able


def test_the_kind_that_the_policy_wants():
    auto = IndexConfig()
    assert same_kind("Flat", 1000, 16, auto)
    assert not same_kind("Flat", 300_000, 16, auto)
    assert same_kind("IVF500,Flat", 300_000, 16, auto)
    assert not same_kind("IVF500,SQ8", 300_000, 16, auto)
    assert not same_kind("IVF500,Flat", 300_000, 16, IndexConfig(factory="IVF501,Flat"))


def test_how_far_recall_fell(before):
    card = build_index(before, IndexConfig(factory="IVF16,Flat"))[1]
    assert recall_drop(card.curve, card.setting, card.curve) == 0
    assert recall_drop(card.curve, 16, card.curve[:1]) > 0
