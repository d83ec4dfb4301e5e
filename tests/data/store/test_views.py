"""Views: a version's files under plain names."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.store.views import lay_out


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def parquet(store, number: int, values):
    with store.temporary(".parquet") as temp:
        pq.write_table(pa.table({"id": values}), temp)
        return store.put(temp, name=f"part-{number:05d}.parquet", rows=len(values))


@pytest.fixture
def publish(store):
    """Publishes a version of some Parquet shards."""

    def run(number: int, **shards: list[list[int]]) -> Version:
        artifacts = {
            name.replace("__", "/round="): Artifact(
                kind=name, files=tuple(parquet(store, *one) for one in enumerate(parts))
            )
            for name, parts in shards.items()
        }
        version = Version(
            number=number,
            parent=None,
            cycle=1,
            round=0,
            rounds=1,
            config={},
            artifacts=artifacts,
        )
        store.publish(version)
        return version

    return run


def test_links_resolve_to_the_objects(store, publish):
    version = publish(1, items=[[1, 2], [3]], triplets__0=[[4]])
    folder = lay_out(store, version)
    assert folder == store.root / "views" / "00000001"
    for name, artifact in version.artifacts.items():
        for file in artifact.files:
            link = folder / name / file.name
            assert link.is_symlink()
            assert link.resolve() == (store.root / file.object).resolve()
    assert not list((store.root / "tmp").iterdir())


def test_a_store_may_move(store, publish, tmp_path):
    lay_out(store, publish(1, triplets__0=[[4]]))
    changes = store.root.rename(tmp_path / "elsewhere")
    path = changes / "latest/triplets/round=0/part-00000.parquet"
    assert pq.read_table(path)["id"].to_pylist() == [4]


def test_latest_points_at_the_newest(store, publish):
    for number in (1, 2):
        lay_out(store, publish(number, items=[[number]]))
        latest = store.root / "latest"
        assert latest.is_symlink()
        assert latest.resolve() == store.root / "views" / f"{number:08d}"
        assert pd.read_parquet(latest / "items")["id"].tolist() == [number]
    # The older view stays, for those who read it.
    assert pd.read_parquet(store.root / "views/00000001/items")["id"].tolist() == [1]


def test_laying_out_again_changes_nothing(store, publish):
    version = publish(1, items=[[1]])
    first = lay_out(store, version)
    (first / "mine.txt").write_text("a note of somebody who reads here")
    before = sorted(first.rglob("*"))
    assert lay_out(store, version) == first
    assert sorted(first.rglob("*")) == before
    assert (store.root / "latest/items").is_dir()


def test_pandas_reads_a_folder_of_shards_and_of_rounds(store, publish):
    folder = lay_out(store, publish(1, items=[[1, 2], [3]], triplets__0=[[4]], triplets__1=[[5]]))
    assert pd.read_parquet(folder / "items")["id"].tolist() == [1, 2, 3]
    triplets = pd.read_parquet(folder / "triplets")
    assert triplets["id"].tolist() == [4, 5]
    assert triplets["round"].tolist() == [0, 1]  # from the folders' names


def test_pandas_reads_items_as_prepared(lay_down, table, labels):
    layout = lay_down(table(text=labels))
    version = Version(
        number=1,
        parent=None,
        cycle=1,
        round=0,
        rounds=0,
        config={},
        artifacts={"items": layout.items, "inputs": layout.inputs},
    )
    folder = lay_out(layout.store, version)
    frame = pd.read_parquet(folder / "items")  # passes over _labels.json
    assert frame["label"].tolist() == labels
    assert frame["id"].tolist() == list(range(24))
    assert json.loads((folder / "items/_labels.json").read_text()) == sorted(set(labels))
    assert (folder / "inputs/part-00001.npy").exists()
