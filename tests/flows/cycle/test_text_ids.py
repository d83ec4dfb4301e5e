"""A cycle on data whose ids are texts, as the data grow, change order and get other ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import remine
from remine.data.errors import InputError
from remine.flows.api.source_check import check_source
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.cycle.refresh import change_since
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain

CONFIG = """
[run]
store = "store"
rounds = 1
[data]
source = "items.parquet"
unit_rows = 64
columns = { id = "sku" }
[encoder]
dimensions = 8
[train]
steps = 3
batch = 8
"""
N = 150
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((N, 6)).astype(np.float32)
LABELS = [f"c{number // 5:02}" for number in range(N)]
KEYS = [f"sku-{number:03}/é" for number in range(N)]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "remine.toml"
    path.write_text(CONFIG)
    return path


def save(config_file: Path, rows: Any, ids: Any = KEYS) -> None:
    table = {
        "sku": [ids[row] for row in rows],
        "label": [LABELS[row] for row in rows],
        "vector": [VECTORS[row].tolist() for row in rows],
    }
    pq.write_table(pa.table(table), config_file.parent / "items.parquet")


def cycle(config_file: Path, *overrides: str) -> Any:
    config = load_config(config_file, overrides)
    with prepared(config, run_plain, Console()) as (run, items, inputs):
        run_cycle(run, items, inputs)
    return remine.open(config_file.parent / config.store)


def vectors_of(version: Any) -> dict[str, np.ndarray]:
    embeddings = version.embeddings()
    return dict(zip(embeddings.ids.tolist(), embeddings.vectors, strict=True))


def test_embeddings_do_not_depend_on_the_kind_of_ids_or_the_order_of_rows(config_file):
    save(config_file, range(N), ids=range(N))
    cycle(config_file, 'run.store="integers"')
    save(config_file, RNG.permutation(N))
    cycle(config_file, 'run.store="texts"')
    stores = [config_file.parent / name for name in ("integers", "texts")]
    plain, keyed = (vectors_of(remine.open(store, version=1)) for store in stores)
    for number, key in enumerate(KEYS):
        np.testing.assert_allclose(keyed[key], plain[number], atol=1e-6)
    answers = [remine.open(store, version=1) for store in stores]
    expected = answers[0].search(id=range(20), k=3)["id"].to_pylist()
    assert answers[1].search(id=KEYS[:20], k=3)["id"].to_pylist() == [KEYS[i] for i in expected]


def test_items_keep_their_numbers_in_any_order_of_the_rows(config_file, capsys):
    save(config_file, range(N - 10))
    version = cycle(config_file)
    before = vectors_of(version)
    rows = [row for row in RNG.permutation(N) if row not in (3, 77)]
    save(config_file, rows)
    config = load_config(config_file)
    change = change_since(config, version.store, version.version)
    assert change.to_json() == {"new": 10, "changed": 0, "deleted": 2, "same": 138}
    with prepared(config, run_plain, Console()) as (run, items, _inputs):
        assert items.card["next_id"] == N
        shards = run.store.paths(items)[:-1]
        table = pa.concat_tables([pq.read_table(path) for path in shards])
    assert "items: 10 new, 0 changed, 2 deleted, 138 as before" in capsys.readouterr().err
    numbers = dict(zip(table["key"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert {k: n for k, n in numbers.items() if k in before} == {
        key: row for row, key in enumerate(KEYS[: N - 10]) if row not in (3, 77)
    }
    assert {numbers[key] for key in KEYS[N - 10 :]} == set(range(N - 10, N))


def test_other_kinds_of_ids_are_told(config_file, capsys):
    save(config_file, range(N), ids=range(N))
    cycle(config_file)
    capsys.readouterr()
    save(config_file, range(N))
    version = cycle(config_file)
    assert "id: integers before, texts now: all items count as new" in capsys.readouterr().err
    assert version.search(id=KEYS[3], k=1).num_rows == 1
    save(config_file, range(N), ids=range(N))
    version = cycle(config_file)
    assert "id: texts before, integers now: all items count as new" in capsys.readouterr().err
    assert version.search(id=3, k=1).num_rows == 1
    assert version.triplets()["anchor_id"].type == pa.int64()


def test_same_as_names_training_items_by_their_ids(config_file):
    save(config_file, range(N))
    pairs = config_file.parent / "pairs.csv"
    version = cycle(config_file)
    first = version.triplets().to_pylist()[0]
    anchor, negative = first["anchor_id"], first["negative_id"]
    pairs.write_text(f"a,b\n{anchor},{negative}\n")
    same_as = 'mining.same_as="pairs.csv"'
    after = cycle(config_file, same_as, 'run.store="other"')
    assert (anchor, negative) not in {
        (row["anchor_id"], row["negative_id"]) for row in after.triplets().to_pylist()
    }
    embeddings = version.embeddings()
    outsider = embeddings.ids[embeddings.splits == "test"][0]
    pairs.write_text(f"a,b\n{anchor},{outsider}\n")
    with pytest.raises(InputError, match=f"pairs.csv: '{outsider}' is no training item"):
        cycle(config_file, same_as, 'run.store="third"')


def test_check_says_what_ids_are(config_file):
    save(config_file, range(N))
    (line, *_) = check_source(load_config(config_file)).lines
    assert line.endswith("150 items of 30 classes, vector, ids are texts")


def test_a_refusal_of_mining_names_the_id_of_the_data(config_file, monkeypatch):
    monkeypatch.setattr("remine.mining.strategies.positive_duplicates.MAX_DEPTH", 8)
    save(config_file, range(N))
    with pytest.raises(InputError, match=r"but item 'sku-\d{3}/é' has 8 items or more"):
        cycle(config_file, "mining.positive_duplicate=4")
