"""One arm of a comparison, with one seed: train, refresh, evaluate, until the budget is spent.

Every stage is one of the cycle's, recalled from the store where it was done, so a killed comparison
goes on inside the arm that it was in. What a stage took is kept beside it, since it cannot be
measured twice.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Embeddings
from remine.flows.compare.arms import Arm
from remine.flows.cycle.cycle import call_plain
from remine.flows.jobs.run import Run
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.embed import embed, embed_now
from remine.flows.stages.embedding_recipe import embedding_recipe
from remine.flows.stages.encoder import first_checkpoint
from remine.flows.stages.mine import engine_setup
from remine.flows.stages.train import train
from remine.flows.stages.training_data import training_data
from remine.index.clustering import clustering_metrics
from remine.index.metrics import retrieval_metrics
from remine.index.roc import pair_distances, roc, verification_metrics
from remine.train.config import TrainConfig
from remine.train.monitor.health import RoundStoppedError

MEASURED = ("val", "test")
COSTS = ("embed", "index", "mine", "train")
MINE, TRAIN = "remine.flows.stages.mine", "remine.flows.stages.train"


@dataclass(kw_only=True)
class Spent:
    """What an arm has used up: steps, forwards, and seconds by stage."""

    steps: int = 0
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))
    resumed: bool = False

    def of(self, budget: str) -> float:
        """How much of a budget."""
        if budget == "seconds":
            return sum(self.seconds.values())
        return self.steps if budget == "steps" else self.forwards


@dataclass(frozen=True, kw_only=True)
class Point:
    """An evaluation: what had been spent, the checkpoint, and its metrics by split."""

    spent: Spent
    checkpoint: Artifact
    metrics: dict[str, dict[str, float]]


@dataclass(kw_only=True)
class Contestant:
    """An arm with a seed, on the way.

    trained: every checkpoint so far. mined: the last triplets or confusable classes, mined_round:
    in which round. refresh: what that cost, in the budget's unit. stopped: why it ended early.
    """

    run: Run
    arm: Arm
    items: Artifact
    inputs: Artifact
    spent: Spent = field(default_factory=Spent)
    trained: list[Artifact] = field(default_factory=list)
    mined: Artifact | None = None
    mined_round: int = -1
    refresh: float = 0.0
    stopped: str = ""

    def go(self, progress: Callable[[float, Point], None]) -> list[Point]:
        """Every evaluation, the first before any training; progress(spent, point) after each."""
        compare, every = self.run.config.compare, self.run.config.compare.evaluate_every
        checkpoint = first_checkpoint(self.run, self.items, self.inputs)
        points = [self._point(checkpoint)]
        progress(0, points[0])
        while self._affordable() >= 1:
            if self._due():
                self._refresh(checkpoint)
            steps = min(self._affordable(), every - self.spent.steps % every, self._round_left())
            if steps < 1:  # mining took the rest
                break
            try:
                checkpoint = self._train(checkpoint, steps)
            except RoundStoppedError as error:  # a result, too: the arm ends where it last was well
                self.stopped = str(error)
                break
            if self.spent.steps % every == 0 or self._affordable() < 1:
                points.append(self._point(checkpoint))
                progress(self.spent.of(compare.budget), points[-1])
        if not self.trained and not self.stopped:
            raise InputError(
                f"compare.amount = {compare.amount} {compare.budget} does not pay for one step of"
                f" {self.arm.name} after its first mining"
            )
        if points[-1].spent.steps < self.spent.steps:
            points.append(self._point(checkpoint))
        return points

    def _point(self, checkpoint: Artifact) -> Point:
        spent = replace(self.spent, seconds=dict(self.spent.seconds))
        metrics = measure(self.run, checkpoint, self.items, self.inputs)
        return Point(spent=spent, checkpoint=checkpoint, metrics=metrics)

    @property
    def _round(self) -> int:
        return self.spent.steps // self.run.config.train.steps

    def _round_left(self) -> int:
        """Steps until an arm that mines would mine again."""
        every = self.run.config.train.steps
        return every - self.spent.steps % every if self.arm.mines else sys.maxsize

    def _settings(self) -> TrainConfig:
        """Of the round that the next step belongs to: warm-up, or as they are."""
        return self.run.config.train.after_rounds(self._round)

    def _due(self) -> bool:
        """Whether to embed and mine now: a new round, and a step can be paid for after it."""
        if self._settings().batches == "pk" or self.mined_round == self._round:
            return False
        return self.mined is None or self._affordable(self.refresh) >= 1

    def _affordable(self, refresh: float = 0.0) -> int:
        """Steps that what is left of the budget pays for, after a refresh of that cost."""
        compare, spent = self.run.config.compare, self.spent
        left = compare.amount - spent.of(compare.budget) - refresh
        if compare.budget == "seconds":
            if not spent.steps:  # nothing is known yet: one evaluation's worth, at least
                return compare.evaluate_every if left > 0 else 0
            return max(0, int(left * spent.steps / spent.seconds["train"]))
        return max(0, int(left // (1 if compare.budget == "steps" else compare.items)))

    def _refresh(self, checkpoint: Artifact) -> None:
        """Embed and mine; only the training items are paid for, the others are for evaluation."""
        before = self.spent.of(self.run.config.compare.budget)
        count = self.items.card["splits"]["train"]["items"]
        run, items = self.run, self.items
        embeddings = self._paid(
            "embed",
            [checkpoint.digest, embedding_recipe(checkpoint, run.config.index.batch)],
            lambda: embed(run, checkpoint, items, self.inputs),
            count / self.inputs.rows,
        )
        self.spent.forwards += count
        seed, settings = self._seed("mine"), self._settings()
        given = [embeddings.digest, seed, asdict(run.config.mining), code_hash(MINE)]
        if settings.batches == "triplets":
            self._paid("index", given, lambda: engine_setup(run, embeddings, items, seed))

        def work() -> Artifact:
            current = replace(run, config=replace(run.config, train=settings))
            found = training_data(current, checkpoint, embeddings, items, seed, call_plain)
            return next(iter(found.values()))

        self.mined = self._paid("mine", [*given, settings.batches], work)
        self.mined_round = self._round
        self.refresh = self.spent.of(run.config.compare.budget) - before

    def _train(self, checkpoint: Artifact, steps: int) -> Artifact:
        config = self.run.config
        # Saved as a whole or not at all: half a save would leave half of its time unknown.
        part = replace(self._settings(), steps=steps, save_every=steps)
        run = replace(self.run, config=replace(config, train=part))
        seed = self._seed("train")
        given: list[Any] = [checkpoint.digest, self.mined and self.mined.digest]
        given += [seed, asdict(part)]
        given += [asdict(config.online), asdict(config.health), config.mining.margin]
        given += [asdict(config.augment), code_hash(TRAIN)]
        trained = self._paid(
            "train",
            given,
            lambda: train(run, checkpoint, self.mined, self.items, self.inputs, seed),
        )
        done = trained.card["steps"] - checkpoint.card["steps"]
        if done < steps:  # what was mined is stale (train.refresh_when): mine again
            self.mined_round = -1
        self.trained.append(trained)
        self.spent.steps += done
        self.spent.forwards += done * config.compare.items
        return trained

    def _seed(self, what: str) -> int:
        return int(digest([self.run.config.run.seed, what, self.spent.steps])[:7], 16)

    def _paid(
        self, cost: str, given: list[Any], work: Callable[[], Artifact], share: float = 1.0
    ) -> Artifact:
        """Do a stage's work and pay `share` of its seconds, as they were when it really ran.

        given: all that the stage's own key depends on, so that both are recalled or neither.
        """
        key = digest(["seconds", cost, given, torch.get_num_threads()])
        started = self.run.store.has_receipt(f"{key}-started")
        paid = self.run.store.recall(key) if started else None
        if not started:
            self.run.store.remember(f"{key}-started", Artifact(kind="started", files=()))
        start = time.monotonic()
        artifact = work()
        seconds = time.monotonic() - start
        if paid is None:
            card = {"seconds": seconds, "resumed": started}
            paid = self.run.store.remember(key, Artifact(kind="seconds", files=(), card=card))
        self.spent.seconds[cost] += share * paid.card["seconds"]
        self.spent.resumed |= paid.card["resumed"]
        return artifact


def measure(
    run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact
) -> dict[str, dict[str, float]]:
    """Retrieval among the val items and among the test items."""

    def work(found: dict[str, Embeddings]) -> dict[str, Any]:
        queries = run.config.index.queries
        return {name: retrieval_metrics(part, queries=queries) for name, part in found.items()}

    given = [run.config.index.queries, run.config.index.batch]
    return _remembered(run, "measure", checkpoint, items, inputs, given, work)


def measure_fully(
    run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact
) -> dict[str, Any]:
    """What takes longer, of the test items: clustering, verification by val's threshold, a ROC."""

    def work(found: dict[str, Embeddings]) -> dict[str, Any]:
        pairs = {name: pair_distances(part) for name, part in found.items()}
        far, tar = roc(pairs["test"])
        metrics = clustering_metrics(found["test"])
        metrics |= verification_metrics(pairs["test"], pairs["val"])
        return {"metrics": metrics, "far": far.tolist(), "tar": tar.tolist()}

    return _remembered(run, "measure fully", checkpoint, items, inputs, [], work)


