"""Training: a checkpoint and what was mined in, the next checkpoint out."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from remine.data.errors import InputError
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact, digest
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.encoder import device
from remine.flows.stages.features import features
from remine.flows.stages.health import advice, put_history
from remine.flows.stages.rounds.making import (
    OBJECTIVE,
    OPTIMIZER,
    make_training,
    objective_card,
    training_labels,
)
from remine.flows.stages.rounds.settings import fitted, kind_of_checkpoint, round_settings
from remine.train.checkpoint import encoder_bytes, optimizer_bytes
from remine.train.history import History
from remine.train.loop import Training
from remine.train.monitor.health import RoundStoppedError
from remine.train.optimization.memory import memory_limit
from remine.train.precision import uses_bf16
from remine.train.processes import process_count
from remine.train.recipe import recipe_line, recipe_of, resolved

if TYPE_CHECKING:
    from remine.flows.jobs.run_context import Run
    from remine.train.config import TrainConfig


def train(
    run: "Run",
    checkpoint: Artifact,
    material: Artifact | None,
    items: Artifact,
    inputs: Artifact,
    seed: int,
) -> Artifact:
    """Train one round.

    Args:
        run: Settings, store, console.
        checkpoint: The encoder to start from.
        material: Triplets or confusable classes, as the round's settings ask for
            (`training_data`); not read for PK batches.
        items: Ids, labels, splits.
        inputs: What the whole encoder reads.
        seed: Decides the order of batches.

    Returns:
        The next checkpoint.

    Raises:
        RoundStoppedError: The embedding collapsed; the reason and what to change are in its text.

    """
    config = resolved(round_settings(run, checkpoint), kind_of_checkpoint(checkpoint))
    if config.batches == "pk":
        material = None
    key = _key(run, config, checkpoint, (material, items, inputs), seed)
    if artifact := run.store.recall(key):
        if artifact.kind == "failure":
            raise RoundStoppedError(artifact.card["why"])
        return artifact
    labels = training_labels(read_catalogue(run.store, items))
    fitted_config = fitted(run, checkpoint, material, labels)
    if fitted_config is None:
        return run.store.remember(key, _untrained(run, checkpoint, material, config))
    this_round = replace(run, config=replace(run.config, train=fitted_config))
    arguments = (checkpoint, material, items, features(run, checkpoint, inputs), key, seed)
    this_round.announce(this_round, arguments)
    training = make_training(this_round, *arguments)
    _say(this_round, training, checkpoint)
    history = _run(this_round, training, key, checkpoint.card["steps"])
    artifact = _checkpoint(this_round, training, history, checkpoint, material)
    run.store.remember(key, artifact)
    run.store.clear_scratch(key)
    return artifact


def _key(
    run: "Run",
    config: "TrainConfig",
    checkpoint: Artifact,
    sources: tuple[Artifact | None, Artifact, Artifact],
    seed: int,
) -> str:
    """Hash of all that decides the result. sources: what is mined, the items and the inputs."""
    material, items, inputs = sources
    uses_items = material is None or recipe_of(config).val_every
    data = [material and material.digest, items.digest if uses_items else None, inputs.digest]
    machine = [
        uses_bf16(config.precision, device()),
        process_count(),
        torch.get_num_threads(),
        memory_limit(config, device()),
    ]
    tables = [asdict(t) for t in (run.config.online, run.config.health, run.config.augment)]
    conditions = [
        [checkpoint.digest, data, asdict(config), run.config.train.epochs, seed],
        [run.config.mining.margin, run.config.run.gallery, *tables],
        machine,
    ]
    return digest(["train", conditions, code_hash(__name__)])


def _say(run: "Run", training: Training, checkpoint: Artifact) -> None:
    """Before an encoder's first round, and where the settings are others: how it is trained."""
    config = run.config.train
    if checkpoint.card.get("recipe") == asdict(recipe_of(config)):
        return
    run.console.say(f"train: {recipe_line(config, kind_of_checkpoint(checkpoint))}")
    if recipe_of(config).val_every and training.validation is None:
        run.console.say(
            "train: the split val has no class of two items: rounds are not validated and end with"
            " their last weights"
        )


