"""`remine mine`, `remine plan`: mining on anyone's vectors, with no model and no cycle around."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import read_catalogue
from remine.data.sources.vectors import (
    parquet_files,
    read_id_pairs,
    read_label_column,
    read_vectors,
    vector_shape,
)
from remine.data.store.disk import sync
from remine.data.store.records import digest, file_sha256
from remine.data.store.store import Store, store_exists
from remine.data.types import SPLITS, Int64, Triplets
from remine.flows.api.mined_ids import MinedIds
from remine.flows.config.settings import Config
from remine.flows.jobs.console import Console
from remine.index.search import load_index
from remine.mining.arguments import make_problem
from remine.mining.engines.engine_choice import (
    PairForecast,
    choose_engine,
    expect,
    product_rate,
)
from remine.mining.engines.engines import check_index, prepare
from remine.mining.miner import PhaseTimer, mine_blocks, mining_card, peak_mb
from remine.mining.problem import Problem, by_pairs
from remine.mining.search.processor import accelerator, fast_half
from remine.mining.stats import MiningStats
from remine.mining.strategies.hub_cap import cap_hubs
from remine.mining.strategies.positive_duplicates import items_named
from remine.mining.strategies.positives import pair_counts, positives_limit


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the user names: vectors; labels beside an .npy; queries with positives; an index."""

    embeddings: Path
    labels: Path | None = None
    queries: Path | None = None
    positives: Path | None = None
    index: Path | None = None

    def __post_init__(self) -> None:
        if (self.queries is None) != (self.positives is None):
            raise InputError("--queries and --positives go together")
        if self.index and not self.index.is_file():
            raise InputError(
                f"{self.index} is a folder: name one file"
                if self.index.exists()
                else f"{self.index} does not exist"
            )


def mine_files(files: Files, out: Path, config: Config, console: Console) -> Path:
    """Mine and leave Parquet shards and _card.json in the new folder `out`."""
    if out.exists():
        raise InputError(f"{out} exists: name another folder or remove it")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}; name a folder that can be made") from None
    problem, ids = read_problem(files, config, console.say)
    index = load_index(files.index, problem.gallery.shape[1]) if files.index else None
    if files.index and index:
        with _named(files.index):
            check_index(index)
    note = _provenance(files, config)
    timer, seed = PhaseTimer(), config.run.seed
    with (
        console.stage("prepare", "vectors") as bar,
        timer("prepare"),
        items_named(lambda row: ids.gallery[row] if ids.gallery else row),
    ):
        setup, engine = prepare(problem, config.mining, seed, index)
        bar.update(len(problem.gallery), len(problem.gallery))
    with TemporaryDirectory(prefix=".remine-", dir=out.absolute().parent) as temp:
        folder = Path(temp) / "triplets"
        folder.mkdir()
        stats, total = MiningStats(), len(engine.problem)
        with console.stage("mine", "anchors") as bar:
            blocks = mine_blocks(engine, setup, config.mining, seed, timer)
            for block, triplets, block_stats in blocks:
                _write(triplets, folder / f"part-{block.start:012d}.parquet", note)
                stats += block_stats
                bar.update(block.stop, total)
        if config.mining.hub_cap:
            stats = _cap(folder, note, config, stats)
        ids.rewrite(folder)
        if line := stats.copies_line():
            console.say(line)
        card = mining_card(stats, setup, timer.rounded(), peak_mb())
        (folder / "_card.json").write_text(json.dumps(card, indent=1) + "\n")
        for path in folder.iterdir():
            sync(path)
        folder.rename(out)
    return out


def read_problem(
    files: Files, config: Config, say: Callable[[str], None]
) -> tuple[Problem, MinedIds]:
    """The problem that the files pose, checked, and the ids that are texts.

    say: Prints a line for the user.
    """
    gallery = read_vectors(files.embeddings, files.labels, needs_labels=files.queries is None)
    for line in gallery.notes:
        say(line)
    ids = MinedIds(anchors=gallery.keys, gallery=gallery.keys)
    if files.index and ids.gallery:
        raise InputError(f"{files.embeddings}: an --index answers with integers, its ids are texts")
    if files.queries and files.positives:
        queries = read_vectors(files.queries, needs_labels=False)
        ids = replace(ids, anchors=queries.keys)
        positives = read_id_pairs(
            files.positives, ("query", "positive"), (ids.anchors, ids.gallery)
        )
        if queries.vectors.shape[1] != gallery.vectors.shape[1]:
            raise InputError(
                f"{files.queries} has {queries.vectors.shape[1]} dimensions, {files.embeddings}"
                f" {gallery.vectors.shape[1]}"
            )
        order = np.argsort(gallery.ids, kind="stable")
        with _named(files.positives):
            problem = by_pairs(
                queries.vectors,
                queries.ids,
                gallery.vectors[order],
                gallery.ids[order],
                _grouped(positives),
            )
    else:
        with _named(files.labels or files.embeddings):
            problem = make_problem(gallery.vectors, gallery.labels, gallery.ids, None, None)
    if config.mining.same_as:
        path = config.base / config.mining.same_as
        if files.queries and ids.has_texts:
            raise InputError("mining.same_as pairs items, and anchors are queries: leave it out")
        pairs = read_id_pairs(path, ("a", "b"), (ids.gallery, ids.gallery))
        with _named(path):
            problem = problem.forbid(pairs)
    return problem, ids


