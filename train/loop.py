"""The training loop: batches in, a better encoder out.

Deterministic: the same checkpoint, triplets, config and number of threads give the same weights,
whether the round ran without interruption or was killed and resumed from its last save.
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
from remine.data.items.tensors import as_tensors
from remine.data.store.disk import sync
from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.row_batch import row_batches
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
from remine.train.losses.batch import Batch, LossValue
from remine.train.monitor.health import Reading, RoundStoppedError, collapse_reason
from remine.train.monitor.probe import Baseline, Probe
from remine.train.objective import Objective
from remine.train.precision import autocast
from remine.train.processes import SingleProcess, training_process


@dataclass
class History:
    """Statistics of a round.

    loss, active: one entry per step. synthetic: the share of synthetic negatives, one entry per
    step of a round with synthesis. readings: the measurements, each a `Reading` as plain values.
    """

    loss: list[float] = field(default_factory=list)
    active: list[float] = field(default_factory=list)
    synthetic: list[float] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, value: LossValue) -> None:
        """Append one step."""
        self.loss.append(value.loss.item())
        self.active.append(value.active.item())
        if value.synthetic is not None:
            self.synthetic.append(value.synthetic.item())

    def measure(self, baseline: Baseline, process: SingleProcess) -> Reading:
        """Measure after the steps so far; all processes use the reading of process 0."""
        since = self.readings[-1]["step"] if self.readings else 0
        reading = process.from_first(
            baseline.read(len(self.loss), self.active[since:], self.loss[since:])
        )
        self.readings.append(asdict(reading))
        return reading


class Learner:
    """An objective and the optimizers of its own parameters."""

    def __init__(self, objective: Objective, config: TrainConfig, device: torch.device) -> None:
        """Move the objective to `device` and create its optimizers."""
        self.objective = objective.to(device)
        self.optimizers = objective.optimizers(config)

    def to_bytes(self) -> bytes | None:
        """Serialise its state; None if it has none."""
        return objective_bytes(self.objective, self.optimizers)

    def load(self, path: Path) -> None:
        """Load the state at `path`."""
        load_objective(self.objective, self.optimizers, path)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One round of training.

    loader: the stream of batches.
    ids: (n,) int64 ascending, the id of each row of `inputs`.
    scratch: a folder for the saves that a killed round resumes from.
    learner: the objective; None for the plain triplet loss.
    labels: (n,) int64 class numbers, -1 for items that are not trained on; None if unknown.
    probe: measures the round; None for no measurements.
    augment: changes the pictures of a batch at random, given a seed.
    bf16: whether the encoder computes in bfloat16.
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
        """Train for config.steps steps, or until the triplets are stale.

        Args:
            config: the round's settings.
            progress: called with (step, loss, active fraction) after each step.

        Raises:
            RoundStoppedError: the embedding collapsed or the loss is not finite; the error carries
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
        process = training_process(self.encoder)
        # The baseline is the encoder at the round's start, so it comes before a save is loaded.
        baseline = self.probe and self.probe.baseline(self.encoder, self.inputs, self.device)
        steps_done = self._resume(learner, history)
        if baseline and not steps_done:
            history.measure(baseline, process)
        self.encoder.train()
        # zip takes the step first and so does not fetch a batch beyond the last step, which would
        # pass through the encoder and change its batch statistics.
        steps = range(steps_done + 1, config.steps + 1)
        for step, batch in zip(steps, self._batches(steps_done, process), strict=False):
            value: LossValue = learner.objective(batch, step_seed(self.loader.seed, step))
            if not torch.isfinite(value.loss):
                raise RoundStoppedError(f"step {step}: the loss is {value.loss.item()}")
            _update(optimizers, value.loss)
            history.add(value)
            progress(step, history.loss[-1], history.active[-1])
            if baseline and baseline.probe.is_due(step, config.steps):
                ends = is_stale(history.measure(baseline, process), config)
                self._check_collapse(history, is_last=ends or step == config.steps)
                if ends:
                    break
            # After the last step the caller publishes a checkpoint, so no save is needed.
            if process.writes and step % config.save_every == 0 and step < config.steps:
                self._save(history, learner)
        self.encoder.eval()

    def _check_collapse(self, history: History, *, is_last: bool) -> None:
        """Stop a round whose embedding has collapsed: in two readings in a row, or at its end.

        One reading is not enough: early in a round, and with hard negatives, the spread may fall
        for some steps and recover.
        """
        assert self.probe is not None
        readings = [Reading(**reading) for reading in history.readings]
        config, classes = self.probe.config, self.probe.classes
        recent = readings[-1:] if is_last else readings[-2:]
        reasons = [collapse_reason(readings[0], reading, config, classes) for reading in recent]
        if all(reasons) and (is_last or len(readings) > 2):
            raise RoundStoppedError(f"step {recent[-1].step}: {reasons[-1]}")

    def _batches(self, start: int, process: SingleProcess) -> Iterator[Batch]:
        """Yield batches embedded in one forward pass each, from batch number `start` on."""
        batches = row_batches(self.loader, self.ids, start)
        for step, batch in enumerate(batches, start + 1):
            features = self._features(batch.rows, step, process)
            labels = np.empty(0, np.int64) if self.labels is None else self.labels[batch.rows]
            yield Batch(
                features=features,
                embeddings=functional.normalize(features),
                labels=torch.from_numpy(labels).to(self.device),
                items=torch.from_numpy(batch.rows).to(self.device),
                triplets=None if batch.triplets is None else batch.triplets.to(self.device),
                partners=None if batch.partners is None else batch.partners.to(self.device),
            )

    def _features(self, rows: Int64, step: int, process: SingleProcess) -> Tensor:
        """(m,) rows of the inputs to (m, d) float32 features."""
        local_rows = rows[process.share(len(rows))]
        inputs = as_tensors(self.inputs[local_rows], self.device)
        if self.augment is not None and isinstance(inputs, Tensor):
            stream = (AUGMENT, process.number)
            inputs = self.augment(inputs, step_seed(self.loader.seed, step, stream))
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), autocast(self.device, bf16=self.bf16):
            # Dropout must not depend on the steps that this process made before.
            torch.manual_seed(step_seed(self.loader.seed, step, (DROPOUT, process.number)))
            return process.features(inputs, len(rows))

    def _save(self, history: History, learner: Learner) -> None:
        """Write a save into a folder named by its step and hash, and remove earlier ones.

        The folder gets that name after its files are on disk, so that a kill leaves no partial
        save.
        """
        parts = {
            "encoder": encoder_bytes(self.encoder),
            "optimizer": optimizer_bytes(self.optimizer),
            "history": json.dumps(vars(history)).encode(),
        }
        if state := learner.to_bytes():
            parts["objective"] = state
        temp = self.scratch / "saving"
        temp.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            (temp / name).write_bytes(content)
            sync(temp / name)
        earlier_saves = _saves(self.scratch)
        temp.rename(self.scratch / f"{len(history.loss):08d}-{_hash(parts)}")
        sync(self.scratch)
        for folder in earlier_saves:
            shutil.rmtree(folder)

    def _resume(self, learner: Learner, history: History) -> int:
        """Load the newest intact save, if there is one, and return its number of steps."""
        for folder in reversed(_saves(self.scratch)):
            parts = {path.name: path.read_bytes() for path in folder.iterdir()}
            # A save whose content does not have the hash in its name is damaged: try an older one.
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
    """Whether so many triplets are stale that the round should end and the next one mine again."""
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
    combined_hash = hashlib.sha256()
    for name in sorted(parts):
        combined_hash.update(hashlib.sha256(parts[name]).digest())
    return combined_hash.hexdigest()


def make_optimizer(encoder: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over all parameters of the encoder."""
    return torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)


AUGMENT = 1
"""Number of the random stream of augmentation."""
DROPOUT = 2
"""Number of the random stream of an adapter's dropout."""


def step_seed(seed: int, step: int, stream: tuple[int, ...] = ()) -> int:
    """The random seed of one step, the same whether the round was resumed or not.

    Miner and loss share the default stream; augmentation has one for each process.
    """
    return int(np.random.SeedSequence([seed, step, *stream]).generate_state(1)[0])
