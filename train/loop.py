"""The training loop: triplets of ids in, a better encoder out.

Deterministic: the same checkpoint, triplets, config and number of threads give the same weights,
whether the round ran through or was killed and resumed from its last save.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from remine.data.items.inputs import Inputs
from remine.data.store.disk import sync
from remine.data.types import Int64
from remine.train.batches.id_batch import picked
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import (
    encoder_bytes,
    load_encoder,
    load_objective,
    load_optimizer,
    objective_bytes,
    optimizer_bytes,
)
from remine.train.config import TrainConfig
from remine.train.encoders.encoder import Encoder
from remine.train.losses import Batch, LossValue
from remine.train.monitor.health import Reading, RoundStoppedError, collapsed
from remine.train.monitor.probe import Baseline, Probe
from remine.train.objective import Objective
from remine.train.precision import computing
from remine.train.processes import Alone, shared_out


@dataclass
class History:
    """One entry a step. synthetic: the share of negatives that were, where there is a synthesis.

    readings: what was measured meanwhile, a `Reading` each, as plain values.
    """

    loss: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)
    synthetic: list[float] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, value: LossValue) -> None:
        """One step more."""
        self.loss.append(value.loss.item())
        self.active.append(value.active.item())
        if value.synthetic is not None:
            self.synthetic.append(value.synthetic.item())

    def measure(self, baseline: Baseline, together: Alone) -> Reading:
        """One measurement more, after the steps so far; all processes go by that of process 0."""
        since = self.readings[-1]["step"] if self.readings else 0
        reading = together.told(
            baseline.read(len(self.loss), self.active[since:], self.loss[since:])
        )
        self.readings.append(asdict(reading))
        return reading


class Learner:
    """An objective and the optimizers of what it learns itself."""

    def __init__(self, objective: Objective, config: TrainConfig, device: torch.device) -> None:
        """On `device`."""
        self.objective = objective.to(device)
        self.optimizers = objective.optimizers(config)

    def to_bytes(self) -> bytes | None:
        """All of its state, None where it has none."""
        return objective_bytes(self.objective, self.optimizers)

    def load(self, path: Path) -> None:
        """Take up the state at `path`."""
        load_objective(self.objective, self.optimizers, path)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one round of training works on.

    ids: (n,) int64 ascending, the id of each row of `inputs`. scratch: a folder for saves that a
    killed round resumes from. learner: None for the plain triplet loss. labels: (n,) int64 class
    numbers, -1 for items that are not trained on, or None where they are unknown. probe: what is
    measured while it trains. augment: changes the pictures of a batch, given a seed. bf16: the
    encoder computes in bfloat16.
    """

    encoder: Encoder
    optimizer: torch.optim.Optimizer
    loader: TripletLoader | PKSampler
    inputs: Inputs
    ids: Int64
    scratch: Path
    device: torch.device
    learner: Learner | None = None
    labels: Int64 | None = None
    probe: Probe | None = None
    augment: Callable[[Tensor, int], Tensor] | None = None
    bf16: bool = False

    def run(self, config: TrainConfig, progress: Callable[[int, float, float], None]) -> History:
        """Train config.steps steps; calls progress(step, loss, active fraction) after each.

        Fewer where the triplets are stale before. A collapse is a RoundStoppedError that carries
        the history.
        """
        history = History()
        try:
            self._run(config, progress, history)
        except RoundStoppedError as error:
            error.history = asdict(history)
            raise
        return history

    def _run(
        self,
        config: TrainConfig,
        progress: Callable[[int, float, float], None],
        history: History,
    ) -> None:
        learner = self.learner or Learner(
            Objective(config, dimensions=0, classes=0, items=0), config, self.device
        )
        optimizers = [self.optimizer, *learner.optimizers.values()]
        together = shared_out(self.encoder)
        # Measured against the encoder as it was given, so before a save takes its place.
        baseline = self.probe and self.probe.baseline(self.encoder, self.inputs, self.device)
        done = self._resume(learner, history)
        if baseline and not done:
            history.measure(baseline, together)
        self.encoder.train()
        # The steps come first: zip must not ask for one more batch, which would pass through the
        # encoder and move its batch statistics.
        steps = range(done + 1, config.steps + 1)
        for step, batch in zip(steps, self._batches(done, together), strict=False):
            value: LossValue = learner.objective(batch, step_seed(self.loader.seed, step))
            if not torch.isfinite(value.loss):
                raise RoundStoppedError(f"step {step}: the loss is {value.loss.item()}")
            _update(optimizers, value.loss)
            history.add(value)
            progress(step, history.loss[-1], history.active[-1])
            if baseline and baseline.probe.due(step, config.steps):
                ends = is_stale(history.measure(baseline, together), config)
                self._check(history, last=ends or step == config.steps)
                if ends:
                    break
            if together.writes and step % config.save_every == 0 and step < config.steps:
                self._save(history, learner)
        self.encoder.eval()

    def _check(self, history: History, *, last: bool) -> None:
        """Stop a round whose embedding has collapsed: at two measurements in a row, or at its end.

        Early on, and with hard negatives, a spread may dip for some steps and recover.
        """
        assert self.probe is not None
        readings = [Reading(**reading) for reading in history.readings]
        config, classes = self.probe.config, self.probe.classes
        late = readings[-1:] if last else readings[-2:]
        low = [collapsed(readings[0], now, config, classes) for now in late]
        if all(low) and (last or len(readings) > 2):
            raise RoundStoppedError(f"step {late[-1].step}: {low[-1]}")

    def _batches(self, start: int, together: Alone) -> Iterator[Batch]:
        """Each batch through the encoder, in one forward pass."""
        for step, part in enumerate(picked(self.loader, self.ids, start), start + 1):
            features = self._features(part.rows, step, together)
            known = self.labels[part.rows] if self.labels is not None else np.empty(0, np.int64)
            yield Batch(
                features=features,
                embeddings=functional.normalize(features),
                labels=torch.from_numpy(known).to(self.device),
                items=torch.from_numpy(part.rows).to(self.device),
                triplets=None if part.triplets is None else part.triplets.to(self.device),
                partners=None if part.partners is None else part.partners.to(self.device),
            )

    def _features(self, rows: Int64, step: int, together: Alone) -> Tensor:
        """(m,) rows of the inputs to (m, d) float32."""
        own = rows[together.share(len(rows))]
        inputs = torch.from_numpy(self.inputs[own]).to(self.device)
        if self.augment is not None:
            stream = (AUGMENT, together.number)
            inputs = self.augment(inputs, step_seed(self.loader.seed, step, stream))
        with computing(self.device, bf16=self.bf16):
            return together.features(inputs, len(rows))

    def _save(self, history: History, learner: Learner) -> None:
        """Leave a save in a folder named by its step and hash, whole before it has that name."""
        parts = {
            "encoder": encoder_bytes(self.encoder),
            "optimizer": optimizer_bytes(self.optimizer),
            "history": json.dumps(vars(history)).encode(),
        }
        if learned := learner.to_bytes():
            parts["objective"] = learned
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

    def _resume(self, learner: Learner, history: History) -> int:
        """Take up the newest sound save, if there is one; how many steps it had done."""
        for folder in reversed(_saves(self.scratch)):
            parts = {path.name: path.read_bytes() for path in folder.iterdir()}
            if folder.name.endswith(_hash(parts)):
                load_encoder(self.encoder, folder / "encoder")
                load_optimizer(self.optimizer, folder / "optimizer")
                if "objective" in parts:
                    learner.load(folder / "objective")
                vars(history).update(json.loads(parts["history"]))
                return len(history.loss)
        return 0


def _update(optimizers: Sequence[torch.optim.Optimizer], loss: Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    for optimizer in optimizers:
        optimizer.step()


def is_stale(reading: Reading, config: TrainConfig) -> bool:
    """Whether the round should end here, so that the next one mines again."""
    return bool(
        config.refresh_when
        and reading.step >= config.refresh_after
        and reading.stale is not None
        and reading.stale > config.refresh_when
    )


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


AUGMENT = 1


def step_seed(seed: int, step: int, stream: tuple[int, ...] = ()) -> int:
    """What is drawn from at one step: the same whether the round was resumed or not.

    Miner and loss draw from the same stream, augmentation from one of its own in each process.
    """
    return int(np.random.SeedSequence([seed, step, *stream]).generate_state(1)[0])
