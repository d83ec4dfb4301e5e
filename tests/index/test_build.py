"""The index: which one is built, how it is tuned, and whether its card tells the truth."""

import numpy as np
import pytest

import remine.index.factory_choice
from remine.data import schemas
from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import Embeddings, unit
from remine.index.build import IndexCard, build_index, check_factory, setting_for
from remine.index.config import IndexConfig
from remine.index.recall import RecallPoint
from remine.index.search_setting import inner_of, knob_of, parameters


def built(embeddings, factory="auto", seed=0, **settings):
    return build_index(embeddings, IndexConfig(factory=factory, **settings), seed)


def clusters(n, d=16, seed=0):
    """Vectors around 50 centres, ids with gaps and far above 32 bits."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, d))
    label_codes = rng.integers(0, 50, n).astype(np.int32)
    vectors = unit((centres[label_codes] + 0.5 * rng.standard_normal((n, d))).astype(np.float32))
    ids = np.sort(rng.choice(10 * n, n, replace=False)) + 2**40
    return Embeddings(ids=ids, label_codes=label_codes, vectors=vectors)


@pytest.fixture(scope="module")
def embeddings():
    return clusters(4000)


def nearest_ids(embeddings, rows, k):
    """The ids of the k nearest of each row, itself included, one query at a time."""
    vectors = embeddings.vectors.astype(np.float64)
    result = []
    for row in rows:
        distances = ((vectors - vectors[row]) ** 2).sum(axis=1)
        result.append(embeddings.ids[np.argsort(distances, kind="stable")[:k]])
    return np.stack(result)


def held_out(n, seed=0):
    """The rows that measure: a tenth, at most 1,000."""
    return np.sort(np.random.default_rng(seed).choice(n, min(1000, n // 10), replace=False))


def recall_without(embeddings, factory, setting, k, seed=0):
    """Recall@k of the index over all but the held-out rows, one neighbour at a time."""
    asked = held_out(len(embeddings), seed)
    remainder = embeddings.take(np.setdiff1d(np.arange(len(embeddings)), asked))
    bare = faiss.index_factory(remainder.vectors.shape[1], factory)
    bare.train(remainder.vectors)
    bare.add(remainder.vectors)
    queries = embeddings.vectors[asked]
    _, result = bare.search(queries, k, params=parameters(bare, setting))
    hits = 0
    for query, places in zip(queries.astype(np.float64), result.tolist(), strict=True):
        distances = ((remainder.vectors - query) ** 2).sum(axis=1)
        hits += len(set(np.argsort(distances, kind="stable")[:k].tolist()) & set(places))
    return hits / (k * len(asked))


def test_flat_is_exact(embeddings):
    index, card = built(embeddings, "Flat")
    assert (card.items, card.dimensions, card.held_out, index.ntotal) == (4000, 16, 400, 4000)
    assert (card.knob, card.setting, card.recall, len(card.curve)) == ("none", 0, 1.0, 1)
    rows = np.arange(0, 4000, 40)
    _, result = index.search(embeddings.vectors[rows], 10)
    np.testing.assert_array_equal(result, nearest_ids(embeddings, rows, 10))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_curve_is_what_brute_force_gives(embeddings, seed):
    _, card = built(embeddings, "IVF32,Flat", seed)
    assert [point.setting for point in card.curve][:3] == [1, 2, 4]
    for point in card.curve[:3]:
        for k in (1, 10, 100):
            want = recall_without(embeddings, "IVF32,Flat", point.setting, k, seed)
            assert point.recall(k) == pytest.approx(want, abs=3e-4)
    # Not exact, and not by chance the recall of another sample.
    assert 0.98 <= card.recall < 1


def test_the_curve_climbs_until_nothing_is_left_to_find(embeddings):
    _, card = built(embeddings, "IVF32,Flat")
    shares = [point.visited for point in card.curve]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 32, rel=0.7)
    assert card.curve[-1].recall_100 >= 0.9999


def test_the_first_setting_that_reaches_the_wished_recall_is_taken(embeddings):
    _, card = built(embeddings, "IVF32,Flat")
    before = [point for point in card.curve if point.setting < card.setting]
    assert before
    assert all(point.recall_10 < 0.98 for point in before)
    assert built(embeddings, "IVF32,Flat", recall=0.5)[1].setting < card.setting


def test_settings_by_k_and_wish():
    points = [
        RecallPoint(setting=s, recall_1=a, recall_10=b, recall_100=c, visited=None)
        for s, a, b, c in [(1, 0.9, 0.8, 0.5), (2, 0.99, 0.95, 0.8), (4, 0.99, 0.97, 0.96)]
    ]
    assert setting_for(points, 0.9, 1).setting == 1
    assert setting_for(points, 0.9, 2).setting == 2
    assert setting_for(points, 0.9, 11).setting == 4
    assert setting_for(points, 0.999, 10).setting == 4  # the best there is


def test_lists_are_found_behind_a_transform(embeddings):
    # A rotation in front of the lists must not hide them from the tuning.
    _, card = built(embeddings, "RR16,IVF32,Flat")
    assert card.knob == "nprobe"
    assert card.setting > 1
    assert card.recall >= 0.98


def test_a_graph_is_tuned_by_its_beam(embeddings):
    _, card = built(embeddings, "HNSW4", recall=0.9)
    assert card.knob == "efSearch"
    assert len(card.curve) > 1
    for point in card.curve[:2]:
        want = recall_without(embeddings, "HNSW4", point.setting, 10)
        assert point.recall_10 == pytest.approx(want, abs=0.02)  # threads add in another order


def test_low_recall_is_told(embeddings):
    _, card = built(embeddings, "PQ2x4")
    assert card.recall == pytest.approx(recall_without(embeddings, "PQ2x4", 0, 10), abs=3e-4)
    assert card.recall < 0.9


def test_equals_do_not_lower_the_recall(embeddings):
    pair = Embeddings(
        ids=np.arange(8000),
        label_codes=np.repeat(embeddings.label_codes, 2),
        vectors=np.repeat(embeddings.vectors, 2, axis=0),
    )
    batch = Embeddings(
        ids=np.arange(400),
        label_codes=np.zeros(400, np.int32),
        vectors=np.tile(embeddings.vectors[:2], (200, 1)),
    )
    assert built(pair, "Flat")[1].recall == 1
    assert built(batch, "Flat")[1].recall == 1


def test_fewer_items_than_can_be_spared():
    index, card = built(clusters(3), "Flat")
    assert (card.items, card.recall, card.held_out) == (3, 1.0, 3)
    assert index.ntotal == 3


def test_every_item_is_stored_once(embeddings):
    for factory in ("Flat", "IVF32,Flat"):
        index, _ = built(embeddings, factory)
        assert sorted(faiss.vector_to_array(index.id_map).tolist()) == embeddings.ids.tolist()


def test_the_card_survives_json(embeddings):
    _, card = built(embeddings, "IVF32,Flat")
    assert IndexCard.from_json({**card.to_json(), "bytes": 5, "checkpoint": "x"}) == card


def test_the_same_seed_gives_the_same_bytes(embeddings):
    first, repetition = (
        faiss.serialize_index(built(embeddings, "IVF32,Flat")[0]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, repetition)


def test_parameters_leave_the_index_alone(embeddings):
    index = inner_of(built(embeddings, "IVF32,Flat")[0])
    before = faiss.extract_index_ivf(index).nprobe
    index.search(embeddings.vectors[:2], 3, params=parameters(index, 7))
    assert faiss.extract_index_ivf(index).nprobe == before
    assert knob_of(index).settings == (1, 2, 4, 8, 16, 32)


def test_ids_survive_the_file(embeddings, tmp_path):
    index, _ = built(embeddings, "Flat")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    loaded = faiss.read_index(str(tmp_path / "index.faiss"))
    _, result = loaded.search(embeddings.vectors, 1)
    np.testing.assert_array_equal(result[:, 0], embeddings.ids)


def test_reads_embeddings_as_they_come_from_parquet(embeddings, tmp_path):
    # Arrow hands out arrays that may not be written to.
    path = tmp_path / "embeddings.parquet"
    table = schemas.embeddings_table(embeddings)
    schemas.write(table, path, schema="embeddings/1", provenance={})
    index, card = built(schemas.read_embeddings([path]), "Flat")
    assert card.recall == 1
    _, result = index.search(embeddings.vectors[:5], 1)
    assert result[:, 0].tolist() == embeddings.ids[:5].tolist()


@pytest.mark.parametrize("factory", ["Falt", "", "IVF,Flat", "IDMap,Flat"])
def test_an_unknown_factory_is_refused(embeddings, factory):
    with pytest.raises(InputError, match=r"index\.factory") as refusal:
        built(embeddings, factory)
    assert repr(factory) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_more_lists_than_vectors_are_refused(embeddings):
    with pytest.raises(InputError, match=r"index\.factory 'IVF4096,Flat'.* 4000") as refusal:
        built(embeddings, "IVF4096,Flat")
    assert "\n" not in str(refusal.value)


def test_what_is_checked_is_what_can_be_built():
    small = clusters(100)
    for lists in (90, 91):
        config = IndexConfig(factory=f"IVF{lists},Flat")
        if lists == 90:
            check_factory(config, 100, 16)
            build_index(small, config)
        else:
            with pytest.raises(InputError, match="needs 91 vectors or more beside the 10 that"):
                check_factory(config, 100, 16)
            with pytest.raises(InputError, match="does not fit 100 vectors"):
                build_index(small, config)


def test_auto_follows_the_policy(embeddings, monkeypatch):
    assert built(embeddings)[1].factory == "Flat"
    monkeypatch.setattr(remine.index.factory_choice, "FLAT_LIMIT", 3999)
    _, card = built(embeddings)
    assert card.factory == "IVF63,Flat"
    assert "4,000 items, above 3,999: 63 lists" in card.reason
