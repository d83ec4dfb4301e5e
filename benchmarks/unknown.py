"""Whether limits set on val keep the wished rate of false alarms on test and reject the unknown.

Some classes are marked as unknown as a whole, as a stand-in for items out of scope, which are
easier: they are as near to the known classes as these are to each other. A cycle runs on the rest,
as a closed set (items of each class in train, val and test) and with classes that are not trained
on.

    python -m benchmarks.unknown FILE.parquet --seeds 3

"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import show
from remine.data.items.val_split import label_fractions
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.rejection import rejection

HELD_OUT, TEST, VAL = 0.2, 0.2, 0.2
"""Shares: of the classes that are unknown; of the items or classes in test and in val."""
TITLES = ("protocol", "seed", "val", "test", "unknown", "AUROC %")


def main() -> None:
    """Print a row for each protocol and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="Parquet with the columns label and text")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.read_parquet(options.file, columns=["label", "text"])
    rates = [f"{name} at {rate}" for rate in ("1 %", "5 %", "10 %") for name in ("test", "unknown")]
    rows: list[list[Any]] = [[*TITLES, *(f"{name}, %" for name in rates)]]
    for protocol in ("closed set", "unseen classes"):
        for seed in range(options.seeds):
            data = table.assign(split=_splits(table["label"], protocol, seed))
            rows.append([protocol, seed, *_measured(data, options.encoder, options.rounds)])
    show(f"Rejected by limits for false alarms of 1, 5 and 10 %: {options.encoder}", rows)


def _splits(labels: pd.Series, protocol: str, seed: int) -> np.ndarray:
    """The split of each item: HELD_OUT of the classes unknown, the rest by item or by class."""
    names = sorted(set(labels))
    rank = label_fractions([f"{seed} {name}" for name in names])
    fractions = dict(zip(names, rank, strict=True))
    by_class = labels.map(fractions).to_numpy()
    drawn = np.random.default_rng(seed).random(len(labels))
    place = drawn if protocol == "closed set" else (by_class - HELD_OUT) / (1 - HELD_OUT)
    splits = np.select([place < TEST, place < TEST + VAL], ["test", "val"], "train")
    return np.where(by_class < HELD_OUT, "unknown", splits)


def _measured(data: pd.DataFrame, encoder: str, rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.to_parquet(folder / "items.parquet")
        config = load_config(
            {
                "run": {"store": str(folder / "store"), "rounds": rounds},
                "data": {"source": str(folder / "items.parquet")},
                "encoder": {"name": encoder, "frozen": True},
                "train": {"batch": 96},
            }
        )
        with prepared(config, run_plain, Console(quiet=True)) as inputs:
            run_cycle(*inputs)
        newest = Store(config.store).current()
    assert newest is not None
    card = rejection(newest)
    counts = (card["limits"]["queries"], card["test"], card["unknown"])
    cells = [f"{count:,}" for count in counts] + [f"{100 * card['auroc']:.1f}"]
    for row in card["rates"]:
        cells += [f"{100 * row['false_alarms']:.1f}", f"{100 * row['rejected']:.1f}"]
    return cells


if __name__ == "__main__":
    main()
