"""Whether limits set on val keep the wished rate of false alarms on test and reject the unknown.

Some classes are marked as unknown as a whole, as a stand-in for items out of scope, which are
easier: a class is as near to the other classes as these are to each other. The texts are embedded
once; a cycle trains a head on these vectors, as a closed set (items of each class in train, val and
test) and with whole classes in each split.

    python -m benchmarks.unknown FILE.parquet --seeds 3

"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import show
from remine.data.items.inputs import ImageTransform
from remine.data.items.val_split import label_fractions
from remine.data.store.store import Store
from remine.data.types import Float32
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.index.embed import embed_rows
from remine.train.config import EncoderConfig
from remine.train.encoders.design import input_transform
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.pretrained.network import load_network

HELD_OUT, TEST, VAL = 0.2, 0.2, 0.2
"""Shares: of the classes that are unknown; of the items or classes in test and in val."""
NET = "from torch import nn\n\ndef build():\n    return nn.Identity()\n"


def main() -> None:
    """Print a row for each protocol, seed and version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="Parquet with the columns label and text")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.read_parquet(options.file, columns=["label", "text"])
    vectors = _embedded(table["text"].tolist(), EncoderConfig(name=options.encoder))
    rates = [f"{name} at {rate}, %" for rate in (1, 5, 10) for name in ("test", "unknown")]
    titles = ["protocol", "seed", "version", "val", "test", "unknown", "AUROC %"]
    rows: list[list[Any]] = [[*titles, *rates]]
    for protocol in ("closed set", "unseen classes"):
        for seed in range(options.seeds):
            data = table[["label"]].assign(
                split=_splits(table["label"], protocol, seed), vector=list(vectors)
            )
            for version, card in zip(("zero-shot", "trained"), _cards(data), strict=True):
                rows.append([protocol, seed, version, *_cells(card)])
            show(f"so far: rejected at false alarms of 1, 5 and 10 %, {options.encoder}", rows)


def _embedded(texts: list[str], config: EncoderConfig) -> Float32:
    inputs = input_transform(config, "text", Path(), ImageTransform())(texts, str)
    encoder = Encoder(load_network(config, "text", Path())).eval()
    return embed_rows(encoder, inputs, range(len(inputs)), 256)


def _splits(labels: pd.Series, protocol: str, seed: int) -> np.ndarray:
    """The split of each item: HELD_OUT of the classes unknown, the rest by item or by class."""
    names = sorted(set(labels))
    rank = label_fractions([f"{seed} {name}" for name in names])
    by_class = labels.map(dict(zip(names, rank, strict=True))).to_numpy()
    drawn = np.random.default_rng(seed).random(len(labels))
    place = drawn if protocol == "closed set" else (by_class - HELD_OUT) / (1 - HELD_OUT)
    splits = np.select([place < TEST, place < TEST + VAL], ["test", "val"], "train")
    return np.where(by_class < HELD_OUT, "unknown", splits)


def _cards(data: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The measurements of rejection before and after a round of training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.to_parquet(folder / "items.parquet")
        (folder / "identity.py").write_text(NET)
        config = load_config(
            {
                "run": {"store": str(folder / "store"), "rounds": 1},
                "data": {"source": str(folder / "items.parquet")},
                "encoder": {"name": "identity:build", "frozen": True, "head": "linear"},
                "train": {"batch": 96},
            }
        )
        with prepared(replace(config, base=folder), run_plain, Console(quiet=True)) as inputs:
            run_cycle(*inputs)
        newest = Store(config.store).current()
    assert newest is not None
    return [newest.artifacts[f"metrics/round={number}"].card["rejection"] for number in (0, 1)]


def _cells(card: Mapping[str, Any]) -> list[str]:
    counts = (card["limits"]["queries"], card["test"], card["unknown"])
    cells = [f"{count:,}" for count in counts] + [f"{100 * card['auroc']:.1f}"]
    for row in card["rates"]:
        cells += [f"{100 * row['false_alarms']:.1f}", f"{100 * row['rejected']:.1f}"]
    return cells


if __name__ == "__main__":
    main()
