"""Columns of the user's that are kept: their types, and what is refused."""

import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.source import open_source

N = 6
COLUMNS = {
    "url": pa.array([f"a/{n}" for n in range(N)]).dictionary_encode(),
    "price": pa.array([1.5, float("nan"), None, 2.25, 0.1, 3.0], pa.float32()),
    "stock": pa.array([True, None, False, True, True, False]),
    "count": pa.array(range(N), pa.uint8()),
    "day": pa.array([dt.date(2024, 5, n + 1) for n in range(N)]),
    "cost": pa.array([decimal.Decimal("12.30")] * N),
}


def extras(path, *names):
    config = DataConfig(source=str(path), extra_columns=names)
    return open_source(config, path.parent).metadata().select(names)


def write(folder, **columns):
    labels = {"id": list(range(N)), "label": list("aabbcc"), "text": [f"t{n}" for n in range(N)]}
    pq.write_table(pa.table({**labels, **columns}), folder / "items.parquet")
    return folder / "items.parquet"


def test_columns_of_parquet_become_text_numbers_and_booleans(tmp_path):
    table = extras(write(tmp_path, **COLUMNS), *COLUMNS)
    assert [str(field.type) for field in table.schema] == [
        "string",
        "double",
        "bool",
        "int64",
        "string",
        "string",
    ]
    values = table.to_pydict()
    assert values["url"] == [f"a/{n}" for n in range(N)]
    assert values["price"][:4] == [1.5, None, None, 2.25]
    assert values["stock"] == [True, None, False, True, True, False]
    assert (values["day"][0], values["cost"][0]) == ("2024-05-01", "12.30")


@pytest.mark.parametrize(
    ("written", "values"),
    [
        (["1", "2", ""], [1, 2, None]),
        (["1.50", "-2", "3e2"], [1.5, -2.0, 300.0]),
        (["True", "false", ""], [True, False, None]),
        (["007", "1", "2"], ["007", "1", "2"]),
        (["1", "x", "2"], ["1", "x", "2"]),
        (["0.1234567890123456", "1", "2"], ["0.1234567890123456", "1", "2"]),
        (["12345678901234567890", "1", "2"], ["12345678901234567890", "1", "2"]),
        (["", "", ""], [None, None, None]),
    ],
)
def test_columns_of_csv_are_numbers_only_if_nothing_is_lost(tmp_path, written, values):
    path = tmp_path / "items.csv"
    rows = [
        f"{label},t{n},{value}" for n, (label, value) in enumerate(zip("abc", written, strict=True))
    ]
    path.write_text("label,text,x\n" + "\n".join(rows + rows) + "\n")
    assert extras(path, "x")["x"].to_pylist() == values * 2


def test_rows_follow_the_order_of_ids(tmp_path):
    path = write(tmp_path, id=[5, 4, 3, 2, 1, 0], url=[f"{n}" for n in range(N)])
    assert extras(path, "url")["url"].to_pylist() == ["5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("name", "column", "problem"),
    [
        ("nowhere", None, "which .* does not have; it has id, label, text"),
        ("label", None, "which is read as label already"),
        ("rank", range(N), "a name that results use"),
        ("other_x", range(N), "a name that results use"),
        ("tags", [["a"]] * N, "which is list<.*only texts, numbers and booleans"),
        ("raw", [b"a"] * N, "which is binary; only texts"),
        ("size", [{"w": 1}] * N, "which is struct"),
    ],
)
def test_columns_that_cannot_be_kept_are_refused(tmp_path, name, column, problem):
    path = write(tmp_path, **({name: pa.array(column)} if column else {}))
    with pytest.raises(InputError, match=f"data.extra_columns names {name!r}, {problem}"):
        extras(path, name)


def test_values_that_do_not_fit_name_their_row(tmp_path):
    path = write(tmp_path, big=pa.array([0, 1, 2**63, 3, 4, 5], pa.uint64()))
    with pytest.raises(InputError, match=r"row 2: big is not UTF-8, or beyond 2\^63"):
        extras(path, "big")
    with pytest.raises(InputError, match="names 'url', twice"):
        extras(write(tmp_path, url=["a"] * N), "url", "url")


def test_a_source_that_is_no_table_has_no_columns():
    config = DataConfig(source="glyphs", extra_columns=("url",))
    with pytest.raises(InputError, match=r"'url', but data\.source 'glyphs' is no table"):
        open_source(config, None)
