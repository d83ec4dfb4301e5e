"""Kinds of index by size: recall, time of one query, bytes; reasons for index/factory_choice.py."""

import argparse
import time
from math import isqrt

import numpy as np

from benchmarks.common import show
from benchmarks.vectors import clustered
from remine.data.faiss_library import faiss
from remine.data.types import Embeddings
from remine.index.build import build_index
from remine.index.config import IndexConfig
from remine.index.search_setting import inner_of, parameters

QUERIES = 300


def row(embeddings: Embeddings, factory: str) -> list[object]:
    """One index: its setting, recall@10, processor time of one query, bytes, seconds to build."""
    start = time.process_time()
    index, card = build_index(embeddings, IndexConfig(factory=factory))
    build_seconds = time.process_time() - start
    inner, timings = inner_of(index), []
    for query in embeddings.vectors[:: len(embeddings) // QUERIES]:
        start = time.process_time()
        inner.search(query[None], 10, params=parameters(inner, card.setting))
        timings.append(time.process_time() - start)
    setting = "" if card.knob == "none" else f"{card.knob} {card.setting}"
    size = faiss.serialize_index(index).nbytes / 1e6
    milliseconds = f"{np.median(timings) * 1e3:.2f}"
    return [
        factory,
        setting,
        f"{card.recall:.4f}",
        milliseconds,
        f"{size:.0f}",
        f"{build_seconds:.1f}",
    ]


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[50_000, 200_000, 400_000])
    faiss.omp_set_num_threads(1)
    for n in parser.parse_args().sizes:
        vectors, labels = clustered(n, 128, 0)
        embeddings = Embeddings(ids=np.arange(n), label_codes=labels, vectors=vectors)
        lists = f"IVF{isqrt(n)}"
        factories = ("Flat", "SQfp16", "SQ8", f"{lists},Flat", f"{lists},SQfp16", f"{lists},SQ8")
        head = ["factory", "setting", "recall@10", "ms a query", "MB", "CPU-s to build"]
        show(f"{n:,} x 128, one thread", [head, *(row(embeddings, f) for f in factories)])


if __name__ == "__main__":
    main()
