"""The index: which one is built, how it is tuned, and whether its card tells the truth."""

import faiss
import numpy as np
import pytest

import index.build
from data import schemas
from data.errors import InputError
from data.types import Embeddings, unit
from index.build import build_index, choose_factory


def clustered(n, d=16, seed=0):
    """Vectors around 50 centres, ids with gaps and far above 32 bits."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, d))
    label_codes = rng.integers(0, 50, n).astype(np.int32)
    vectors = unit((centres[label_codes] + 0.5 * rng.standard_normal((n, d))).astype(np.float32))
    ids = np.sort(rng.choice(10 * n, n, replace=False)) + 2**40
    return Embeddings(ids=ids, label_codes=label_codes, vectors=vectors)


@pytest.fixture(scope="module")
def embeddings():
    return clustered(4000)


def nearest_ids(embeddings, rows, k):
    """The ids of the k nearest of each row, itself included, one query at a time."""
    vectors = embeddings.vectors.astype(np.float64)
    found = []
    for row in rows:
        distances = ((vectors - vectors[row]) ** 2).sum(axis=1)
        found.append(embeddings.ids[np.argsort(distances, kind="stable")[:k]])
    return np.stack(found)


def found_share(index, embeddings, rows, k):
    """The share of the exact k nearest that the index finds."""
    _, found = index.search(embeddings.vectors[rows], k)
    exact = nearest_ids(embeddings, rows, k)
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    return sum(shared) / (k * len(rows))


def sampled_rows(n, sampled, seed=0):
    return np.random.default_rng(seed).choice(n, sampled, replace=False)


def test_small_sets_are_searched_exactly():
    assert choose_factory(1) == choose_factory(200_000) == "Flat"


@pytest.mark.parametrize(("n", "lists"), [(200_001, 447), (1_000_000, 1000), (10_000_000, 3162)])
def test_large_sets_get_about_sqrt_n_lists(n, lists):
    assert choose_factory(n) == f"IVF{lists},Flat"


def test_auto_follows_the_policy(embeddings, monkeypatch):
    assert build_index(embeddings, "auto")[1].factory == "Flat"
    monkeypatch.setattr(index.build, "FLAT_LIMIT", 3999)
    assert build_index(embeddings, "auto")[1].factory == "IVF63,Flat"


def test_flat_is_exact(embeddings):
    index, card = build_index(embeddings, "Flat")
    assert (card.items, card.dimensions) == (4000, 16)
    assert (card.nprobe, card.recall, card.sampled) == (1, 1.0, 1000)
    assert found_share(index, embeddings, np.arange(0, 4000, 40), 10) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_ivf_recall_on_the_card_is_what_brute_force_gives(embeddings, seed):
    index, card = build_index(embeddings, "IVF32,Flat", seed)
    rows = sampled_rows(4000, card.sampled, seed)
    assert card.recall == pytest.approx(found_share(index, embeddings, rows, 10), abs=2e-4)
    # Not exact, and not by chance the recall of another sample.
    assert 0.98 <= card.recall < 1


def test_ivf_takes_the_smallest_nprobe_that_reaches_the_wished_recall(embeddings):
    index, card = build_index(embeddings, "IVF32,Flat")
    rows = sampled_rows(4000, card.sampled)
    assert card.nprobe in (2, 4, 8, 16)
    lists = faiss.extract_index_ivf(index)
    assert lists.nprobe == card.nprobe
    lists.nprobe = card.nprobe // 2
    assert found_share(index, embeddings, rows, 10) < 0.98


def test_lists_are_found_behind_a_transform(embeddings):
    # A rotation in front of the lists must not hide them from the tuning.
    _, card = build_index(embeddings, "RR16,IVF32,Flat")
    assert card.nprobe > 1
    assert card.recall >= 0.98


def test_low_recall_is_told(embeddings):
    index, card = build_index(embeddings, "PQ2x4")
    rows = sampled_rows(4000, card.sampled)
    assert card.recall == pytest.approx(found_share(index, embeddings, rows, 10), abs=2e-4)
    assert card.recall < 0.9


def test_fewer_items_than_the_depth():
    index, card = build_index(clustered(3), "Flat")
    assert (card.items, card.recall, card.sampled) == (3, 1.0, 3)
    assert index.ntotal == 3


def test_ids_survive_the_file(embeddings, tmp_path):
    index, _ = build_index(embeddings, "Flat")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    loaded = faiss.read_index(str(tmp_path / "index.faiss"))
    _, found = loaded.search(embeddings.vectors, 1)
    np.testing.assert_array_equal(found[:, 0], embeddings.ids)


def test_reads_embeddings_as_they_come_from_parquet(embeddings, tmp_path):
    # Arrow hands out arrays that may not be written to.
    path = tmp_path / "embeddings.parquet"
    table = schemas.embeddings_table(embeddings)
    schemas.write(table, path, schema="embeddings/1", provenance={})
    index, card = build_index(schemas.read_embeddings([path]), "Flat")
    assert card.recall == 1
    _, found = index.search(embeddings.vectors[:5], 1)
    assert found[:, 0].tolist() == embeddings.ids[:5].tolist()


@pytest.mark.parametrize("factory", ["Falt", "", "IVF,Flat", "IDMap,Flat"])
def test_an_unknown_factory_is_refused(embeddings, factory):
    with pytest.raises(InputError, match=r"index\.factory") as refusal:
        build_index(embeddings, factory)
    assert repr(factory) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_more_lists_than_vectors_are_refused(embeddings):
    with pytest.raises(InputError, match=r"index\.factory 'IVF4096,Flat'.* 4000") as refusal:
        build_index(embeddings, "IVF4096,Flat")
    assert "\n" not in str(refusal.value)
