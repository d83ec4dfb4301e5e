"""Label errors planted on purpose: how many `remine suspects` finds after a cycle, by who judges.

Five of a hundred labels are replaced by another class of the same split; then a cycle runs with the
defaults of `remine init --for text | images`, or of the demo for glyphs and drawn characters.

    python -m benchmarks.suspects --texts FILE.parquet --photos FOLDER --characters FILE.parquet

"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.common import show
from remine.data.config import DataConfig, GlyphConfig
from remine.data.items.val_split import label_fractions
from remine.data.sources.source import open_source
from remine.data.store.pins import served_version
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.label_judge import Wish
from remine.flows.query.snapshot import Snapshot
from remine.flows.query.suspects import REASONS, find_suspects
from remine.mining.suspects import SuspectConfig

SHARE, TEST, VAL = 0.05, 0.2, 0.1
GLYPHS, CHARACTERS = 250, 4_000
"""Classes of glyphs, and items of drawn characters."""
WISHES: tuple[Wish, ...] = ("start", "served", "auto")
FAST = {"learning_rate": 1e-3, "steps": 600, "schedule": "constant", "val_every": 0}
LAST = {"publish": "last", "patience": 0}
"""Settings of a cycle that learns by heart, and is served nevertheless."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Items with right labels, and the settings of a cycle on them."""

    name: str
    items: pa.Table
    settings: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """Print recall and precision by judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, help="Parquet with the columns label and text")
    parser.add_argument("--photos", type=Path, help="a folder of images by class")
    parser.add_argument("--characters", type=Path, help="Parquet with the columns label and image")
    parser.add_argument("--whole", action="store_true", help="also train a text network whole")
    options = parser.parse_args()
    torch.set_num_threads(1)
    titles = [f"{wish}: {name}, %" for wish in WISHES for name in ("found", "right")]
    rows: list[list[Any]] = [["", *titles, "judge", "seconds of the cycle"]]
    for case in _cases(options):
        rows.append([case.name, *_measured(case)])
        show("so far: errors among the training items", rows)


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    if options.texts:
        items = pq.read_table(options.texts, columns=["label", "text"])
        frozen = {"encoder": {"name": "minilm", "frozen": True}, "train": {"batch": 96}}
        yield Case(name="texts, frozen", items=items, settings=frozen)
        fast = {**frozen, "train": {"batch": 96, **FAST}, "run": LAST}
        yield Case(name="texts, frozen, by heart", items=items, settings=fast)
        if options.whole:
            network = {"encoder": {"name": "minilm"}, "train": {"batch": 96}}
            yield Case(name="texts, whole", items=items, settings=network)
    if options.photos:
        paths = sorted(path for path in options.photos.glob("*/*") if path.is_file())
        labels = [path.parent.name for path in paths]
        items = pa.table({"label": labels, "path": [str(path.absolute()) for path in paths]})
        lite = {"name": "efficientnet_lite0", "frozen": True}
        frozen = {"data": {"image_size": 224}, "encoder": lite, "train": {"batch": 96}}
        yield Case(name="photos, frozen", items=items, settings=frozen)
        fast = {**frozen, "train": {"batch": 96, **FAST}, "run": LAST}
        yield Case(name="photos, frozen, by heart", items=items, settings=fast)
    source = open_source(DataConfig(glyphs=GlyphConfig(characters=GLYPHS)), Path())
    pictures = [picture for block in source.blocks(4096) for picture in block]
    labels = source.metadata()["label"]
    glyphs = pa.table({"label": labels, "image": pa.array(pictures, pa.binary())})
    yield Case(name="glyphs, from scratch", items=glyphs)
    if options.characters:
        items = pq.read_table(options.characters, columns=["label", "image"]).slice(0, CHARACTERS)
        size = {"data": {"image_size": 28}}
        yield Case(name="characters, from scratch", items=items, settings=size)


def _measured(case: Case) -> list[str]:
    items, wrong = _planted(case.items)
    in_train = np.array(items["split"].to_pylist()) == "train"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(items, folder / "items.parquet")
        data = {**case.settings.get("data", {}), "source": str(folder / "items.parquet")}
        run = {**case.settings.get("run", {}), "store": str(folder / "store")}
        config = load_config({**case.settings, "data": data, "run": run})
        start = time.monotonic()
        with prepared(config, run_plain, Console(quiet=True)) as inputs:
            run_cycle(*inputs)
        seconds = time.monotonic() - start
        store = Store(config.store)
        version = served_version(store)
        assert version is not None
        snapshot = Snapshot(store, version)
        return [*_cells(snapshot, wrong, in_train), f"{seconds:.0f}"]


def _cells(snapshot: Snapshot, wrong: Mask, in_train: Mask) -> list[str]:
    """Recall and precision among the training items for each of WISHES, and who judged by itself.

    wrong, in_train: (n,) by id.
    """
    cells = []
    for wish in WISHES:
        report = find_suspects(snapshot, SuspectConfig(), lambda *_: None, wish)
        suspects = report.suspects[report.suspects["reason"] == REASONS[0]]
        mask = np.isin(np.arange(len(wrong)), suspects["id"]) & in_train
        cells += [
            f"{100 * (mask & wrong).sum() / (in_train & wrong).sum():.0f}",
            f"{100 * wrong[mask].mean():.0f}" if mask.any() else "",
        ]
    return [*cells, report.judge.line]


def _planted(items: pa.Table) -> tuple[pa.Table, Mask]:
    """Items with ids, splits by class, and wrong labels; and whether each label (n,) is wrong."""
    labels = np.array(items["label"].to_pylist(), object)
    names = sorted(set(labels))
    fractions = dict(zip(names, label_fractions(names), strict=True))
    place = np.array([fractions[label] for label in labels])
    splits = np.select([place < TEST, place < TEST + VAL], ["test", "val"], "train")
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < SHARE
    given = labels.copy()
    for split in ("train", "val", "test"):
        classes = sorted(set(labels[splits == split]))
        for row in np.flatnonzero(wrong & (splits == split)):
            given[row] = rng.choice([label for label in classes if label != labels[row]])
    table = items.set_column(items.column_names.index("label"), "label", pa.array(given.tolist()))
    table = table.append_column("id", pa.array(np.arange(len(labels))))
    return table.append_column("split", pa.array(splits.tolist())), wrong


if __name__ == "__main__":
    main()
