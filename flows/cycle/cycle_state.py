"""The artifacts of a cycle as it goes on: what each round computes, in its two halves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from remine.data.errors import InputError
from remine.data.store.pins import CHOICE
from remine.data.store.records import Artifact, Version
from remine.flows.cycle.round_choice import choose_round, rounds_without_gain
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.trackers import open_trackers
from remine.flows.stages.embed import embed
from remine.flows.stages.encoder import first_checkpoint, fits
from remine.flows.stages.evaluate import evaluate
from remine.flows.stages.features import features
from remine.flows.stages.health import overlap
from remine.flows.stages.index import build
from remine.flows.stages.reuse import EarlierOutput
from remine.flows.stages.train import train, training_record
from remine.flows.stages.training_data import StageCall, training_data

COLLAPSE_SPREAD = 1e-6
"""Smallest mean squared distance of two items. Rounding in float32 alone moves it by about 1e-7."""


@dataclass
class CycleState:
    """The artifacts of a cycle as it goes on.

    base: the version of the cycle before that was served. records: artifacts of all rounds so far,
    by the names that versions give them. rounds: the metrics of all rounds so far.
    """

    run: Run
    call: StageCall
    base: Version | None
    items: Artifact
    inputs: Artifact
    records: dict[str, Artifact]
    checkpoint: Artifact | None = None
    embeddings: Artifact | None = None
    index: Artifact | None = None
    rounds: list[Artifact] = field(default_factory=list)

    def start(self) -> None:
        """Choose the checkpoint, and compute the features if its backbone is frozen."""
        self.checkpoint = _start(self.run, self.base, self.items, self.inputs)
        if self.run.config.encoder.frozen:
            earlier = EarlierOutput.of(self.base.artifacts, "features") if self.base else None
            self.records["features"] = self.call(
                features, self.run, self.checkpoint, self.inputs, self.items, earlier
            )

    @contextmanager
    def tracked(self, cycle: int) -> Iterator[None]:
        """Send the curves of the cycle to its trackers while the context lasts."""
        assert self.checkpoint is not None
        config, steps = self.run.config, self.checkpoint.card["steps"]
        trackers = open_trackers(config.track, self.run.store.root, cycle, steps, config.to_json())
        self.run = replace(self.run, trackers=trackers)
        try:
            yield
        finally:
            trackers.close()

    def embed_and_evaluate(self, number: int) -> None:
        """The first half of a round, which ends in a version."""
        run, base = self.run, self.base if number == 0 else None
        earlier = EarlierOutput.of(base.artifacts) if base else None
        embeddings = self.call(embed, run, self.checkpoint, self.items, self.inputs, earlier)
        if self.embeddings:
            record = self.call(overlap, run, self.embeddings, embeddings)
            self.records[f"health/round={number}"] = record
        self.embeddings = embeddings
        self.index = self.call(build, run, embeddings, base)
        metrics = self.call(evaluate, run, embeddings, self.items)
        _check_spread(metrics)
        self.records[f"metrics/round={number}"] = metrics
        self.rounds.append(metrics)
        assert self.checkpoint is not None
        run.trackers.log_metrics(metrics.card, self.checkpoint.card["steps"], number)
        settings = run.config.run
        self.records[CHOICE] = choose_round(
            run.store, settings.publish, settings.select, embeddings, self.rounds
        )

    def reason_to_end(self, number: int) -> str:
        """Why the cycle ends with round `number` although more were asked for; else empty."""
        settings = self.run.config.run
        if not settings.patience or number >= settings.rounds:
            return ""
        end = f"the cycle ends after round {number} of {settings.rounds}"
        assert self.checkpoint is not None
        if number and self.checkpoint.card.get("best_step") == 0:
            return f"{end}: no step of the last round made the model better on val"
        stale_rounds = rounds_without_gain(self.records[CHOICE])
        if stale_rounds < settings.patience:
            return ""
        return f"{end}: none of the last {stale_rounds} was better on val (run.patience)"

    def mine_and_train(self, number: int, seed: int) -> None:
        """The second half of a round, which ends in a checkpoint."""
        assert self.checkpoint is not None
        assert self.embeddings is not None
        mining = training_data(
            self.run, self.checkpoint, self.embeddings, self.items, seed, self.call
        )
        self.records |= {f"{name}/round={number}": artifact for name, artifact in mining.items()}
        material = next(iter(mining.values()), None)
        self.checkpoint = self.call(
            train, self.run, self.checkpoint, material, self.items, self.inputs, seed
        )
        self.records[f"training/round={number}"] = training_record(self.checkpoint)

    def artifacts(self) -> dict[str, Artifact]:
        """Everything that a version holds."""
        assert self.checkpoint is not None
        assert self.embeddings is not None
        assert self.index is not None
        return {
            "items": self.items,
            "inputs": self.inputs,
            "checkpoint": self.checkpoint,
            "embeddings": self.embeddings,
            "index": self.index,
            **self.records,
        }


def _check_spread(metrics: Artifact) -> None:
    """Refuse to publish embeddings in which nothing can be searched or mined."""
    if metrics.card["spread"] < COLLAPSE_SPREAD:
        raise InputError(
            "the encoder gives all items nearly the same embedding (their mean squared distance is"
            f" {metrics.card['spread']:.1e}): change [encoder]; the served version is unchanged"
        )


def _start(run: Run, base: Version | None, items: Artifact, inputs: Artifact) -> Artifact:
    """The checkpoint that the last cycle served, or a fresh encoder if there is none that fits."""
    if base:
        checkpoint = base.artifacts["checkpoint"]
        if fits(run, checkpoint, items, inputs):
            return checkpoint
        run.console.say("the encoder or its inputs changed: starting from a fresh encoder")
    return first_checkpoint(run, items, inputs)
