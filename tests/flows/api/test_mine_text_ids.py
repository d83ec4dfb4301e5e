"""`remine mine` on vectors whose ids are texts, against the same with integers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data import schemas
from remine.data.errors import InputError, StoreError
from remine.data.types import unit
from remine.flows.api.mine_file import Files, mine_files
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console

N = 120
RNG = np.random.default_rng(0)
VECTORS = unit(RNG.normal(size=(N, 6)).astype(np.float32))
LABELS = [f"c{c}" for c in RNG.integers(0, 12, N)]
KEYS = [f"doc/{number:03} é" for number in RNG.permutation(N)]


def save(path: Path, ids: Any, **columns: Any) -> Path:
    table = {"vector": VECTORS.tolist(), "label": LABELS, "id": ids, **columns}
    pq.write_table(pa.table({name: c for name, c in table.items() if c is not None}), path)
    return path


def run(out: Path, *overrides: str, **files: Path) -> pd.DataFrame:
    folder = mine_files(Files(**files), out, load_config(None, overrides), Console(quiet=True))
    return pd.read_parquet(folder)


def with_keys(frame: pd.DataFrame, anchors: list, gallery: list) -> pd.DataFrame:
    names = [name for name in frame if name.endswith("_id")]
    return frame.assign(
        **{n: [(anchors if n == "anchor_id" else gallery)[i] for i in frame[n]] for n in names}
    )


@pytest.mark.parametrize(
    "overrides", [(), ("mining.hub_cap=3", "mining.unit_anchors=50", "mining.second_negative=true")]
)
def test_labelled_vectors(tmp_path, overrides):
    plain = run(tmp_path / "a", *overrides, embeddings=save(tmp_path / "a.parquet", range(N)))
    keyed = run(tmp_path / "b", *overrides, embeddings=save(tmp_path / "b.parquet", KEYS))
    if "negative2_id" in plain:
        second = plain.pop("negative2_id"), keyed.pop("negative2_id")
        assert [None if pd.isna(i) else KEYS[int(i)] for i in second[0]] == second[1].tolist()
    pd.testing.assert_frame_equal(keyed, with_keys(plain, KEYS, KEYS), check_dtype=False)
    path = next((tmp_path / "b").glob("*.parquet"))
    assert schemas.check(path, schema="triplets/2")["settings"]["seed"] == 0
    with pytest.raises(StoreError, match="holds triplets/2, not triplets/1"):
        schemas.check(path, schema="triplets/1")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("kinds", ["both", "queries", "corpus"])
def test_queries_and_their_positives(tmp_path, suffix, kinds):
    queries = [f"q {number}" for number in range(20)] if kinds != "corpus" else list(range(20))
    corpus = KEYS if kinds != "queries" else list(range(N))
    pairs = [(number, int(RNG.integers(N))) for number in range(20) for _ in range(2)]

    def mined(name: str, query_ids: list, corpus_ids: list) -> pd.DataFrame:
        folder = tmp_path / name
        folder.mkdir()
        table = pa.table(
            {
                "query": [query_ids[q] for q, _ in pairs],
                "positive": [corpus_ids[p] for _, p in pairs],
            }
        )
        positives = folder / f"p.{suffix}"
        if suffix == "csv":
            table.to_pandas().to_csv(positives, index=False)
        else:
            pq.write_table(table, positives)
        return run(
            folder / "t",
            embeddings=save(folder / "c.parquet", corpus_ids, label=None),
            queries=save(folder / "q.parquet", query_ids, vector=VECTORS[:20].tolist(), label=None),
            positives=positives,
        )

    plain = mined("plain", list(range(20)), list(range(N)))
    keyed = mined("keyed", queries, corpus)
    pd.testing.assert_frame_equal(keyed, with_keys(plain, queries, corpus), check_dtype=False)


def test_pairs_that_are_no_negatives(tmp_path):
    path = save(tmp_path / "x.parquet", KEYS)
    first = run(tmp_path / "a", embeddings=path)
    anchor, negative = first.loc[0, ["anchor_id", "negative_id"]]
    (tmp_path / "pairs.csv").write_text(f"a,b\n{anchor},{negative}\n")
    same_as = f'mining.same_as="{tmp_path / "pairs.csv"}"'
    second = run(tmp_path / "b", same_as, embeddings=path)
    assert negative not in set(second.loc[second.anchor_id == anchor, "negative_id"])
    (tmp_path / "pairs.csv").write_text(f"a,b\n{anchor},nobody\n")
    with pytest.raises(InputError, match="line 2: b: no item 'nobody'"):
        run(tmp_path / "c", same_as, embeddings=path)


def test_files_that_do_not_fit_text_ids(tmp_path):
    path = save(tmp_path / "x.parquet", KEYS)
    index = tmp_path / "x.index"
    index.touch()
    with pytest.raises(InputError, match="--index answers with integers, its ids are texts"):
        run(tmp_path / "t", embeddings=path, index=index)
    pairs = tmp_path / "p.parquet"
    pq.write_table(pa.table({"query": [0], "positive": [0]}), pairs)
    queries = save(tmp_path / "q.parquet", range(N), label=None)
    with pytest.raises(InputError, match="row 0: positive is int64; the ids of these items are"):
        run(tmp_path / "t", embeddings=path, queries=queries, positives=pairs)
    pq.write_table(pa.table({"query": [0], "positive": KEYS[:1]}), pairs)
    with pytest.raises(InputError, match="same_as pairs items, and anchors are queries"):
        run(
            tmp_path / "t",
            "mining.same_as='x.csv'",
            embeddings=path,
            queries=queries,
            positives=pairs,
        )