def embeddings_of(
    run: Run, checkpoint: Artifact, found: Catalogue, inputs: Artifact, split: str
) -> Embeddings:
    """The embeddings of one split's items, made here and now."""
    rows = np.flatnonzero(found.splits == SPLITS.index(split))
    vectors = embed_now(run, checkpoint, inputs, rows)
    return Embeddings(ids=found.ids[rows], label_codes=found.label_codes[rows], vectors=vectors)


def check_splits(items: Artifact) -> None:
    """Refuse items of which val or test cannot be measured."""
    if not items.card["splits"]["val"]["classes"]:
        raise InputError(
            "no val classes: a comparison chooses checkpoints, arms and thresholds on val;"
            " set data.val_from_train = 0.1, or data.val_share where the data names no splits"
        )


def _remembered(
    run: Run,
    what: str,
    checkpoint: Artifact,
    items: Artifact,
    inputs: Artifact,
    given: list[Any],
    work: Callable[[dict[str, Embeddings]], dict[str, Any]],
) -> dict[str, Any]:
    weights = [checkpoint.card["encoder"], checkpoint.files[0].sha256]
    key = digest([what, weights, items.digest, inputs.digest, given, code_hash(__name__)])
    if found := run.store.recall(key):
        return json.loads(run.store.path(found.files[0]).read_bytes())  # type: ignore[no-any-return]
    catalogue = read_catalogue(run.store, items)
    parts = {name: embeddings_of(run, checkpoint, catalogue, inputs, name) for name in MEASURED}
    result = work(parts)
    file = run.store.put_bytes(json.dumps(result).encode(), name="metrics.json")
    run.store.remember(key, Artifact(kind="metrics", files=(file,)))
    return result
