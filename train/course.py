"""A round of training on its way, step by step."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from remine.data.items.tensors import Tensors, as_tensors, take_rows
from remine.data.types import Int64
from remine.train.batches.row_batch import RowBatch, row_batches
from remine.train.checkpoint import (
    encoder_bytes,
    load_encoder,
    load_optimizer,
    optimizer_bytes,
)
from remine.train.config import TrainConfig
from remine.train.history import History
from remine.train.learner import Learner
from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.triplet import TripletLoss
from remine.train.monitor.health import Reading, RoundStoppedError, collapse_reason
from remine.train.monitor.probe import Baseline
from remine.train.objective import Objective
from remine.train.optimization.cached import BatchInParts, WholeBatch
from remine.train.optimization.modes import set_training
from remine.train.optimization.schedule import rate_share, set_rates
from remine.train.precision import autocast
from remine.train.processes import SingleProcess, training_process
from remine.train.recipe import recipe_of
from remine.train.saves import Parts, Saves

if TYPE_CHECKING:
    from remine.train.loop import Training

Progress = Callable[[int, float, float], None]
"""Called with (step, loss, active fraction) after each step."""


@dataclass
class Course:
    """A round on its way: what changes with its steps.

    best: the save of the step after which validation was best; empty without validation.
    """

    training: "Training"
    config: TrainConfig
    history: History = field(default_factory=History)
    best: Parts = field(default_factory=dict)

    def __post_init__(self) -> None:
        training, config = self.training, self.config
        self.recipe = recipe_of(config)
        self.learner = training.learner or Learner(
            Objective(config, dimensions=0, classes=0, items=0), config, training.device
        )
        self.rates = [group["lr"] for group in training.optimizer.param_groups]
        self.process = training_process(training.encoder)
        self.saves = Saves(training.scratch)

    def run(self, progress: Progress) -> None:
        """Train from the newest save on, or from the start."""
        training, steps = self.training, self.recipe.steps
        # The baseline is the encoder at the round's start, so it comes before a save is loaded.
        baseline = None
        if training.probe:
            baseline = training.probe.baseline(training.encoder, training.inputs, training.device)
        start = self._resume()
        if not start:
            if baseline:
                self.history.measure(baseline, self.process)
            self._validate(0)
        # zip takes the step first and so does not fetch a batch beyond the last step.
        batches = row_batches(training.loader, training.ids, start)
        for step, batch in zip(range(start + 1, steps + 1), batches, strict=False):
            self._train(step, batch)
            progress(step, self.history.loss[-1], self.history.active[-1])
            if self._ends(step, baseline):
                break
            # After the last step the caller publishes a checkpoint, so no save is needed.
            if self.process.writes and step % self.config.save_every == 0 and step < steps:
                self.saves.write(step, self._parts())
        if self.best:
            self._load(self.best)
        training.encoder.eval()

    def _train(self, step: int, rows: RowBatch) -> None:
        """One step."""
        training, recipe = self.training, self.recipe
        held_steps = self.config.unfreeze_after - training.earlier_steps
        set_training(
            training.encoder,
            keeps_statistics=recipe.batch_statistics == "kept",
            holds_backbone=step <= held_steps,
        )
        optimizers = [training.optimizer, *self.learner.optimizers.values()]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        value = self._backward(step, rows)
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(training.encoder.parameters(), recipe.clip_norm)
        # A loss sets the rates of its own parameters, which do not follow the schedule.
        set_rates(training.optimizer, self.rates, rate_share(recipe, step))
        for optimizer in optimizers:
            optimizer.step()
        self.history.add(value)

    def _backward(self, step: int, rows: RowBatch) -> LossValue:
        """Gradients of the loss of a batch, in parts if it does not fit."""
        inputs = self._inputs(rows.rows, step)
        size = self.training.part
        if not size or rows.triplets is None or not self._adds_up:
            return self._backward_at_once(step, rows, inputs, size=size)
        # A mean over triplets is a sum of the means of parts, and needs no second forward pass.
        triplets = rows.triplets.tensor_split(self.process.parts(len(rows.rows), size), dim=1)
        loss = active = torch.zeros(())
        for number, part in enumerate(triplets):
            places = part.reshape(-1)
            part_rows = RowBatch(
                rows=rows.rows[places.numpy()], triplets=torch.arange(len(places)).view(3, -1)
            )
            share = part.shape[1] / rows.triplets.shape[1]
            value = self._backward_at_once(
                step, part_rows, take_rows(inputs, places), number=number, share=share
            )
            loss, active = loss + share * value.loss.detach(), active + share * value.active
        return LossValue(loss, active)

    def _backward_at_once(
        self,
        step: int,
        rows: RowBatch,
        inputs: Tensors,
        *,
        size: int = 0,
        number: int = 0,
        share: float = 1.0,
    ) -> LossValue:
        """Gradients of the loss of a batch, or of a part of one.

        Args:
            step: Number of the step.
            rows: The batch.
            inputs: Of this process's rows.
            size: Items that go through the encoder at a time; 0 for all.
            number: Of the part.
            share: Of the part in the loss.
        """
        count = self.process.parts(len(rows.rows), size)
        embedded = self._embed(inputs, step, number, count)
        batch = self._batch(rows, self.process.gather(embedded.features, len(rows.rows)))
        seed = step_seed(self.training.loader.seed, step)
        value: LossValue = self.learner.objective(batch, seed)
        if not torch.isfinite(value.loss):
            raise RoundStoppedError(f"step {step}: the loss is {value.loss.item()}")
        torch.autograd.backward(value.loss if share == 1 else share * value.loss)
        embedded.backward()
        return value

    @property
    def _adds_up(self) -> bool:
        """Whether the loss of given triplets is a mean over them, in one process."""
        objective = self.learner.objective
        meets_others = objective.miner is not None or objective.memory is not None
        is_alone = type(self.process) is SingleProcess
        return isinstance(objective.loss, TripletLoss) and not meets_others and is_alone

    def _inputs(self, rows: Int64, step: int) -> Tensors:
        """The share of this process of the rows (m,), augmented."""
        training, process = self.training, self.process
        inputs = as_tensors(training.inputs[rows[process.share(len(rows))]], training.device)
        if training.augment is not None and isinstance(inputs, Tensor):
            stream = (AUGMENT, process.number)
            return training.augment(inputs, step_seed(training.loader.seed, step, stream))
        return inputs

    def _embed(self, inputs: Tensors, step: int, first_part: int, count: int) -> WholeBatch:
        """The inputs of this process through the encoder, in `count` parts."""
        training, process = self.training, self.process

        def part_seed(number: int) -> int:
            stream = (DROPOUT, process.number, first_part + number)
            return step_seed(training.loader.seed, step, stream)

        precision = autocast(training.device, bf16=training.bf16)
        if count == 1:
            return WholeBatch(process, inputs, part_seed, precision)
        return BatchInParts(process, inputs, part_seed, precision, count)

    def _batch(self, rows: RowBatch, features: Tensor) -> Batch:
        training, device = self.training, self.training.device
        labels = np.empty(0, np.int64) if training.labels is None else training.labels[rows.rows]
        return Batch(
            features=features,
            embeddings=functional.normalize(features),
            labels=torch.from_numpy(labels).to(device),
            items=torch.from_numpy(rows.rows).to(device),
            triplets=None if rows.triplets is None else rows.triplets.to(device),
            partners=None if rows.partners is None else rows.partners.to(device),
        )

    def _ends(self, step: int, baseline: Baseline | None) -> bool:
        """Measure and validate after `step` where that is due; whether the round ends here."""
        history, config, steps = self.history, self.config, self.recipe.steps
        is_measured = baseline is not None and baseline.probe.is_due(step, steps)
        if baseline and is_measured and is_stale(history.measure(baseline, self.process), config):
            history.stopped = "stale"
        elif step < steps and config.idle_share and history.is_idle(self._idle_share):
            history.stopped = "idle"
        validation = self.training.validation
        if validation and (history.stopped or validation.is_due(step, steps)):
            self._validate(step)
            if step < steps and not history.stopped and history.is_exhausted(config.patience):
                history.stopped = "val"
        is_last = step == steps or history.stopped is not None
        if baseline and is_last and not is_measured:
            history.measure(baseline, self.process)
        if baseline and (is_measured or is_last):
            self._check_collapse(is_last=is_last)
        return is_last

    @property
    def _idle_share(self) -> float:
        """As the settings say of mined triplets; few of all triplets of a batch may be many."""
        are_mined = not self.config.uses_pk_batches and self.config.miner == "auto"
        return self.config.idle_share if are_mined else 0.0

    def _validate(self, step: int) -> None:
        """Validate after `step`, and remember the weights if they are the best so far."""
        training = self.training
        if training.validation is None:
            return
        score = training.validation.measure(training.encoder, training.inputs, training.device)
        self.history.val.append((step, self.process.from_first(score)))
        if self.history.best_step == step:
            self.best = self._weights()

    def _check_collapse(self, *, is_last: bool) -> None:
        """Stop a round whose embedding has collapsed: in two readings in a row, or at its end.

        One reading is not enough: early in a round, and with hard negatives, the spread may fall
        for some steps and recover.
        """
        probe = self.training.probe
        assert probe is not None
        readings = [Reading(**reading) for reading in self.history.readings]
        recent = readings[-1:] if is_last else readings[-2:]
        reasons = [
            collapse_reason(readings[0], reading, probe.config, probe.classes) for reading in recent
        ]
        if all(reasons) and (is_last or len(readings) > 2):
            raise RoundStoppedError(f"step {recent[-1].step}: {reasons[-1]}")

    def _weights(self) -> dict[str, bytes]:
        """All that a step changes."""
        parts = {
            "encoder": encoder_bytes(self.training.encoder),
            "optimizer": optimizer_bytes(self.training.optimizer),
        }
        if state := self.learner.to_bytes():
            parts["objective"] = state
        return parts

    def _parts(self) -> Parts:
        """The content of a save."""
        best = {f"{BEST}{name}": content for name, content in self.best.items()}
        return {**self._weights(), **best, "history": json.dumps(vars(self.history)).encode()}

    def _resume(self) -> int:
        """Load the newest intact save, if there is one, and return its number of steps."""
        parts = self.saves.newest()
        if not parts:
            return 0
        self._load(parts)
        vars(self.history).update(json.loads(parts["history"]))
        self.history.val = [(step, score) for step, score in self.history.val]
        self.best = {k.removeprefix(BEST): v for k, v in parts.items() if k.startswith(BEST)}
        return len(self.history.loss)

    def _load(self, parts: Parts) -> None:
        load_encoder(self.training.encoder, parts["encoder"])
        load_optimizer(self.training.optimizer, parts["optimizer"])
        if "objective" in parts:
            self.learner.load(parts["objective"])


BEST = "best-"
"""Before the names of a save's files that hold the best weights so far."""


def is_stale(reading: Reading, config: TrainConfig) -> bool:
    """Whether so many triplets are stale that the round should end and the next one mine again."""
    return bool(
        config.refresh_when
        and reading.step >= config.refresh_after
        and reading.stale is not None
        and reading.stale > config.refresh_when
    )


AUGMENT, DROPOUT = 1, 2
"""Numbers of random streams."""


def step_seed(seed: int, step: int, stream: tuple[int, ...] = ()) -> int:
    """The random seed of one step, the same whether the round was resumed or not.

    Miner and loss share the default stream; augmentation and dropout have one for each process.
    """
    return int(np.random.SeedSequence([seed, step, *stream]).generate_state(1)[0])
