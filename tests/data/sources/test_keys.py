"""Ids that are texts: what a CSV's column of ids is, what is kept, and the search for them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remine.data.config import DataConfig
from remine.data.sources.keys import FEW, Keys
from remine.data.sources.source import open_source

TYPES = {
    "string": pa.string(),
    "large": pa.large_string(),
    "view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "binary": pa.binary(),
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "7", "12"], [0, 7, 12]),
        (["0", " 7", "12 "], [0, 7, 12]),
        (["-5", "0", str(2**63 - 1)], [-5, 0, 2**63 - 1]),
        (["7", "007"], "line 3 has '007'"),
        (["00", "1"], "line 2 has '00'"),
        (["-0", "1"], "line 2 has '-0'"),
        (["1", "1.0"], "line 3 has '1.0'"),
        (["1", "1e5"], "line 3 has '1e5'"),
        (["1", "٣"], "line 3 has '٣'"),
        (["5", str(2**63)], f"line 3 has '{2**63}'"),
        (["sku-1", "sku-2"], "line 2 has 'sku-1'"),
    ],
)
def test_ids_in_csv_are_numbers_only_if_nothing_is_lost(tmp_path, values, expected):
    path = tmp_path / "items.csv"
    path.write_text("".join(["id,label,text\n", *(f'"{v}",a,x\n' for v in values)]))
    source = open_source(DataConfig(source=str(path)), tmp_path)
    ids = source.metadata()["id"]
    if isinstance(expected, list):
        assert ids.to_pylist() == expected
        assert source.notes == []
    else:
        assert ids.to_pylist() == values
        assert source.notes == [f"id: read as texts, because {path}: {expected}"]


@pytest.mark.parametrize("kind", TYPES)
def test_text_ids_are_kept_as_written(lay_down, table, labels, kind):
    ids = [f"Sku {i % 7}/{i:02} é" for i in range(len(labels))]
    column = pa.array([i.encode() for i in ids] if kind == "binary" else ids)
    path = table(id=column.cast(TYPES[kind]), text=labels)
    result = lay_down(path)
    assert result.catalogue.keys.texts.to_pylist() == ids
    assert result.table["key"].to_pylist() == ids
    assert result.table["id"].to_pylist() == list(range(len(ids)))
    assert result.labels == labels
    assert result.items.card["keys"] is True


def test_integer_ids_have_no_column_of_keys(lay_down, table, labels):
    result = lay_down(table(id=range(len(labels)), text=labels))
    assert "key" not in result.table.column_names
    assert "keys" not in result.items.card
    assert result.catalogue.keys is None


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8")), unique=True, min_size=1),
    queries=st.lists(st.text(st.characters(codec="utf-8"))),
)
def test_rows_by_a_plain_loop(texts, queries):
    keys = Keys(pa.chunked_array([texts[:2], texts[2:]], pa.string()))
    everything = [*queries, *texts]
    expected = [texts.index(text) if text in texts else -1 for text in everything]
    assert [int(keys.rows([text])[0]) for text in everything] == expected
    many = everything * (FEW + 1)  # searched another way
    np.testing.assert_array_equal(keys.rows(many), expected * (FEW + 1))


def test_taken_by_rows():
    keys = Keys(pa.array(["b", "a", "c"]))
    assert keys.take(np.array([2, 0, 0])).to_pylist() == ["c", "b", "b"]
    assert keys.take(pa.array([1, None])).to_pylist() == ["a", None]
    assert keys[1] == "a"