def _untrained(
    run: "Run", parent: Artifact, material: Artifact | None, config: "TrainConfig"
) -> Artifact:
    """The checkpoint of a round for which nothing was mined: that of the round before.

    Raises:
        InputError: It is the first round, so that nothing at all can be learnt.

    """
    kinds = " or ".join(config.kinds)
    if not parent.card.get("rounds", 0):
        raise InputError(
            f"no triplets of kind {kinds} were mined, so that nothing can be trained on: a larger"
            " mining.margin or more train.kinds would help"
        )
    run.console.say(
        f"{run.console.round:<9} train: no triplets of kind {kinds} were mined: nothing is left to"
        " learn"
    )
    names = ("encoder.safetensors", OPTIMIZER, OBJECTIVE)
    state = tuple(file for file in parent.files if file.name in names)
    card = {key: parent.card[key] for key in ("encoder", "objective") if key in parent.card}
    card |= _place(parent, config, material, steps=0)
    card |= {"loss": 0.0, "active": 0.0, "stopped": "idle", "best_step": 0, "val": []}
    return Artifact(
        kind="checkpoint", files=(*state, *put_history(run, asdict(History()))), card=card
    )


def _place(
    parent: Artifact, config: "TrainConfig", material: Artifact | None, steps: int
) -> dict[str, Any]:
    """What a card says of where a checkpoint comes from."""
    return {
        "steps": parent.card["steps"] + steps,
        "round_steps": steps,
        "rounds": parent.card.get("rounds", 0) + 1,
        "parent": parent.digest,
        "batches": config.batches,
        "mined": material.digest if material else None,
        "recipe": asdict(recipe_of(config)),
    }


def _run(run: "Run", training: Training, key: str, steps_before: int) -> History:
    config = run.config.train
    steps = recipe_of(config).steps
    with run.console.stage("train", "steps") as bar:

        def progress(step: int, loss: float, active: float) -> None:
            bar.update(step, steps, f"loss {loss:.4f}, active {active:.0%}")
            run.trackers.log_step(steps_before + step, loss, active)

        try:
            return training.run(config, progress)
        except RoundStoppedError as error:
            # The same settings would lead to the same collapse: the next run need not train for it.
            files = tuple(put_history(run, error.history))
            reason = f"{error}; {advice(run.config)} would help"
            run.store.remember(key, Artifact(kind="failure", files=files, card={"why": reason}))
            run.store.clear_scratch(key)
            raise RoundStoppedError(reason) from None


def training_record(checkpoint: Artifact) -> Artifact:
    """How a checkpoint was trained: loss, active fraction and health, step by step."""
    names = ["loss", "active", "steps", "round_steps", "batches", "mined", "health"]
    names += ["recipe", "stopped", "best_step", "val", "val_cost"]
    card = {k: checkpoint.card[k] for k in names if k in checkpoint.card}
    files = tuple(f for f in checkpoint.files if f.name in ("history.json", "health.parquet"))
    return Artifact(kind="training", files=files, card=card)


def _checkpoint(
    run: "Run", training: Training, history: History, parent: Artifact, material: Artifact | None
) -> Artifact:
    store = run.store
    files = [
        store.put_bytes(encoder_bytes(training.encoder), name="encoder.safetensors"),
        store.put_bytes(optimizer_bytes(training.optimizer), name=OPTIMIZER),
        *put_history(run, asdict(history)),
    ]
    card = {
        "encoder": parent.card["encoder"],
        **_place(parent, run.config.train, material, len(history.loss)),
        "loss": float(np.mean(history.loss[-50:])),
        "active": float(np.mean(history.active[-50:])),
        "stopped": history.stopped,
        "best_step": history.best_step,
        "val": history.val,
    }
    if training.validation:
        card["val_cost"] = _validation_cost(training, history)
    if history.readings:
        card["health"] = {"first": history.readings[0], "last": history.readings[-1]}
    if history.synthetic:
        card["synthetic"] = float(np.mean(history.synthetic[-50:]))
    assert training.learner is not None
    if state := training.learner.to_bytes():
        files.append(store.put_bytes(state, name=OBJECTIVE))
        card["objective"] = objective_card(run.config, training.labels, training.ids)
    return Artifact(kind="checkpoint", files=tuple(files), card=card)


def _validation_cost(training: Training, history: History) -> float:
    """The share of validation in a round, in forward passes; a step has one and a backward pass.

    A backward pass counts as two forward ones.
    """
    assert training.validation is not None
    validated = len(history.val) * len(training.validation.rows)
    trained = 3 * len(history.loss) * training.batch_items
    return validated / (validated + trained)
