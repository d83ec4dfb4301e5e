"""Mined triplets through DuckDB, compared with plain loops over the same rows."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.query.triplet_export import export
from remine.flows.query.triplet_stats import (
    coarse_histograms,
    compare,
    histograms,
    role_counts,
    stats,
)
from remine.flows.query.triplets import Range, TripletQuery, TripletTable

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def triplets(cycle_store):
    store = Store(cycle_store)
    return TripletTable(store, store.current())


@pytest.fixture(scope="module")
def rows(triplets):
    """Both rounds as lists of dictionaries, with labels and margins."""
    catalogue = triplets.catalogue
    labels = {
        int(i): catalogue.labels[c]
        for i, c in zip(catalogue.ids, catalogue.label_codes, strict=True)
    }
    tables = []
    for number in (0, 1):
        paths = triplets.store.paths(triplets.artifacts[number])
        table = schemas.read(paths, schema="triplets/1").to_pylist()
        for row in table:
            for role in ("anchor", "positive", "negative"):
                row[f"{role}_label"] = labels[row[f"{role}_id"]]
        tables.append(table)
    return tables


def margin(row):
    return np.float32(row["d_an"]) - np.float32(row["d_ap"])


KEYS = ("anchor_id", "positive_id", "negative_id", "kind")


def keys(table):
    return [tuple(row[key] for key in KEYS) for row in table]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ({}, lambda _: True),
        ({"kinds": ("hard",)}, lambda r: r["kind"] == "hard"),
        ({"kinds": ("hard", "semi_hard")}, lambda _: True),
        ({"d_an": Range(high=0.03)}, lambda r: r["d_an"] <= 0.03),
        (
            {"d_ap": Range(low=0.02, high=0.03), "kinds": ("semi_hard",)},
            lambda r: 0.02 <= r["d_ap"] <= 0.03 and r["kind"] == "semi_hard",
        ),
        ({"margin": Range(low=0.01)}, lambda r: margin(r) >= 0.01),
        ({"negative_rank": Range(low=3, high=9)}, lambda r: 3 <= r["negative_rank"] <= 9),
        ({"anchor": 5}, lambda r: r["anchor_id"] == 5),
        ({"item": 5}, lambda r: 5 in (r["anchor_id"], r["positive_id"], r["negative_id"])),
        ({"label": "none"}, lambda _: False),
    ],
)
def test_filters_and_pages(triplets, rows, query, fits):
    expected = [row for row in rows[1] if fits(row)]
    assert triplets.count(TripletQuery(**query)) == len(expected)
    pages = []
    for offset in range(0, min(len(expected), 300), 100):
        pages += triplets.page(TripletQuery(**query, offset=offset, limit=100))
    assert pages == [{**row} for row in expected[: len(pages)]]
    assert len(pages) == min(len(expected), 300)


def test_filters_on_classes(triplets, rows):
    label, negative_label = rows[0][7]["anchor_label"], rows[0][7]["negative_label"]
    page = triplets.page(
        TripletQuery(round=0, label=label, negative_label=negative_label, limit=1000)
    )
    expected = [
        r for r in rows[0] if (r["anchor_label"], r["negative_label"]) == (label, negative_label)
    ]
    assert page == expected
    assert page


@pytest.mark.parametrize("sort", ["d_ap", "d_an", "margin", "negative_rank"])
@pytest.mark.parametrize("descending", [False, True])
def test_sorted_pages_join_without_gap_or_overlap(triplets, rows, sort, descending):
    query = {"round": 0, "sort": sort, "descending": descending, "kinds": ("hard",)}
    pages = []
    for offset in range(0, 4000, 997):
        pages += triplets.page(TripletQuery(**query, offset=offset, limit=997))
    expected = [row for row in rows[0] if row["kind"] == "hard"]
    assert sorted(keys(pages)) == sorted(keys(expected))
    values = [margin(r) if sort == "margin" else r[sort] for r in pages]
    assert values == sorted(values, reverse=descending)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"kinds": ("harder",)}, "no kind 'harder'; known: hard, semi_hard, easy"),
        ({"sort": "id"}, "no sorting by 'id'"),
        ({"limit": 10_001}, "10001 rows; it must be 0 to 10000"),
        ({"offset": -1}, "offset is -1"),
    ],
)
def test_queries_out_of_range_are_refused(query, message):
    with pytest.raises(InputError, match=message):
        TripletQuery(**query)


def test_values_are_never_sql(triplets):
    assert triplets.count(TripletQuery(label="'; DROP TABLE items; --")) == 0
    assert triplets.count(TripletQuery(label=triplets.catalogue.labels[0])) >= 0


def test_stats(triplets, rows):
    result = stats(triplets, 1, top=5)
    assert result["rows"] == len(rows[1])
    assert result["anchors"] == len({r["anchor_id"] for r in rows[1]})
    assert result["negatives"] == len({r["negative_id"] for r in rows[1]})
    for kind, values_of_kind in result["kinds"].items():
        of = [r for r in rows[1] if r["kind"] == kind]
        assert values_of_kind["rows"] == len(of)
        assert values_of_kind["share"] == pytest.approx(len(of) / len(rows[1]))
        for name in ("d_ap", "d_an", "margin", "negative_rank"):
            values = np.array([margin(r) if name == "margin" else r[name] for r in of], np.float64)
            assert values_of_kind[name]["mean"] == pytest.approx(values.mean(), abs=1e-6)
            assert values_of_kind[name]["min"] == pytest.approx(values.min(), abs=1e-6)
            assert values_of_kind[name]["max"] == pytest.approx(values.max(), abs=1e-6)
            if name != "negative_rank":
                middle = np.quantile(values, 0.5, method="inverted_cdf")
                assert values_of_kind[name]["p50"] == pytest.approx(middle, abs=5.1e-4)
    counts = Counter(r["negative_id"] for r in rows[1])
    top = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:5]
    assert [(hub["id"], hub["count"]) for hub in result["hubs"]] == top
    for hub in result["hubs"]:
        of = [r for r in rows[1] if r["negative_id"] == hub["id"]]
        assert hub["anchors"] == len({r["anchor_id"] for r in of})
        assert hub["label"] == of[0]["negative_label"]
    pairs = Counter((r["anchor_label"], r["negative_label"]) for r in rows[1])
    assert [c["count"] for c in result["confused"]] == [n for _, n in pairs.most_common(5)]
    for one in result["confused"]:
        assert pairs[one["label"], one["negative_label"]] == one["count"]


@pytest.mark.parametrize("bins", [7, 60])
def test_histograms_count_every_row(triplets, rows, bins):
    for name, histogram in histograms(triplets, 0, bins).items():
        edges = histogram["edges"]
        assert len(edges) == bins + 1
        for kind, counts in histogram["counts"].items():
            values = np.array(
                [margin(r) if name == "margin" else r[name] for r in rows[0] if r["kind"] == kind]
            )
            assert sum(counts) == len(values)
            # Bins are of whole thousandths; a value on an edge may fall to either side.
            heights = np.histogram(values, np.array(edges) - 1e-9)[0]
            assert np.abs(np.cumsum(counts) - np.cumsum(heights)).max() <= 2


def test_coarse_histograms_span_minimum_to_maximum(triplets, rows):
    for kind, (heights, edges) in coarse_histograms(triplets, 0, "negative_rank", 20).items():
        values = [r["negative_rank"] for r in rows[0] if r["kind"] == kind]
        if min(values) == max(values):
            assert heights == [len(values)] + [0] * 19
        else:
            assert (edges[0], edges[-1]) == (min(values), pytest.approx(max(values)))
            assert heights == np.histogram(values, 20)[0].tolist()


def test_compare(triplets, rows):
    result = compare(triplets, 0, 1)
    pairs = [{(r["anchor_id"], r["positive_id"]) for r in table} for table in rows]
    assert result["pairs"]["both"] == len(pairs[0] & pairs[1])
    assert (result["pairs"]["first"], result["pairs"]["second"]) == (len(pairs[0]), len(pairs[1]))
    before = {key[:3] for key in keys(rows[0])}
    for kind, values_of_kind in result["kinds"].items():
        of = [key for key in keys(rows[1]) if key[3] == kind]
        assert values_of_kind["second"] == len(of)
        assert values_of_kind["same_triplet"] == sum(key[:3] in before for key in of)
    mean = {}
    for table, name in zip(rows, ("first", "second"), strict=True):
        for row in table:
            key = (row["anchor_id"], row["positive_id"])
            mean.setdefault(key, {}).setdefault(name, []).append(row["d_ap"])
    changes = [np.mean(m["second"]) - np.mean(m["first"]) for m in mean.values() if len(m) == 2]
    assert result["pairs"]["d_ap_change"] == pytest.approx(np.mean(changes), abs=1e-6)


def test_role_counts(triplets, rows):
    for item in (5, rows[0][0]["negative_id"]):
        expected = {
            role: sum(r[f"{role}_id"] == item for r in rows[0])
            for role in ("anchor", "positive", "negative")
        }
        assert role_counts(triplets, 0, item) == expected


# Exports --------------------------------------------------------------------------------------


def test_plain_exports_hold_the_same_rows(triplets, rows, tmp_path):
    query = TripletQuery(round=0, kinds=("hard",))
    expected = [r for r in rows[0] if r["kind"] == "hard"]
    for suffix in ("parquet", "jsonl", "csv"):
        assert export(triplets, query, "plain", tmp_path / f"t.{suffix}") == len(expected)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == expected
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    with (tmp_path / "t.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [int(r["anchor_id"]) for r in read] == [r["anchor_id"] for r in expected]
    assert [r["negative_label"] for r in read] == [r["negative_label"] for r in expected]
    assert not list(tmp_path.glob(".*"))


def test_triplets_and_tuples_hold_the_pictures(triplets, rows, glyphs, tmp_path):
    pictures = pq.read_table(glyphs)["image"].to_pylist()
    export(triplets, TripletQuery(round=0), "triplet", tmp_path / "t.parquet")
    read = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert len(read) == len(rows[0])
    for place in range(0, len(read), 500):
        for role in ("anchor", "positive", "negative"):
            assert read[place][role]["bytes"] == pictures[rows[0][place][f"{role}_id"]]
    count = export(triplets, TripletQuery(round=0), "n-tuple", tmp_path / "n.parquet", negatives=2)
    by_pair = {}
    for row in rows[0]:
        pair = by_pair.setdefault((row["anchor_id"], row["positive_id"]), {})
        pair[row["negative_id"]] = row["d_an"]
    full = sorted(key for key, negatives in by_pair.items() if len(negatives) >= 2)
    assert count == len(full)
    read = pq.read_table(tmp_path / "n.parquet").to_pylist()
    assert list(read[0]) == ["anchor", "positive", "negative_1", "negative_2"]
    for place in range(0, count, 200):
        negatives = by_pair[full[place]]
        nearest = sorted(negatives, key=lambda i: (negatives[i], i))[:2]
        expected = [pictures[i] for i in (*full[place], *nearest)]
        assert [part["bytes"] for part in read[place].values()] == expected


def test_indices_are_positions_of_items(triplets, rows, tmp_path):
    query = TripletQuery(round=1, kinds=("semi_hard",))
    expected = [r for r in rows[1] if r["kind"] == "semi_hard"]
    for name in ("i.npy", "i.npz"):
        assert export(triplets, query, "indices", tmp_path / name) == len(expected)
    ids = triplets.catalogue.ids
    complete, parts = np.load(tmp_path / "i.npy"), np.load(tmp_path / "i.npz")
    for row, role in zip(complete, ("anchor", "positive", "negative"), strict=True):
        assert ids[row].tolist() == [r[f"{role}_id"] for r in expected]
        np.testing.assert_array_equal(parts[f"{role}s"], row)
    repetition = tmp_path / "again.npz"
    export(triplets, query, "indices", repetition)
    assert repetition.read_bytes() == (tmp_path / "i.npz").read_bytes()


@pytest.mark.parametrize(
    ("layout", "name", "message"),
    [
        ("pickle", "t.pkl", "no layout 'pickle'; known: plain, triplet, n-tuple, indices"),
        ("plain", "t.pkl", "the layout plain is written to .parquet or .csv or .jsonl"),
        ("indices", "t.csv", "the layout indices is written to .npz or .npy"),
        ("triplet", "t.csv", "pictures are written to .parquet"),
        ("plain", "none/t.csv", "none does not exist"),
    ],
)
def test_impossible_exports_are_refused(triplets, tmp_path, layout, name, message):
    with pytest.raises(InputError, match=message):
        export(triplets, TripletQuery(), layout, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_empty_export_writes_nothing(triplets, tmp_path):
    for layout, name in (("plain", "t.csv"), ("indices", "t.npy")):
        with pytest.raises(InputError, match="no triplet fits"):
            export(triplets, TripletQuery(label="none"), layout, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_example_reads_a_store_without_remine(cycle_store, tmp_path):
    script = ROOT / "examples" / "read_triplets.py"
    assert "from data" not in script.read_text()
    process = subprocess.run(
        [sys.executable, "-P", script, cycle_store],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "triplets are semi-hard" in process.stdout
