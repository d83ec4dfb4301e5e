"""The training loop: triplets of ids in, a better encoder out.

Deterministic: the same checkpoint, triplets, config and number of threads give the same weights,
whether the round ran through or was killed and resumed from its last save.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.errors import StoreError
from data.inputs import Inputs
from data.types import Int64
from train.checkpoint import encoder_bytes, load_encoder, load_optimizer, optimizer_bytes
from train.config import TrainConfig
from train.encoders import Encoder
from train.loader import TripletLoader
from train.losses import triplet_loss


@dataclass
class History:
    """One entry a step."""

    loss: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one round of training works on.

    ids: (n,) int64 ascending, the id of each row of `inputs`. scratch: a folder for saves that a
    killed round resumes from.
    """

    encoder: Encoder
    optimizer: torch.optim.Optimizer
    loader: TripletLoader
    inputs: Inputs
    ids: Int64
    scratch: Path
    device: torch.device

    def run(self, config: TrainConfig, progress: Callable[[int, float, float], None]) -> History:
        """Train config.steps steps; calls progress(step, loss, active fraction) after each."""
        history, done = self._resume()
        self.encoder.train()
        for step, batch in enumerate(self._batches(done), start=done + 1):
            if step > config.steps:
                break
            loss, active = triplet_loss(*batch, margin=config.margin)
            if not torch.isfinite(loss):
                raise StoreError(f"step {step}: the loss is {loss.item()}: the round stops")
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            history.loss.append(loss.item())
            history.active.append(active.item())
            progress(step, history.loss[-1], history.active[-1])
            if step % config.save_every == 0 and step < config.steps:
                self._save(history)
        self.encoder.eval()
        return history

    def _batches(self, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Embeddings of anchors, positives, negatives, each (batch, d), in one forward pass."""
        for ids in self.loader.batches(start):
            rows = np.searchsorted(self.ids, ids.reshape(-1))
            inputs = torch.from_numpy(self.inputs[rows]).to(self.device)
            anchor, positive, negative = self.encoder(inputs).chunk(3)
            yield anchor, positive, negative

    def _save(self, history: History) -> None:
        """Leave a save in a folder named by its step, which appears only when it is whole."""
        step = len(history.loss)
        temp = self.scratch / "saving"
        temp.mkdir(parents=True, exist_ok=True)
        (temp / "encoder").write_bytes(encoder_bytes(self.encoder))
        (temp / "optimizer").write_bytes(optimizer_bytes(self.optimizer))
        (temp / "history").write_text(json.dumps(vars(history)))
        temp.rename(self.scratch / f"{step:08d}")

    def _resume(self) -> tuple[History, int]:
        """The state of the newest save, if there is one."""
        saves = sorted(self.scratch.glob("0*"))
        if not saves:
            return History(), 0
        load_encoder(self.encoder, saves[-1] / "encoder")
        load_optimizer(self.optimizer, saves[-1] / "optimizer")
        history = History(**json.loads((saves[-1] / "history").read_text()))
        return history, len(history.loss)


def make_optimizer(encoder: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over all of the encoder."""
    return torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)
