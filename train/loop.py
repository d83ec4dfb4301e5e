"""The training loop: triplets of ids in, a better encoder out.

Deterministic: the same checkpoint, triplets, config and number of threads give the same weights,
whether the round ran through or was killed and resumed from its last save.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.errors import StoreError
from data.inputs import Inputs
from data.store import sync
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
        # The steps come first: zip must not ask for one more batch, which would pass through the
        # encoder and move its batch statistics.
        steps = range(done + 1, config.steps + 1)
        for step, batch in zip(steps, self._batches(done), strict=False):
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
        """Leave a save in a folder named by its step and hash, whole before it has that name."""
        parts = {
            "encoder": encoder_bytes(self.encoder),
            "optimizer": optimizer_bytes(self.optimizer),
            "history": json.dumps(vars(history)).encode(),
        }
        temp = self.scratch / "saving"
        temp.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            (temp / name).write_bytes(content)
            sync(temp / name)
        older = _saves(self.scratch)
        temp.rename(self.scratch / f"{len(history.loss):08d}-{_hash(parts)}")
        sync(self.scratch)
        for folder in older:
            shutil.rmtree(folder)

    def _resume(self) -> tuple[History, int]:
        """The state of the newest sound save, if there is one."""
        for folder in reversed(_saves(self.scratch)):
            parts = {path.name: path.read_bytes() for path in folder.iterdir()}
            if folder.name.endswith(_hash(parts)):
                load_encoder(self.encoder, folder / "encoder")
                load_optimizer(self.optimizer, folder / "optimizer")
                history = History(**json.loads(parts["history"]))
                return history, len(history.loss)
        return History(), 0


def _saves(scratch: Path) -> list[Path]:
    """The saves in `scratch`, oldest first."""
    return sorted(scratch.glob("0*-*"))


def _hash(parts: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(hashlib.sha256(parts[name]).digest())
    return whole.hexdigest()


def make_optimizer(encoder: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over all of the encoder."""
    return torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)
