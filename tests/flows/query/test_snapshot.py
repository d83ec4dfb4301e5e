"""A version opened for searches: filters, exclusions, and all kinds of queries."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from remine.data import schemas
from remine.data.errors import InputError, StoreError
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.data.types import SPLITS
from remine.flows.api.store_version import StoreVersion
from remine.flows.cli.commands.search import _asked
from remine.flows.query.questions import Question
from remine.flows.query.snapshot import Filter, SearchOptions, Snapshot
from remine.index.search_report import SearchReport


@pytest.fixture(scope="module")
def snapshot(cycle_store):
    store = Store(cycle_store)
    return Snapshot(store, store.current())


@pytest.fixture(scope="module")
def embeddings(snapshot):
    artifact = snapshot.version.artifacts["embeddings"]
    return schemas.read_embeddings(snapshot.store.paths(artifact))


@pytest.fixture(scope="module")
def pictures(glyphs):
    return pq.read_table(glyphs)["image"].to_pylist()


def hashes(snapshot):
    shards = snapshot.store.paths(snapshot.items)[:-1]
    return schemas.read(shards, schema="items/1")["content_hash"].to_pylist()


def by_loop(embeddings, row, k, keep):
    """The k nearest rows for which keep(row, rows so far) holds."""
    distances = ((embeddings.vectors.astype(np.float64) - embeddings.vectors[row]) ** 2).sum(axis=1)
    neighbours = []
    for candidate in np.argsort(distances, kind="stable").tolist():
        if len(neighbours) < k and keep(candidate, neighbours):
            neighbours.append(candidate)
    return neighbours


def same_up_to_equals(embeddings, row, answer, expected):
    """Whether two answers have the same distances: equally near items may be in any order."""
    distances = [
        ((embeddings.vectors[rows] - embeddings.vectors[row]) ** 2).sum(axis=1)
        for rows in (answer, expected)
    ]
    return len(answer) == len(expected) and np.allclose(*distances, atol=1e-5)


def search(snapshot, rows, **options):
    ids = snapshot.catalogue.ids[rows]
    return snapshot.search(snapshot.item_queries(ids), SearchOptions(**options))


def test_neighbours_of_items_without_themselves(snapshot, embeddings):
    rows = np.arange(0, 800, 90)
    answers = search(snapshot, rows, k=7)
    for row, answer in zip(rows, answers.rows, strict=True):
        expected = by_loop(embeddings, row, 7, lambda other, _, row=row: other != row)
        assert row not in answer
        assert same_up_to_equals(embeddings, row, answer, expected)


def test_itself_keeps_an_item_among_its_neighbours(snapshot):
    ids = snapshot.catalogue.ids[[4, 70]]
    answers = snapshot.search(snapshot.item_queries(ids, itself=True), SearchOptions(k=3))
    assert answers.distances[:, 0] == pytest.approx([0, 0], abs=1e-6)
    assert {4, 70} <= set(answers.rows.ravel().tolist())


def test_filters(snapshot, embeddings):
    catalogue = snapshot.catalogue
    label, group = catalogue.labels[catalogue.label_codes[100]], catalogue.groups[100].as_py()
    for item_filter, keep in [
        (Filter(splits=("test",)), lambda r: catalogue.splits[r] == SPLITS.index("test")),
        (Filter(splits=("test", "val")), lambda r: catalogue.splits[r] != 0),
        (Filter(labels=(label,)), lambda r: catalogue.label_codes[r] == catalogue.label_codes[100]),
        (Filter(groups=(group,)), lambda r: catalogue.groups[r].as_py() == group),
    ]:
        answers = search(snapshot, np.array([5, 100]), k=20, item_filter=item_filter)
        for row, answer in zip((5, 100), answers.rows, strict=True):
            expected = by_loop(embeddings, row, 20, lambda o, _, r=row, k=keep: o != r and k(o))
            assert same_up_to_equals(embeddings, row, answer[answer >= 0], expected)


def test_filters_are_combined(snapshot):
    catalogue = snapshot.catalogue
    row = int(np.flatnonzero(catalogue.splits == 2)[0])
    label = catalogue.labels[catalogue.label_codes[row]]
    assert not snapshot.filter_mask(Filter(labels=(label,), splits=("train",))).any()
    answers = search(
        snapshot, np.array([0]), k=3, item_filter=Filter(labels=(label,), splits=("train",))
    )
    assert answers.rows.tolist() == [[-1, -1, -1]]
    assert np.isinf(answers.distances).all()


@pytest.mark.parametrize(
    ("item_filter", "message"),
    [
        (Filter(labels=("none",)), "no label 'none'"),
        (Filter(splits=("dev",)), "no split 'dev'; known: train, val, test, unknown"),
        (Filter(groups=("g",)), "no group 'g' among the items"),
    ],
)
def test_unknown_names_in_filters_are_refused(snapshot, item_filter, message):
    with pytest.raises(InputError, match=message):
        snapshot.filter_mask(item_filter)


def test_distinct_leaves_out_duplicates(snapshot, embeddings):
    hash_list = hashes(snapshot)
    pair = [row for row, one in enumerate(hash_list) if hash_list.count(one) > 1]
    assert pair, "the glyphs hold exact duplicates"
    rows = np.array([pair[0], pair[-1], 3])
    answers = search(snapshot, rows, k=30, distinct=True)
    for row, answer in zip(rows, answers.rows, strict=True):
        contents = [hash_list[r] for r in [row, *answer]]
        assert len(set(contents)) == 31
        expected = by_loop(
            embeddings,
            row,
            30,
            lambda o, so_far, row=row: hash_list[o] not in {hash_list[r] for r in [row, *so_far]},
        )
        assert same_up_to_equals(embeddings, row, answer, expected)
    plain = search(snapshot, rows[:1], k=30)
    assert len({hash_list[r] for r in plain.rows[0]} | {hash_list[rows[0]]}) < 31


def test_a_picture_query_equals_its_item(snapshot, pictures, embeddings, tmp_path):
    (tmp_path / "q.png").write_bytes(pictures[9])
    queries = snapshot.picture_queries([pictures[5], tmp_path / "q.png"], str)
    np.testing.assert_allclose(queries.vectors, embeddings.vectors[[5, 9]], atol=1e-5)
    hash_list = hashes(snapshot)
    answers = snapshot.search(queries, SearchOptions(k=3, distinct=True))
    for row, answer in zip((5, 9), answers.rows, strict=True):
        assert hash_list[row] not in [hash_list[r] for r in answer]


def test_queries_of_another_content_are_refused(snapshot):
    with pytest.raises(InputError, match="the items are pictures, not texts"):
        snapshot.text_queries(["a"], lambda _row: "--text")


def test_an_index_of_another_checkpoint_is_refused(snapshot):
    import dataclasses

    version = snapshot.version
    stale = {**version.artifacts, "checkpoint": Artifact(kind="checkpoint", files=())}
    with pytest.raises(StoreError, match="of another checkpoint"):
        Snapshot(snapshot.store, dataclasses.replace(version, artifacts=stale))


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 10_000}, {"recall": 0.0}, {"recall": 1.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        SearchOptions(**options)


def test_python_and_the_command_line_say_which_recall_is_not_known(
    cycle_store, monkeypatch, capsys
):
    notice = "2 of 2 queries are unlike the items"
    monkeypatch.setattr(SearchReport, "notices", lambda _report: [notice])
    store = Store(cycle_store)
    with pytest.warns(UserWarning, match=notice):
        StoreVersion(store, store.current(), Path()).search(id=[1, 2], k=2)
    question = Question(item=1)
    options = SearchOptions(k=2)
    pairs = list(_asked(Snapshot(store, store.current()), question, options, None))
    assert len(pairs) == 1
    assert capsys.readouterr().err == f"  {notice}\n"
