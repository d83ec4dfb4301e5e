"""One arm of a comparison with one seed: train, mine again, evaluate, until the budget is used up.

Every stage is one of the cycle's and is recalled from the store if it has run before, so a killed
comparison resumes inside the arm that it was in. The store also keeps the seconds that each stage
took, since they cannot be measured a second time.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from remine.data.errors import InputError
from remine.data.store.records import Artifact, digest
from remine.flows.compare.arms import Arm
from remine.flows.compare.evaluation import measure
from remine.flows.cycle.cycle import call_plain
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.embed import embed
from remine.flows.stages.embedding_recipe import embedding_recipe
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.mine import engine_setup
from remine.flows.stages.rounds.settings import kind_of_checkpoint
from remine.flows.stages.train import train
from remine.flows.stages.training_data import training_data
from remine.train.batches.triplet_loader import count_triplets
from remine.train.config import TrainConfig
from remine.train.monitor.health import RoundStoppedError
from remine.train.recipe import recipe_of, resolved

STAGES = ("embed", "index", "mine", "train")
MINE, TRAIN = "remine.flows.stages.mine", "remine.flows.stages.train"


@dataclass(kw_only=True)
class Usage:
    """What an arm has used of the budgets so far.

    steps: Training steps.
    forwards: Items that went through the encoder, in training and in embedding for mining.
    seconds: Time by stage.
    resumed: Whether a stage was interrupted, so that part of its time is missing.
    """

    steps: int = 0
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    resumed: bool = False

    def of(self, budget: str) -> float:
        """The amount used of the budget "steps", "forwards" or "seconds"."""
        if budget == "seconds":
            return sum(self.seconds.values())
        return self.steps if budget == "steps" else self.forwards


@dataclass(frozen=True, kw_only=True)
class Point:
    """An evaluation: the usage up to it, the checkpoint, and its metrics by split."""

    usage: Usage
    checkpoint: Artifact
    metrics: dict[str, dict[str, float]]


@dataclass(kw_only=True)
class Contestant:
    """An arm with one seed, and how far it has come.

    checkpoints: Every checkpoint so far, without the initial one.
    training_data: The last triplets or confusable classes; None before the first mining.
    mining_round: The round that they were mined in; -1 to mine again.
    mining_cost: What the last mining cost, in the budget's unit.
    stop_reason: Why training ended early; empty if it did not.
    """

    run: Run
    arm: Arm
    items: Artifact
    inputs: Artifact
    usage: Usage = field(default_factory=Usage)
    checkpoints: list[Artifact] = field(default_factory=list)
    training_data: Artifact | None = None
    mining_round: int = -1
    mining_cost: float = 0.0
    stop_reason: str = ""

    def run_to_budget(self, progress: Callable[[float, Point], None]) -> list[Point]:
        """Train until the budget is used up, evaluating on the way.

        Args:
            progress: Called after each evaluation with the amount used and the evaluation.

        Returns:
            Every evaluation; the first is of the initial checkpoint.

        Raises:
            InputError: If the budget does not pay for one step.

        """
        compare, every = self.run.config.compare, self.run.config.compare.evaluate_every
        checkpoint = first_checkpoint(self.run, self.items, self.inputs)
        self.run = _with_resolved_settings(self.run, checkpoint)
        points = [self._point(checkpoint)]
        progress(0, points[0])
        while self._affordable() >= 1:
            if self._is_mining_due():
                self._mine(checkpoint)
            steps = min(
                self._affordable(), every - self.usage.steps % every, self._steps_left_in_round()
            )
            if steps < 1:  # mining used up the rest
                break
            try:
                checkpoint = self._train(checkpoint, steps)
            except RoundStoppedError as error:
                # A collapse is a result too: the arm ends at its last good checkpoint.
                self.stop_reason = str(error)
                break
            if self.usage.steps % every == 0 or self._affordable() < 1:
                points.append(self._point(checkpoint))
                progress(self.usage.of(compare.budget), points[-1])
        if not self.checkpoints and not self.stop_reason:
            raise InputError(
                f"compare.amount = {compare.amount} {compare.budget} does not pay for one step of"
                f" {self.arm.name} after its first mining"
            )
        if points[-1].usage.steps < self.usage.steps:
            points.append(self._point(checkpoint))
        return points

    def _point(self, checkpoint: Artifact) -> Point:
        """Evaluate a checkpoint, at no cost to the budget."""
        usage = replace(self.usage, seconds=dict(self.usage.seconds))  # a copy, also of the dict
        metrics = measure(self.run, checkpoint, self.items, self.inputs)
        return Point(usage=usage, checkpoint=checkpoint, metrics=metrics)

    @property
    def _round(self) -> int:
        return self.usage.steps // recipe_of(self.run.config.train).steps

    def _steps_left_in_round(self) -> int:
        """Steps until the next mining; no limit for an arm that never mines."""
        every = recipe_of(self.run.config.train).steps
        return every - self.usage.steps % every if self.arm.mines else sys.maxsize

    def _train_config(self) -> TrainConfig:
        """Training settings of the next step's round, which may be one of the warm-up rounds."""
        return self.run.config.train.after_rounds(self._round)

    def _is_mining_due(self) -> bool:
        """Whether to embed and mine now: in a new round, if the budget leaves a step after it."""
        if self._train_config().batches == "pk" or self.mining_round == self._round:
            return False
        return self.training_data is None or self._affordable(self.mining_cost) >= 1

    def _affordable(self, further_cost: float = 0.0) -> int:
        """Steps that the rest of the budget pays for, after something of `further_cost`."""
        compare, usage = self.run.config.compare, self.usage
        remaining = compare.amount - usage.of(compare.budget) - further_cost
        if compare.budget == "seconds":
            if not usage.steps:
                # The time of a step is not known yet: train up to the first evaluation.
                return compare.evaluate_every if remaining > 0 else 0
            # From the training time of a step so far; mining is paid separately.
            return max(0, int(remaining * usage.steps / usage.seconds["train"]))
        return max(0, int(remaining // (1 if compare.budget == "steps" else compare.items)))

    def _mine(self, checkpoint: Artifact) -> None:
        """Embed and mine; the arm pays for the training items, the rest is needed to evaluate."""
        usage_before = self.usage.of(self.run.config.compare.budget)
        train_count = self.items.card["splits"]["train"]["items"]
        run, items = self.run, self.items
        embeddings = self._paid(
            "embed",
            [checkpoint.digest, embedding_recipe(checkpoint, run.config.index.batch)],
            lambda: embed(run, checkpoint, items, self.inputs),
            train_count / self.inputs.rows,
        )
        self.usage.forwards += train_count
        seed, train_config = self._seed("mine"), self._train_config()
        key_parts = [embeddings.digest, seed, asdict(run.config.mining), code_hash(MINE)]
        if train_config.batches == "triplets":
            # Before the mining, which then recalls the engine: its choice has a cost of its own.
            self._paid("index", key_parts, lambda: engine_setup(run, embeddings, items, seed))

        def work() -> Artifact:
            round_run = replace(run, config=replace(run.config, train=train_config))
            artifacts = training_data(round_run, checkpoint, embeddings, items, seed, call_plain)
            return next(iter(artifacts.values()))

        # Triplets and confusable classes of the same embeddings are different results.
        self.training_data = self._paid("mine", [*key_parts, train_config.batches], work)
        self.mining_round = self._round
        self.mining_cost = self.usage.of(run.config.compare.budget) - usage_before

    def _train(self, checkpoint: Artifact, steps: int) -> Artifact:
        """Train `steps` further steps, or fewer if the triplets become stale on the way."""
        config = self.run.config
        # No save in between: resumed from there, part of the time would be unknown.
        train_config = replace(self._train_config(), steps=steps, save_every=steps)
        run = replace(self.run, config=replace(config, train=train_config))
        seed = self._seed("train")
        data = self.training_data
        if data and data.kind == "triplets":
            _check_triplets(run, data, self.arm.name)
        key_parts: list[Any] = [checkpoint.digest, data and data.digest]
        key_parts += [seed, asdict(train_config)]
        key_parts += [asdict(config.online), asdict(config.health), config.mining.margin]
        key_parts += [asdict(config.augment), code_hash(TRAIN)]
        result = self._paid(
            "train",
            key_parts,
            lambda: train(run, checkpoint, data, self.items, self.inputs, seed),
        )
        steps_trained = result.card["steps"] - checkpoint.card["steps"]
        if steps_trained < steps:  # the triplets are stale (train.refresh_when): mine again
            self.mining_round = -1
        self.checkpoints.append(result)
        self.usage.steps += steps_trained
        self.usage.forwards += steps_trained * config.compare.items
        return result

    def _seed(self, purpose: str) -> int:
        """A seed that no other stage of this run has, and the same one after a resume."""
        return int(digest([self.run.config.run.seed, purpose, self.usage.steps])[:7], 16)

    def _paid(
        self, stage: str, key_parts: list[Any], work: Callable[[], Artifact], share: float = 1.0
    ) -> Artifact:
        """Run a stage and add its seconds to the usage, as measured when it was really computed.

        Args:
            stage: One of STAGES.
            key_parts: All that the stage's own key depends on, so that result and seconds are
                recalled together or not at all.
            work: The stage; it may recall its result from the store.
            share: Share of the seconds to add.

        """
        # One receipt before the work and one after it: if a kill comes in between, the stage may
        # resume from a save, and the seconds of its first part are lost.
        key = digest(["seconds", stage, key_parts, torch.get_num_threads()])
        was_started = self.run.store.has_receipt(f"{key}-started")
        receipt = self.run.store.recall(key) if was_started else None
        if not was_started:
            self.run.store.remember(f"{key}-started", Artifact(kind="started", files=()))
        start = time.monotonic()
        artifact = work()
        seconds = time.monotonic() - start
        if receipt is None:
            card = {"seconds": seconds, "resumed": was_started}
            receipt = self.run.store.remember(key, Artifact(kind="seconds", files=(), card=card))
        self.usage.seconds[stage] += share * receipt.card["seconds"]
        self.usage.resumed |= receipt.card["resumed"]
        return artifact


def _check_triplets(run: Run, triplets: Artifact, arm: str) -> None:
    """Refuse fewer triplets than a batch takes: a round would adapt, and the arm train on less."""
    train_config = run.config.train
    count = count_triplets(run.store.paths(triplets), train_config.kinds)
    if count < train_config.batch and train_config.batches == "triplets":
        raise InputError(
            f"compare.arms.{arm}: {count} triplets of kind {' or '.join(train_config.kinds)} were"
            f" mined, and a step takes {train_config.batch}: a smaller compare.items or a larger"
            " mining.margin would help"
        )


def _with_resolved_settings(run: Run, checkpoint: Artifact) -> Run:
    """`run` with the values of [train] at "auto" for the encoder of `checkpoint`.

    Rounds are neither validated nor ended early: an arm is evaluated by the comparison, and has all
    of its budget.
    """
    train_config = resolved(run.config.train, kind_of_checkpoint(checkpoint))
    train_config = replace(train_config, val_every=0, patience=0, idle_share=0.0)
    return replace(run, config=replace(run.config, train=train_config))
