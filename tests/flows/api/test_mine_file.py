"""`remine mine` and `remine plan` on files of anyone's vectors."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import Triplets, unit
from remine.flows.api.mine_file import Files, count_pairs, mine_files, plan_lines, sizes_of
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.query.terminal import read_card
from remine.mining import mine
from remine.mining.engines.engine_choice import expect

N, D = 400, 8
RNG = np.random.default_rng(0)
VECTORS = unit(RNG.normal(size=(N, D)).astype(np.float32))
LABELS = [f"c{c}" for c in RNG.integers(0, 40, N)]
IDS = RNG.permutation(10 * N)[:N] - 5 * N  # in no order, some negative


def parquet(path: Path, **columns: Any) -> Path:
    table = {"vector": VECTORS.tolist(), "label": LABELS, "id": IDS, **columns}
    pq.write_table(pa.table({name: c for name, c in table.items() if c is not None}), path)
    return path


def mined(folder: Path) -> tuple[Triplets, dict]:
    paths = sorted(folder.glob("*.parquet"))
    triplets = schemas.triplets_from(schemas.read(paths, schema="triplets/1"))
    return triplets, json.loads((folder / "_card.json").read_text())


def run(files: Files, out: Path, *overrides: str) -> tuple[Triplets, dict]:
    return mined(mine_files(files, out, load_config(None, overrides), Console(quiet=True)))


def test_the_command_mines_a_parquet_file_as_the_function_does(remine, tmp_path, as_bytes):
    parquet(tmp_path / "x.parquet")
    options = ("--set", "mining.max_positives=3", "--set", "mining.unit_anchors=128")
    process = remine("mine", "--embeddings", "x.parquet", "--out", "t", *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    triplets, card = mined(tmp_path / "t")
    assert f"{len(triplets):,} triplets" in process.stdout
    assert len(list((tmp_path / "t").glob("*.parquet"))) == 4
    config = load_config(None, ["mining.max_positives=3"]).mining
    complete = mine(VECTORS, LABELS, ids=IDS, config=config)
    assert as_bytes(triplets) == as_bytes(complete.triplets)
    expected = complete.card()
    for key in ("triplets", "pairs", "answered", "none_exists", "not_found", "engine", "recall"):
        assert card[key] == expected[key]
    assert set(card["seconds"]) == {"prepare", "pairs", "search", "settle"}
    assert card["peak_mb"] > 0
    # Readers of folders pass over names that begin with an underscore.
    assert len(pd.read_parquet(tmp_path / "t")) == len(triplets)
    assert read_card(tmp_path / "t") == card
    (tmp_path / "t" / "_card.json").rename(tmp_path / "t" / "card.json")  # as version 0.1 wrote it
    assert read_card(tmp_path / "t") == card


def test_the_command_plans_a_file(remine, tmp_path):
    parquet(tmp_path / "x.parquet")
    process = remine("plan", "--embeddings", "x.parquet", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = dict(line.split(maxsplit=1) for line in process.stdout.splitlines())
    assert list(lines) == ["engine", "gallery", "pairs", "machine", "expected"]
    assert lines["engine"].startswith("exact: up to")
    assert lines["gallery"].startswith("400 x 8, 0.00 GB, in 1 part(s)")
    counts = Counter(LABELS)
    pairs = sum(size * min(8, size - 1) for size in counts.values())
    largest = max(counts.values()) - 1
    assert lines["pairs"].endswith(
        f"; at most {pairs:,} pairs, up to {largest} positives to select from"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [
                "mine",
                "--embeddings",
                "x.npy",
                "--labels",
                "l.txt",
                "--out",
                "t",
                "-s",
                "run.seed=-1",
            ],
            "run.seed is -1; it must be 0 to",
        ),
        (["plan", "--items", "5"], "--items and --dimensions go together"),
    ],
)
def test_bad_commands_are_one_line_and_leave_nothing(remine, tmp_path, arguments, message):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "l.txt").write_text("\n".join(LABELS))
    before = sorted(tmp_path.iterdir())
    process = remine(*arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", [".npy", ".txt"])
def test_an_npy_with_labels_beside_it(tmp_path, as_bytes, suffix):
    np.save(tmp_path / "x.npy", VECTORS.astype(np.float64) * 3)
    beside = tmp_path / f"labels{suffix}"
    if suffix == ".npy":
        np.save(beside, np.array(LABELS))
    else:
        beside.write_text("\n".join(LABELS) + "\n")
    triplets, _ = run(Files(embeddings=tmp_path / "x.npy", labels=beside), tmp_path / "t")
    repetition = mine(unit((VECTORS.astype(np.float64) * 3).astype(np.float32)), LABELS)
    assert as_bytes(triplets) == as_bytes(repetition.triplets)


def test_lists_of_labels(tmp_path, as_bytes):
    lists = [[f"a{i % 30}", f"b{i % 41}"] for i in range(N)]
    lists[5] = []
    path = parquet(tmp_path / "x.parquet", label=pa.array(lists, pa.list_(pa.string())))
    triplets, card = run(Files(embeddings=path), tmp_path / "t")
    assert as_bytes(triplets) == as_bytes(mine(VECTORS, lists, ids=IDS).triplets)
    assert card["singletons"] == 1


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_queries_and_their_positives_against_a_corpus(tmp_path, form):
    corpus = parquet(tmp_path / "corpus.parquet", label=None)
    queries = tmp_path / "queries.parquet"
    asked = unit(RNG.normal(size=(30, D)).astype(np.float32))
    pq.write_table(pa.table({"vector": asked.tolist(), "id": np.arange(30) * 7 - 50}), queries)
    answers = {q * 7 - 50: [int(i) for i in IDS[3 * q : 3 * q + 1 + q % 3]] for q in range(25)}
    rows = [(query, item) for query, custom in answers.items() for item in custom]
    positives = tmp_path / f"positives.{form}"
    if form == "csv":
        positives.write_text("query,positive\n" + "\n".join(f"{q},{p}" for q, p in rows))
    else:
        columns = np.array(rows[::-1]).T
        pq.write_table(pa.table({"query": columns[0], "positive": columns[1]}), positives)
    files = Files(embeddings=corpus, queries=queries, positives=positives)
    triplets, card = run(files, tmp_path / "t", 'mining.negatives=["hardest"]')
    assert (card["anchors"], card["singletons"], card["pairs"]) == (30, 5, len(rows))
    result = zip(triplets.anchor_id.tolist(), triplets.positive_id.tolist(), strict=True)
    assert sorted(result) == sorted(rows)
    distances = {
        (q * 7 - 50, int(item)): d
        for q in range(30)
        for item, d in zip(IDS, ((asked[q].astype(float) - VECTORS) ** 2).sum(axis=1), strict=True)
    }
    for query, negative, d_an in zip(
        triplets.anchor_id.tolist(), triplets.negative_id.tolist(), triplets.d_an, strict=True
    ):
        peers = [distances[query, int(i)] for i in IDS if int(i) not in answers[query]]
        assert negative not in answers[query]
        assert d_an == pytest.approx(min(peers), abs=1e-6)


def test_a_given_index_is_mined_through(tmp_path, as_set):
    path = parquet(tmp_path / "x.parquet")
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D))
    index.add_with_ids(VECTORS, IDS)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    files = Files(embeddings=path, index=tmp_path / "x.faiss")
    triplets, card = run(files, tmp_path / "t", "mining.max_positives=2")
    assert (card["engine"], card["reason"]) == ("faiss", "the index was given")
    assert card["recall"]["neighbours"] == 1
    config = load_config(None, ["mining.max_positives=2"]).mining
    complete = mine(VECTORS, LABELS, ids=IDS, config=config)
    assert as_set(triplets) == as_set(complete.triplets)


def sharded(folder: Path) -> Path:
    """The vectors in two Parquet files of a folder, beside a file that is no Parquet."""
    table = pq.read_table(parquet(folder.with_suffix(".parquet")))
    folder.mkdir()
    pq.write_table(table[:250], folder / "a.parquet")
    pq.write_table(table[250:], folder / "b.parquet")
    (folder / "_card.json").write_text("{}")
    return folder


def test_a_folder_of_vectors_is_read_as_one_file(tmp_path, as_bytes):
    folder = sharded(tmp_path / "x")
    triplets, _ = run(Files(embeddings=folder), tmp_path / "t")
    single, _ = run(Files(embeddings=tmp_path / "x.parquet"), tmp_path / "s")
    assert as_bytes(triplets) == as_bytes(single)
    config = load_config(None)
    assert sizes_of(config, folder) == (N, D)
    assert count_pairs(config, folder) == count_pairs(config, tmp_path / "x.parquet")
    note = schemas.check(next((tmp_path / "t").glob("*.parquet")), schema="triplets/1")
    assert len(note["embeddings"]) == 64


def test_files_of_a_folder_that_differ_are_refused(tmp_path):
    folder = sharded(tmp_path / "x")
    table = pq.read_table(folder / "b.parquet")
    pq.write_table(table.drop_columns(["id"]), folder / "b.parquet")
    with pytest.raises(InputError, match=r"x/b.parquet has no column 'id', but .*a.parquet has"):
        run(Files(embeddings=folder), tmp_path / "t")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty holds no Parquet file"):
        run(Files(embeddings=empty), tmp_path / "t")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("IDMap2,IVF4,Flat", "x.faiss: the index is not trained: train it"),
        ("IDMap2,Flat", "x.faiss: the index is empty: add the vectors"),
    ],
)
def test_an_index_that_cannot_answer_is_refused(tmp_path, factory, message):
    faiss.write_index(faiss.index_factory(D, factory), str(tmp_path / "x.faiss"))
    files = Files(embeddings=parquet(tmp_path / "x.parquet"), index=tmp_path / "x.faiss")
    with pytest.raises(InputError, match=message):
        run(files, tmp_path / "t")
    assert not (tmp_path / "t").exists()
    with pytest.raises(InputError, match="is a folder: name one file"):
        Files(embeddings=files.embeddings, index=tmp_path)


def test_the_refusal_names_the_recall_that_was_missed(tmp_path):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D))
    index.add_with_ids(VECTORS[:300], IDS[:300])
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    files = Files(embeddings=parquet(tmp_path / "x.parquet"), index=tmp_path / "x.faiss")
    with pytest.raises(InputError) as error:
        run(files, tmp_path / "t", "mining.recall_neighbours=0.5")
    message = str(error.value)
    assert message.startswith("mining.recall is 0.998, but the index finds 0.")
    assert "recall_neighbours" not in message
    assert "it holds 300 vectors, the gallery 400" in message
    with pytest.raises(InputError) as error:
        run(files, tmp_path / "t", "mining.recall=0.5")
    assert str(error.value).startswith("mining.recall_neighbours is 0.97, but the index finds 0.")


def test_numbers_beyond_float32_are_one_line(tmp_path):
    vectors = VECTORS.astype(np.float64)
    vectors[7, 0] = 1e300
    np.save(tmp_path / "x.npy", vectors)  # a warning would fail the test
    (tmp_path / "l.txt").write_text("\n".join(LABELS))
    with pytest.raises(InputError, match=r"x.npy: vector 7 has length inf"):
        run(Files(embeddings=tmp_path / "x.npy", labels=tmp_path / "l.txt"), tmp_path / "t")


@pytest.mark.parametrize("engine", ["exact", "approximate"])
def test_the_cap_holds_over_shards_and_does_not_depend_on_them(tmp_path, as_bytes, engine):
    path = parquet(tmp_path / "x.parquet")
    matches = ("mining.hub_cap=4", f"mining.engine={engine}")
    one, card = run(Files(embeddings=path), tmp_path / "one", *matches)
    batch, _ = run(Files(embeddings=path), tmp_path / "many", *matches, "mining.unit_anchors=64")
    assert np.unique(one.negative_id, return_counts=True)[1].max() == 4
    assert card["capped"] > 0
    assert card["triplets"] == len(one)
    assert as_bytes(one) == as_bytes(batch)


def rows_with(value: float) -> list:
    vectors = VECTORS.copy()
    vectors[7] = value
    return vectors.tolist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vector": [1.0] * N}, "vector is double; it must be lists of numbers"),
        ({"vector": [["a"]] * N}, "vector is list<element: string>; it must be lists of"),
        ({"vector": rows_with(np.nan)}, "vector 7 has length nan: it has no direction"),
        ({"vector": rows_with(0)}, "vector 7 has length 0: it has no direction"),
        ({"vector": [[1.0]] * 9 + [[1.0, 2.0]] * (N - 9)}, "row 9: the vector has 2 numbers"),
        ({"label": None}, "has no column 'label'"),
        ({"label": [None, *LABELS[1:]]}, "row 0: label is missing"),
        ({"label": [["a", None]] * N}, "the label of vector 0 is missing"),
        ({"label": [float("nan")] * N}, "the label of vector 0 is missing"),
        ({"label": [{"a": 1}] * N}, "labels are of types that do not sort: dict"),
        ({"id": [1] * N}, "row 1: id 1 is also that of row 0"),
        ({"id": ["a"] * N}, "row 1: id 'a' is also that of"),
        ({"id": ["a", "", *map(str, range(2, N))]}, "row 1: id is empty"),
        ({"id": [0.5] * N}, "id is double; it must be whole numbers"),
        ({"id": pa.array(range(2**63, 2**63 + N), pa.uint64())}, "id: Integer value 9223372036854"),
    ],
)
def test_bad_columns_are_one_line(tmp_path, columns, message):
    path = parquet(tmp_path / "x.parquet", **columns)
    with pytest.raises(InputError) as error:
        run(Files(embeddings=path), tmp_path / "t")
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(7, IDS[0]), (1000, IDS[0])], "positives name query 1000, which does not exist"),
        ([(7, IDS[0]), (8, 10**6)], "query 8: its positive 1000000 is not in the corpus"),
        ([(7, 0.5)], "line 2: positive is '0.5', not a whole number"),
        ([(7, IDS[0]), (8, "")], "line 3: positive is missing"),
        ([(7, IDS[0]), (8, 2**63)], f"line 3: positive {2**63} is not between 0 and 2^63 - 1"),
    ],
)
def test_bad_positives_name_their_file(tmp_path, rows, message):
    queries, positives = tmp_path / "queries.parquet", tmp_path / "positives.csv"
    pq.write_table(pa.table({"vector": VECTORS[:10].tolist(), "id": np.arange(10)}), queries)
    positives.write_text("query,positive\n" + "\n".join(f"{q},{p}" for q, p in rows))
    corpus = parquet(tmp_path / "corpus.parquet", label=None)
    with pytest.raises(InputError) as error:
        run(Files(embeddings=corpus, queries=queries, positives=positives), tmp_path / "t")
    assert str(error.value).startswith(f"{positives}: {message}")


def test_other_bad_files(tmp_path):
    path = parquet(tmp_path / "x.parquet")
    (tmp_path / "taken").touch()
    for out, message in (("taken", "exists: name another folder"), ("taken/t", "File exists")):
        with pytest.raises(InputError, match=message):
            run(Files(embeddings=path), tmp_path / out)
    with pytest.raises(InputError, match="--queries and --positives go together"):
        Files(embeddings=path, queries=path)
    with pytest.raises(InputError, match="is not a FAISS index"):
        run(Files(embeddings=path, index=path), tmp_path / "t")
    (tmp_path / "same.csv").write_text("a,b\n999999,1\n")
    with pytest.raises(InputError, match="one of the ids is not in the gallery"):
        run(Files(embeddings=path), tmp_path / "t", f"mining.same_as={tmp_path}/same.csv")
    small = tmp_path / "small.faiss"
    faiss.write_index(faiss.IndexIDMap2(faiss.IndexFlatL2(3)), str(small))
    with pytest.raises(InputError, match="holds vectors of 3 dimensions, not 8"):
        run(Files(embeddings=path, index=small), tmp_path / "t")


def test_labels_in_bytes_that_are_no_text(tmp_path):
    path = parquet(tmp_path / "x.parquet")
    table = pq.read_table(path)
    labels = pa.array([b"\xff"] * len(table), pa.binary()).cast(pa.string(), safe=False)
    place = table.schema.get_field_index("label")
    pq.write_table(table.set_column(place, "label", labels), path)
    with pytest.raises(InputError, match=r"x.parquet: .*UTF8"):
        run(Files(embeddings=path), tmp_path / "t")


def test_the_size_of_a_file_is_read_without_its_vectors(tmp_path):
    config = load_config(None, [f'run.store="{tmp_path / "none"}"'])
    assert sizes_of(config, parquet(tmp_path / "x.parquet")) == (N, D)
    np.save(tmp_path / "x.npy", VECTORS)
    assert sizes_of(config, tmp_path / "x.npy") == (N, D)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match=r"one.npy holds float64 \(3,\), not \(n, d\) numbers"):
        sizes_of(config, tmp_path / "one.npy")
    with pytest.raises(InputError, match="vector is double; it must be lists of numbers"):
        sizes_of(config, parquet(tmp_path / "y.parquet", vector=[1.0] * N))
    with pytest.raises(InputError, match="no published version yet"):
        sizes_of(config, None)


@pytest.mark.parametrize(
    ("labels", "limit", "pairs"),
    [
        (["a"] * 300 + ["b"] * 100, 0, 300 * 299 + 100 * 99),
        (["a"] * 300 + ["b"] * 100, 4, 400 * 4),
        ([["a", "b"]] * 3 + [["b"]] + [[]] * 396, 2, 8),
    ],
)
def test_a_plan_counts_the_pairs_that_are_mined(tmp_path, labels, limit, pairs):
    path = parquet(tmp_path / "x.parquet", label=labels)
    config = load_config(None, [f"mining.max_positives={limit}", "mining.margin=2.0"])
    assert count_pairs(config, path).pairs == pairs
    _, card = run(Files(embeddings=path), tmp_path / "t", f"mining.max_positives={limit}")
    assert card["pairs"] == pairs


def test_a_plan_of_popular_classes_says_so(tmp_path):
    config = load_config(None, ["mining.max_positives=0"])
    costs = []
    for number, labels in enumerate((LABELS, ["a"] * N)):
        path = parquet(tmp_path / f"{number}.parquet", label=labels)
        forecast = count_pairs(config, path)
        costs.append(expect(N, N, D, config.mining, 1e11, forecast).seconds)
    assert costs[1] > costs[0]
    assert count_pairs(config, parquet(tmp_path / "y.parquet", label=None)) is None
    np.save(tmp_path / "x.npy", VECTORS)
    assert count_pairs(config, tmp_path / "x.npy") is None


def test_a_plan_of_many_items_takes_lists():
    lines = dict(line.split(maxsplit=1) for line in plan_lines(10**6, 128, load_config(None)))
    assert lines["engine"].startswith("approximate: over")


def test_a_plan_says_parts_where_memory_is_short():
    config = load_config(None, ["mining.memory_gb=0.1"])
    lines = dict(line.split(maxsplit=1) for line in plan_lines(10**6, 128, config))
    assert lines["engine"].startswith("exact: ")
    assert "in 5 part(s)" in lines["gallery"]


def test_merged_spellings_of_labels_are_one_class_and_counted(tmp_path, as_bytes):
    console = Console(quiet=True, on_line=(said := []).append)
    config = load_config(None, ["mining.max_positives=3"])
    labels = [f" {label}" if row % 2 else label for row, label in enumerate(LABELS)]
    path = parquet(tmp_path / "x.parquet", label=labels)
    triplets, _ = mined(mine_files(Files(embeddings=path), tmp_path / "t", config, console))
    complete = mine(VECTORS, LABELS, ids=IDS, config=config.mining)
    assert as_bytes(triplets) == as_bytes(complete.triplets)
    merged = len(set(labels)) - len(set(LABELS))
    assert f"labels: {merged} spelling(s) differ from others in white space" in "\n".join(said)
