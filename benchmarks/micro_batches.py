"""Frozen features at the speed of the machine: remine's passes beside every fixed batch size.

Photos: EfficientNet-Lite0 at 224 pixels. Texts: MiniLM on banking77, fixed batches in the order of
the file, padded to their longest text, and sorted by length as sentence-transformers does.

    python -m benchmarks.micro_batches --photos FOLDER --texts FILE.parquet
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.common import show
from remine.data.items.inputs import ImageTransform
from remine.index.embed import embed_rows
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.design import input_transform
from remine.train.encoders.efficientnet import load_efficientnet
from remine.train.encoders.pretrained.network import load_network

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BLOCK = 256
"""index.batch, the default."""
REPEATS = 3


def main() -> None:
    """Print items per CPU-second and the ratio to the best fixed size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of images")
    parser.add_argument("--texts", type=Path, help="a Parquet file with a column text")
    parser.add_argument("--rows", type=int, default=256, help="photos; 8 times as many texts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.photos:
        pixels = _pixels(options.photos, options.rows)
        _compare(f"{len(pixels)} photos, Lite0 at 224 px", load_efficientnet().eval(), pixels)
    if options.texts:
        import pyarrow.parquet as pq

        texts = pq.read_table(options.texts, columns=["text"])["text"].to_pylist()
        config = EncoderConfig(name="minilm")
        tokens = input_transform(config, "text", Path(), ImageTransform())(
            texts[: 8 * options.rows], str
        )
        network = load_network(config, "text", Path())
        title = f"{len(tokens)} texts, MiniLM"
        _compare(title, network, tokens, lambda rows: (rows != 0).sum(axis=1))


def _pixels(folder: Path, count: int) -> np.ndarray:
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png"))
    step = max(1, len(paths) // count)
    return ImageTransform(224, 3)(paths[::step][:count], str)


def _compare(
    title: str,
    network: nn.Module,
    inputs: np.ndarray,
    lengths: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Time remine's rule and each fixed size, taking turns; the best of the repeats counts."""
    order = np.argsort(lengths(inputs)) if lengths else np.arange(len(inputs))
    sides: dict[str, Callable[[], object]] = {
        "remine": lambda: embed_rows(network, inputs, range(len(inputs)), BLOCK)
    }
    for size in SIZES:
        kind = "sorted, " if lengths else ""
        sides[f"{kind}batches of {size}"] = lambda size=size: _fixed(network, inputs[order], size)  # type: ignore[misc]
    rates = dict.fromkeys(sides, 0.0)
    for _ in range(REPEATS):
        for name, work in sides.items():
            start = time.process_time()
            work()
            rates[name] = max(rates[name], len(inputs) / (time.process_time() - start))
    best = max(rate for name, rate in rates.items() if name != "remine")
    rows = [[name, f"{rate:.1f}", f"{rate / best:.2f}"] for name, rate in rates.items()]
    show(title, [["", "items a CPU-second", "of the best fixed size"], *rows])


def _fixed(network: nn.Module, inputs: np.ndarray, size: int) -> None:
    with torch.inference_mode():
        for start in range(0, len(inputs), size):
            network(torch.from_numpy(inputs[start : start + size]))


if __name__ == "__main__":
    main()
