"""Training beside sentence-transformers' trainer (texts) and a hand-written loop (photos).

The same networks, the same triplets in the same batches, the same loss, AdamW on both sides, one
thread, CPU-seconds. Texts are tokenised inside both sides' time. Rounds are neither measured nor
validated, as the other sides are not. Needs the extra `bench` for texts.

    python -m benchmarks.training --photos FOLDER --texts FILE.parquet
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import show
from remine.data.items.inputs import ImageTransform, Inputs
from remine.data.types import Int64
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.design import input_transform
from remine.train.encoders.efficientnet import load_efficientnet
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.pretrained.network import load_network
from remine.train.encoders.weights_packages import package_folder
from remine.train.loop import Training
from remine.train.optimization.groups import make_optimizer
from remine.train.optimization.memory import Forecast, forecast
from remine.train.optimization.modes import set_training

CPU = torch.device("cpu")
TEXTS, PHOTOS, MARGIN, REPEATS = 512, 128, 0.2, 3
TEXT_BATCHES, PHOTO_BATCHES = (16, 96), (8, 24)
"""Triplets a step. The loop keeps 80 MB of a photo, 2 and 6 GB of these batches."""
RATE, DECAY, CLIP = 2e-5, 0.01, 1.0
MINILM = EncoderConfig(name="minilm")


@dataclass(frozen=True, kw_only=True)
class Fixed(TripletLoader):
    """Batches of given triplets (3, t), in order."""

    triplets: Int64

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """Yield (3, batch) rows."""
        for first in range(start * self.batch, self.triplets.shape[1], self.batch):
            yield self.triplets[:, first : first + self.batch]


def main() -> None:
    """Print CPU-seconds a step and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of images")
    parser.add_argument("--texts", type=Path, help="a Parquet file with a column text")
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for batch in TEXT_BATCHES if options.texts else ():
        triplets = rng.integers(0, TEXTS, (3, batch * options.steps))
        title = f"MiniLM, {batch} triplets of texts a step"
        _compare(title, triplets, batch, _text_trainers(options.texts))
    for batch in PHOTO_BATCHES if options.photos else ():
        triplets = rng.integers(0, PHOTOS, (3, batch * max(2, options.steps // 4)))
        title = f"EfficientNet-Lite0 at 224 px, {batch} triplets of photos a step"
        _compare(title, triplets, batch, _photo_trainers(options.photos))


Work = Callable[[], object]
Trainer = Callable[[Int64, int, Path], Work]
"""From triplets (3, t), triplets a step and a folder to the training."""


def _compare(title: str, triplets: Int64, batch: int, trainers: dict[str, Trainer]) -> None:
    timings: dict[str, list[float]] = {name: [] for name in trainers}
    for turn in range(REPEATS + 1):
        for name, trainer in trainers.items():
            with tempfile.TemporaryDirectory() as folder:
                work = trainer(triplets, batch, Path(folder))
                start = time.process_time()
                work()
                if turn:  # the first one warms up: kernels are compiled, memory is asked for
                    timings[name].append(time.process_time() - start)
    steps = triplets.shape[1] // batch
    medians = {name: statistics.median(values) / steps for name, values in timings.items()}
    ours = medians["remine"]
    rows = [[name, f"{value:.2f}", f"{value / ours:.2f}"] for name, value in medians.items()]
    show(title, [["", "CPU-seconds a step", "remine's throughput, as a ratio"], *rows])


def _text_trainers(path: Path) -> dict[str, Trainer]:
    import pyarrow.parquet as pq

    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()[:TEXTS]

    def ours(triplets: Int64, batch: int, folder: Path) -> Work:
        encoder = Encoder(load_network(MINILM, "text", Path()))

        def work() -> None:
            tokens = input_transform(MINILM, "text", Path(), ImageTransform())(texts, str)
            _train(encoder, tokens, triplets, batch, folder)

        return work

    def theirs(triplets: Int64, batch: int, folder: Path) -> Work:
        return _sentence_trainer(texts, triplets, batch, folder).train

    return {"remine": ours, "sentence-transformers' trainer": theirs}


def _sentence_trainer(texts: list[str], triplets: Int64, batch: int, folder: Path) -> Any:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss
    from torch.utils.data import BatchSampler, SequentialSampler

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, *_: Any, **__: Any) -> Any:
            return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

    model = SentenceTransformer(str(package_folder("minilm")), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        max_steps=triplets.shape[1] // batch,
        learning_rate=RATE,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    roles = ("anchor", "positive", "negative")
    columns = {role: [texts[i] for i in row] for role, row in zip(roles, triplets, strict=True)}
    # Of unit vectors a margin of cosines is half of one of squared distances.
    loss = TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=MARGIN / 2)
    return InOrder(model=model, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss)


def _photo_trainers(folder_of_photos: Path) -> dict[str, Trainer]:
    paths = sorted(p for p in folder_of_photos.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png"))
    pixels = ImageTransform(224, 3)(paths[:: len(paths) // PHOTOS][:PHOTOS], str)

    def ours(triplets: Int64, batch: int, folder: Path) -> Work:
        encoder = Encoder(load_efficientnet())
        return lambda: _train(encoder, pixels, triplets, batch, folder)

    def theirs(triplets: Int64, batch: int, _folder: Path) -> Work:
        network = load_efficientnet().eval()  # it keeps its batch statistics, as remine's does
        return lambda: _loop(network, pixels, triplets, batch)

    return {"remine": ours, "hand-written loop": theirs}


def _loop(network: torch.nn.Module, pixels: np.ndarray, triplets: Int64, batch: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for start in range(0, triplets.shape[1], batch):
        rows = triplets[:, start : start + batch]
        vectors = functional.normalize(network(torch.from_numpy(pixels[rows.reshape(-1)])))
        a, p, n = vectors.reshape(3, batch, -1)
        loss = functional.relu((a - p).square().sum(1) - (a - n).square().sum(1) + MARGIN).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()


def _train(
    encoder: Encoder, inputs: np.ndarray, triplets: Int64, batch: int, folder: Path
) -> Forecast:
    """A round of remine's loop with the settings of a whole pretrained network."""
    np.save(folder / "inputs.npy", inputs)
    rows, steps = Inputs([folder / "inputs.npy"]), triplets.shape[1] // batch
    config = TrainConfig(
        batch=batch,
        steps=steps,
        learning_rate=RATE,
        schedule="linear",
        weight_decay=DECAY,
        clip_norm=CLIP,
        batch_statistics="kept",
        margin=MARGIN,
        save_every=steps,
    )
    set_training(encoder, keeps_statistics=True, holds_backbone=False)
    memory = forecast(encoder, rows, 3 * batch, config, CPU)
    print(memory.line())
    Training(
        encoder=encoder,
        optimizer=make_optimizer(encoder, config),
        loader=Fixed(paths=[], kinds=(), batch=batch, seed=0, triplets=triplets),
        inputs=rows,
        ids=np.arange(len(inputs)),
        scratch=folder / "saves",
        device=CPU,
        part=memory.part if memory.part < memory.batch else 0,
    ).run(config, lambda *_: None)
    return memory


if __name__ == "__main__":
    main()
