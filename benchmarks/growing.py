"""The cost of growing data, and how long an index may be updated; reasons for the thresholds.

First: items are added and removed; what prepare, embed and index then take, beside a run from
nothing. Second: an IVF whose items are replaced step by step, beside one built of the same items.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import show
from benchmarks.vectors import clustered
from remine.data.config import GlyphConfig
from remine.data.faiss_library import faiss
from remine.data.sources.glyphs import GlyphSource
from remine.data.store.records import Version
from remine.data.types import Embeddings
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.stages.embed import embed
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.index import build
from remine.flows.stages.reuse import EarlierOutput
from remine.index.build import build_index
from remine.index.config import IndexConfig
from remine.index.recall import exact_neighbours, recalls, visited_share
from remine.index.search_setting import inner_of
from remine.index.update import differences, update_index

SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


def pictures(n: int) -> pa.Table:
    """N glyphs, jittered, with ids in steps of two so that others fit between."""
    source = GlyphSource(GlyphConfig(variants=-(-n // 30_000), jitter=0.3))
    blocks = (p for block in source.blocks(4096) for p in block)
    images = [p for p, _ in zip(blocks, range(n), strict=False)]
    table = source.metadata().slice(0, n).set_column(0, "id", pa.array(2 * np.arange(n)))
    return table.append_column("image", pa.array(images))


def run_stages(
    folder: Path, name: str, base: Version | None = None
) -> tuple[dict[str, float], Version]:
    """Seconds of the stages on the items in `folder`, and the version that they published."""
    source = f'data.source="{folder / "items.parquet"}"'
    config = load_config(None, [f'run.store="{folder / name}"', source, "encoder.dimensions=128"])
    start = time.perf_counter()
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        timings = {"prepare": time.perf_counter() - start}
        checkpoint = first_checkpoint(run, items, inputs)
        start = time.perf_counter()
        vectors = embed(
            run, checkpoint, items, inputs, EarlierOutput.of(base.artifacts) if base else None
        )
        timings["embed"] = time.perf_counter() - start
        start = time.perf_counter()
        index = build(run, vectors, base)
        timings["index"] = time.perf_counter() - start
        version = Version(
            number=base.number + 1 if base else 1,
            parent=base.digest if base else None,
            cycle=1,
            round=0,
            rounds=0,
            config=config.to_json(),
            artifacts={
                "items": items,
                "inputs": inputs,
                "checkpoint": checkpoint,
                "embeddings": vectors,
                "index": index,
            },
        )
        run.store.publish(version)
    return timings, version


def costs(n: int) -> None:
    """One per cent more items: behind the others, and between them."""
    table = pictures(n + n // 100)
    rows = [["", "prepare s", "embed s", "index s", "embed + index, of anew"]]
    spread = np.random.default_rng(0).choice(n, n // 100, replace=False)
    ways = {
        "1 % more, behind": (np.arange(n), np.arange(len(table))),
        "1 % more, between": (np.setdiff1d(np.arange(len(table)), spread), np.arange(len(table))),
    }
    idle: dict[str, float] = {}
    for name, (first_rows, last_rows) in ways.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            pq.write_table(table.take(first_rows), folder / "items.parquet")
            _, base = run_stages(folder, "grown")
            pq.write_table(table.take(last_rows), folder / "items.parquet")
            fresh_timings, _ = run_stages(folder, "anew")
            grown_timings, last = run_stages(folder, "grown", base)
            idle |= idle_commands(folder, last)
        total = [t["embed"] + t["index"] for t in (fresh_timings, grown_timings)]
        for row_name, timings in (
            (f"{name}: anew", fresh_timings),
            (f"{name}: grown", grown_timings),
        ):
            rows.append(
                [row_name, *(f"{timings[s]:.2f}" for s in ("prepare", "embed", "index")), ""]
            )
        rows[-1][-1] = f"{total[1] / total[0]:.1%}"
    show(f"Growing {n:,} pictures of 32 x 32, d = 128", rows)
    idle_rows = [[f"remine {name}", f"{timings:.2f}"] for name, timings in idle.items()]
    show("On that store, nothing changed: seconds of the whole command", [["", "s"], *idle_rows])


def idle_commands(folder: Path, version: Version) -> dict[str, float]:
    """Seconds of the commands that find nothing to do, as a user starts them."""
    (folder / "remine.toml").write_text(
        '[run]\nstore = "grown"\n[data]\nsource = "items.parquet"\n[encoder]\ndimensions = 128\n'
    )
    page = folder / "grown" / "views" / f"{version.number:08d}" / "report.html"
    page.parent.mkdir(parents=True)
    page.touch()
    timings = {}
    for command in ("run --if-needed", "status"):
        start = time.perf_counter()
        remine = [sys.executable, "-m", "remine", *command.split()]
        process = subprocess.run(remine, cwd=folder, capture_output=True, text=True, check=True)
        timings[command] = time.perf_counter() - start
        if "nothing" not in process.stdout:
            raise SystemExit(f"{command} found something to do:\n{process.stdout}")
    return timings


def following(n: int, d: int = 128) -> None:
    """An IVF whose items are replaced: by similar ones, and by ones of another distribution."""
    rows = [["replaced", "by", "recall@10", "visited", "anew", "visited", "CPU-s", "anew"]]
    vectors, _ = clustered(2 * n, d, 0)
    strangers, _ = clustered(n, d, 1)
    sources = {"their like": vectors[n:], "strangers": strangers}
    config = IndexConfig(factory=f"IVF{isqrt(n)},Flat")
    codes = np.zeros(n, np.int32)
    before = Embeddings(ids=np.arange(n), label_codes=codes, vectors=vectors[:n])
    first_index, card = build_index(before, config)
    index_bytes = faiss.serialize_index(first_index)
    for name, replacements in sources.items():
        for share in SHARES:
            index = faiss.deserialize_index(index_bytes)
            now = vectors[:n].copy()
            replaced_rows = np.random.default_rng(2).choice(n, int(share * n), replace=False)
            now[replaced_rows] = replacements[replaced_rows]
            after = Embeddings(ids=before.ids, label_codes=codes, vectors=now)
            start = time.process_time()
            update_index(index, card, after, *differences([before], after))
            update_seconds = time.process_time() - start
            start = time.process_time()
            anew, _ = build_index(after, config)
            build_seconds = time.process_time() - start
            points = [recall_and_visits(one, after, card.setting) for one in (index, anew)]
            cells = [text for pair in points for text in (f"{pair[0]:.4f}", f"{pair[1]:.2%}")]
            rows.append(
                [f"{share:.0%}", name, *cells, f"{update_seconds:.1f}", f"{build_seconds:.1f}"]
            )
    show(f"IVF{isqrt(n)},Flat over {n:,} x {d} that follows its items, at the first setting", rows)


def recall_and_visits(index: faiss.Index, items: Embeddings, setting: int) -> tuple[float, float]:
    """Recall@10 with items as queries, and the share of the vectors that they visit."""
    ids = faiss.vector_to_array(index.id_map)
    queries = np.ascontiguousarray(items.vectors[:: len(items) // 500])
    inner = inner_of(index)
    truth = exact_neighbours(queries, np.ascontiguousarray(items.vectors[ids]))
    _, rows = inner.search(queries, 100, params=faiss.SearchParametersIVF(nprobe=setting))
    return recalls(truth, rows)[1], visited_share(inner, queries, setting) or 0.0


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--lists", type=int, default=50_000)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    if arguments.items:
        costs(arguments.items)
    if arguments.lists:
        following(arguments.lists)


if __name__ == "__main__":
    main()
