"""The settings of a round: by the kind of encoder, its number, and how much data there is."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from remine.data.errors import InputError
from remine.data.store.records import Artifact
from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import count_triplets
from remine.train.config import TrainConfig
from remine.train.encoders.design import Design
from remine.train.recipe import Kind, kind_of, resolved

if TYPE_CHECKING:
    from remine.flows.jobs.run_context import Run


def round_settings(run: "Run", checkpoint: Artifact) -> TrainConfig:
    """Training settings of the round that starts from `checkpoint`: of warm-up, or as they are."""
    return run.config.train.after_rounds(checkpoint.card.get("rounds", 0))


def kind_of_checkpoint(checkpoint: Artifact) -> Kind:
    """What of a checkpoint's encoder is trained."""
    design = Design.from_json(checkpoint.card["encoder"])
    return kind_of(design.config, design.content)


def fitted(
    run: "Run", checkpoint: Artifact, material: Artifact | None, labels: Int64
) -> TrainConfig | None:
    """The settings of a round with nothing left open: no "auto", no epochs, batches that fit.

    Args:
        run: Settings, store, and the console that says what is changed.
        checkpoint: The encoder, whose kind decides what is "auto".
        material: Triplets, if the round trains on them.
        labels: (n,) class numbers; -1 for items that are not trained on.

    Returns:
        The settings; None if there is no triplet to train on.

    Raises:
        InputError: There are fewer than two classes for a PK batch.

    """
    config = round_settings(run, checkpoint)
    if config.uses_pk_batches:
        count, noun = int((labels >= 0).sum()), "items"
        batch = pk_batch(config, labels)
    else:
        assert material is not None
        count, noun = count_triplets(run.store.paths(material), config.kinds), "triplets"
        batch = min(config.batch, count)
    if not batch:
        return None
    if batch < config.batch:
        run.console.say(
            f"{run.console.round:<9} train: batches of {batch} {noun} in place of train.batch ="
            f" {config.batch}: the data do not fill more"
        )
    steps = math.ceil(config.epochs * count / batch) if config.epochs else config.steps
    config = replace(config, steps=steps, batch=batch, epochs=0.0)
    return resolved(config, kind_of_checkpoint(checkpoint))


def pk_batch(config: TrainConfig, labels: Int64) -> int:
    """Items of a PK batch: those of `config`, or of all classes that have a pair if they are fewer.

    Raises:
        InputError: There are fewer than two such classes.

    """
    sampler = PKSampler(labels=labels, batch=config.batch, per_class=config.per_class, seed=0)
    classes = len(sampler.classes)
    if classes < 2:
        raise InputError(
            f"train.batches is {config.batches!r}, and {classes} training classes have"
            f" {min(2, config.per_class)} or more items: two are needed"
        )
    return min(config.batch, classes * config.per_class)