def sizes_of(config: Config, embeddings: Path | None) -> tuple[int, int]:
    """How many training items there are, and their dimensions: of a file, or of the store."""
    if embeddings:
        return vector_shape(embeddings)
    version = Store(config.store).current() if store_exists(config.store) else None
    if version is None:
        raise InputError(
            f"{config.store} has no published version yet: give --embeddings, or --items and"
            " --dimensions"
        )
    first = Store(config.store).path(version.artifacts["embeddings"].files[0])
    n = version.artifacts["items"].card["splits"]["train"]["items"]
    return n, schemas.dimensions(first)


def count_pairs(config: Config, embeddings: Path | None) -> PairForecast | None:
    """The pairs to mine, counted from the labels of a file or of the store.

    None for a file without labels: .npy, or queries and their corpus.
    """
    if embeddings is None:
        store = Store(config.store)
        version = store.current() if store_exists(config.store) else None
        if version is None:
            return None
        catalogue = read_catalogue(store, version.artifacts["items"])
        labels = catalogue.label_codes[catalogue.splits == SPLITS.index("train")].tolist()
    else:
        file_labels = read_label_column(embeddings)
        if file_labels is None:
            return None
        labels = list(file_labels)
    with _named(embeddings or Path(config.store)):
        problem = make_problem(np.ones((len(labels), 1), np.float32), labels, None, None, None)
    sizes = np.maximum(problem.positives.sizes() - 1, 0)
    return PairForecast(
        pairs=int(pair_counts(problem, config.mining).sum()),
        classmates=int(sizes.sum()),
        largest=int(sizes.max(initial=0)),
    )


def plan_lines(n: int, d: int, config: Config, pairs: PairForecast | None = None) -> list[str]:
    """What mining would do and cost, in words."""
    choice, rate = choose_engine(n, d, config.mining), product_rate()
    cost = expect(n, n, d, config.mining, rate, pairs)
    mining, limit = config.mining, positives_limit(config.mining) or "all"
    count = ""
    if pairs:
        count = f"; at most {pairs.pairs:,} pairs, up to {pairs.largest:,} positives to select from"
    negatives = f"{mining.per_pair} negative(s) each of {', '.join(mining.negatives)}"
    half = "fast" if fast_half() else "not fast"
    size = f"{n:,} x {d}, {n * (4 * d + 12) / 2**30:.2f} GB"
    device = ", as without the GPU, which was never measured" if accelerator() else ""
    remark = " (in a cycle; `remine mine` holds all of it)" if choice.shards > 1 else ""
    lines = {
        "engine": f"{choice.engine}: {choice.reason}",
        "gallery": f"{size}, in {choice.shards} part(s){remark}",
        "pairs": f"{n:,} anchors with {mining.positives} positives (at most {limit}), {negatives}"
        + count,
        "machine": f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s in"
        f" float32, bfloat16 is {half}",
        "expected": f"{_duration(cost.seconds)}, {cost.memory_gb:.1f} GB of memory{device}",
    }
    return [f"{name:<10} {text}" for name, text in lines.items()]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Refusals inside name the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _grouped(pairs: Int64) -> dict[int, list[int]]:
    """Query to its positives."""
    found: dict[int, list[int]] = {}
    for query, positive in pairs.tolist():
        found.setdefault(query, []).append(positive)
    return found


def _provenance(files: Files, config: Config) -> dict[str, Any]:
    """What the shards say of where they come from: the hash of the vectors, the settings."""
    parts = parquet_files(files.embeddings)
    hashes = [file_sha256(part) for part in parts]
    names = [str(part.relative_to(files.embeddings)) for part in parts]
    return {
        "embeddings": digest([names, hashes]) if files.embeddings.is_dir() else hashes[0],
        "settings": {**asdict(config.mining), "seed": config.run.seed},
    }


def _write(triplets: Triplets, path: Path, note: Mapping[str, Any]) -> None:
    schemas.write(schemas.triplets_table(triplets), path, schema="triplets/1", provenance=note)


def _read(path: Path) -> Triplets:
    return schemas.triplets_from(schemas.read([path], schema="triplets/1"))


def _cap(folder: Path, note: Mapping[str, Any], config: Config, stats: MiningStats) -> MiningStats:
    """Rewrite the shards without the triplets over mining.hub_cap."""
    paths, remaining = sorted(folder.iterdir()), 0
    shards = cap_hubs(lambda: map(_read, paths), config.mining.hub_cap, config.run.seed)
    for path, triplets in zip(paths, shards, strict=True):
        _write(triplets, path, note)
        remaining += len(triplets)
    return stats.after_cap(remaining)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
