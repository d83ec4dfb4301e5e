"""A small round of training, as any process sets it up from the same folder."""

import numpy as np
import torch

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.types import SEMI_HARD, Triplets
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.learner import Learner
from remine.train.loop import Training
from remine.train.objective import Objective

N = 60
IDS = np.arange(N) * 7 + 2**40
CODES = np.arange(N) % 5


def lay_down(folder, content):
    """Inputs and triplets of five classes."""
    rng = np.random.default_rng(0)
    if content == "vector":
        inputs = rng.standard_normal((N, 12)).astype(np.float32)
        inputs[:, :3] += rng.standard_normal((5, 3))[CODES]
    else:
        patterns = rng.integers(0, 256, (5, 1, 10, 10))[CODES]
        inputs = ((patterns + 3 * rng.integers(0, 256, (N, 1, 10, 10))) // 4).astype(np.uint8)
    np.save(folder / "inputs.npy", inputs)
    anchor = np.repeat(np.arange(N), 3)
    t = len(anchor)
    triplets = Triplets(
        anchor_id=IDS[anchor],
        positive_id=IDS[(anchor + 5 * rng.integers(1, N // 5, t)) % N],
        negative_id=IDS[(anchor + 5 * rng.integers(0, N // 5, t) + rng.integers(1, 5)) % N],
        d_ap=np.zeros(t, np.float32),
        d_an=np.zeros(t, np.float32),
        kind=np.full(t, SEMI_HARD, np.int8),
        negative_rank=np.zeros(t, np.int32),
    )
    table = schemas.triplets_table(triplets)
    schemas.write(table, folder / "triplets.parquet", schema="triplets/1", provenance={})


def training(folder, scratch, content, config):
    """The round in `folder`: mined triplets, or PK batches with the settings' loss and memory."""
    inputs = Inputs([folder / "inputs.npy"])
    encoder = build_encoder(
        EncoderConfig(width=8, dimensions=8), content, inputs.shards[0].shape[1:]
    )
    labels = CODES.astype(np.int64)
    if config.uses_pk_batches:
        loader = PKSampler(labels=labels, batch=config.batch, per_class=config.per_class, seed=5)
    else:
        loader = TripletLoader(
            paths=[folder / "triplets.parquet"], kinds=("semi_hard",), batch=config.batch, seed=5
        )
    objective = Objective(config, dimensions=8, classes=5, items=N)
    return Training(
        encoder=encoder,
        # Adam would not tell a gradient from twice the gradient.
        optimizer=torch.optim.SGD(encoder.parameters(), lr=10 * config.learning_rate, momentum=0.9),
        loader=loader,
        inputs=inputs,
        ids=IDS,
        scratch=folder / scratch,
        device=torch.device("cpu"),
        learner=Learner(objective, config, torch.device("cpu")),
        labels=labels,
        part=config.micro_batch,
    )


CONFIGS = {
    "triplets": TrainConfig(steps=7, batch=7, save_every=3, learning_rate=0.01),
    "parts": TrainConfig(steps=7, batch=7, micro_batch=4, save_every=3, learning_rate=0.01),
    "proxies": TrainConfig(
        steps=7,
        batch=15,
        per_class=5,
        batches="pk",
        loss="softmax",
        save_every=3,
        learning_rate=0.01,
    ),
    "memory": TrainConfig(
        steps=7,
        batch=15,
        per_class=5,
        batches="pk",
        memory=40,
        save_every=3,
        margin=0.5,
        learning_rate=0.01,
    ),
}


class Killed(Exception):  # noqa: N818 - it is what happens, not what went wrong
    pass
