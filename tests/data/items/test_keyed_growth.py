"""Data whose ids are texts, as they grow: an id keeps its number in any order of the rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.changes import EarlierItems, numbering_note
from remine.data.items.growth import ItemsUpdate
from remine.data.items.inputs import vector_transform
from remine.data.items.staging import staging_folder
from remine.data.sources.source import open_source

SIZE = 16
RNG = np.random.default_rng(0)
VECTORS = {f"sku/{i:02d}": vector for i, vector in enumerate(RNG.standard_normal((60, 3)))}


def grow(laid: Any, source: Path, base: Path) -> tuple[Any, ItemsUpdate]:
    """The next version of `laid`, of what `source` holds now, and the update to it."""
    config = DataConfig(source=str(source), unit_rows=SIZE)
    earlier = EarlierItems.read(laid.store, laid.items, laid.inputs)
    update = ItemsUpdate.of(open_source(config, base), config, earlier)
    with staging_folder(base / "store") as folder:
        staging = update.stage(laid.store, vector_transform, folder, SIZE, lambda *_: None)
        next_id = max(earlier.next_id, int(update.catalogue.ids[-1]) + 1)
        card = {**staging.items_card, "next_id": next_id}
        items, inputs = replace(staging, items_card=card).commit(laid.store)
    return type(laid)(store=laid.store, items=items, inputs=inputs), update


@pytest.fixture
def save(table):
    """Writes these items, their labels from their ids, as Parquet."""

    def write(keys: list[str], vectors: dict[str, np.ndarray] = VECTORS, **columns: Any) -> Path:
        labels = ["abcdefghijkl"[int(key[-2:]) // 2 % 12] for key in keys]
        columns = {"id": keys, **columns}
        return table(
            vector=[vectors[key].astype(np.float32) for key in keys], label=labels, **columns
        )

    return write


def numbers_of(laid: Any) -> dict[str, int]:
    catalogue = laid.catalogue
    return dict(zip(catalogue.keys.texts.to_pylist(), catalogue.ids.tolist(), strict=True))


def test_numbers_stay_as_the_data_grow_shrink_and_change_order(tmp_path, lay_down, save):
    keys = list(VECTORS)
    laid = lay_down(save(keys[:24]))
    numbers, largest = numbers_of(laid), 23
    assert numbers == {key: row for row, key in enumerate(keys[:24])}
    for step in range(6):
        # Classes keep two items each, so that there are pairs in every split.
        chosen = [key for key in keys[: 24 + 6 * step] if int(key[-2:]) < 24 or RNG.random() < 0.6]
        RNG.shuffle(chosen)
        changed = {**VECTORS, chosen[0]: -VECTORS[chosen[0]]}
        laid, update = grow(laid, save(chosen, changed), tmp_path)
        result = numbers_of(laid)
        common = result.keys() & numbers.keys()
        assert {key: result[key] for key in common} == {key: numbers[key] for key in common}
        new = sorted(result[key] for key in result.keys() - common)
        assert new == list(range(largest + 1, largest + 1 + len(new)))
        largest += len(new)
        assert update.comparison.change.new == len(new)
        assert update.comparison.change.deleted == len(numbers.keys() - common)
        order = [list(result)[row] for row in range(len(result))]
        np.testing.assert_array_equal(
            laid.contents, np.array([changed[key] for key in order], np.float32)
        )
        numbers = result


def test_a_deleted_id_that_returns_is_new_and_takes_no_other_number(tmp_path, lay_down, save):
    keys = list(VECTORS)
    laid = lay_down(save(keys[:26]))
    laid, _ = grow(laid, save(keys[:25]), tmp_path)
    assert keys[25] not in numbers_of(laid)
    laid, update = grow(laid, save([keys[30], *keys[:26]]), tmp_path)
    assert numbers_of(laid)[keys[30]] == 26
    assert numbers_of(laid)[keys[25]] == 27
    assert update.comparison.change.new == 2


def test_shards_without_a_change_are_the_same_files(tmp_path, lay_down, save):
    keys = list(VECTORS)
    laid = lay_down(save(keys[:32]))
    after, _ = grow(laid, save([keys[40], *keys[:32]]), tmp_path)
    assert after.items.files[:2] == laid.items.files[:2]
    assert after.inputs.files[:2] == laid.inputs.files
    assert [file.rows for file in after.inputs.files] == [16, 16, 1]


def test_ids_of_another_kind_are_new_items(tmp_path, lay_down, save):
    keys = list(VECTORS)[:24]
    integers = lay_down(save(keys, id=range(24)))
    texts, update = grow_all(integers, save(keys), tmp_path)
    assert numbering_note(texts, update.earlier) == (
        "id: integers before, texts now: all items count as new"
    )
    assert texts.ids.tolist() == list(range(24, 48))
    assert update.comparison.change.to_json() == {"new": 24, "changed": 0, "deleted": 24, "same": 0}


def test_integer_ids_after_texts_are_new_items(tmp_path, lay_down, save):
    keys = list(VECTORS)[:24]
    laid = lay_down(save(keys))
    for columns in ({"id": range(24)}, {"id": None}):
        after, update = grow_all(laid, save(keys, **columns), tmp_path)
        assert after.keys is None
        assert after.ids.tolist() == list(range(24))
        note = numbering_note(after, update.earlier)
        assert note == "id: texts before, integers now: all items count as new"
        assert update.comparison.change.new == 24


def grow_all(laid: Any, source: Path, base: Path) -> Any:
    """The catalogue and the update; nothing is reused, as a cycle decides."""
    config = DataConfig(source=str(source), unit_rows=SIZE)
    earlier = EarlierItems.read(laid.store, laid.items, laid.inputs)
    update = ItemsUpdate.of(open_source(config, base), config, earlier)
    assert not update.comparison.same_content.any()
    return update.catalogue, update


def test_texts_after_the_largest_integer_ids_are_refused(tmp_path, lay_down, save):
    keys = list(VECTORS)[:24]
    laid = lay_down(save(keys, id=[*range(23), 2**63 - 10]))
    with pytest.raises(InputError, match="24 texts cannot be numbered after them"):
        grow(laid, save(keys), tmp_path)


def test_reordered_rows_that_do_not_fit_into_memory_are_refused(
    tmp_path, lay_down, save, monkeypatch
):
    keys = list(VECTORS)[:24]
    laid = lay_down(save(keys))
    monkeypatch.setattr("remine.data.sources.table.SORT_LIMIT", 10)
    grow(laid, save(keys[:20] + keys[21:]), tmp_path)  # in the order of before
    with pytest.raises(InputError, match="rows changed places, and without ids that are integers"):
        grow(laid, save(keys[::-1]), tmp_path)


def test_ids_by_number_keep_missing_ones(lay_down, save):
    catalogue = lay_down(save(list(VECTORS)[:24])).catalogue
    assert catalogue.ids_of(pa.array([3, None, 0])).to_pylist() == ["sku/03", None, "sku/00"]
    assert catalogue.ids_at(np.array([1])).to_pylist() == ["sku/01"]
    assert catalogue.id_at(2) == "sku/02"
    assert catalogue.rows_of_ids(["sku/05", "sku/5"]).tolist() == [5, -1]
    with pytest.raises(InputError, match="no item 5 in the index: its ids are texts"):
        catalogue.rows_of_ids([5])
