"""Training: a checkpoint and what was mined in, the next checkpoint out."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Int64
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.confusable_classes import read_neighbours
from remine.flows.stages.encoder import device, load_trained
from remine.flows.stages.features import features
from remine.flows.stages.health import advice, probe_of, put_history
from remine.mining.in_batch.miners import OnlineMiner
from remine.train.augmentation.augment import augment
from remine.train.batches.confusable_sampler import ConfusableSampler
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import encoder_bytes, load_optimizer, optimizer_bytes
from remine.train.encoders.adapter import enable_gradient_checkpointing
from remine.train.encoders.encoder import Encoder
from remine.train.loop import History, Learner, Training, make_optimizer
from remine.train.losses.softmax import check_alpha
from remine.train.monitor.health import RoundStoppedError
from remine.train.objective import Miner, Objective
from remine.train.precision import uses_bf16
from remine.train.processes import process_count

if TYPE_CHECKING:
    from remine.flows.config.settings import Config
    from remine.flows.jobs.run_context import Run
    from remine.train.augmentation.config import AugmentConfig
    from remine.train.config import TrainConfig

OBJECTIVE = "objective.safetensors"


def round_settings(run: "Run", checkpoint: Artifact) -> "TrainConfig":
    """Training settings of the round that starts from `checkpoint`: of warm-up, or as they are."""
    return run.config.train.after_rounds(checkpoint.card.get("rounds", 0))


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
    config = round_settings(run, checkpoint)
    if config.batches == "pk":
        material = None
    source = material.digest if material else items.digest
    bf16 = uses_bf16(config.precision, device())
    conditions = [
        [checkpoint.digest, source, inputs.digest, asdict(config), seed],
        [asdict(run.config.online), asdict(run.config.health), run.config.mining.margin],
        [asdict(run.config.augment), bf16, process_count(), torch.get_num_threads()],
    ]
    key = digest(["train", conditions, code_hash(__name__)])
    if artifact := run.store.recall(key):
        if artifact.kind == "failure":
            raise RoundStoppedError(artifact.card["why"])
        return artifact
    this_round = replace(run, config=replace(run.config, train=config))
    arguments = (checkpoint, material, items, features(run, checkpoint, inputs), key, seed)
    this_round.announce(this_round, arguments)
    training = make_training(this_round, *arguments)
    history = _run(this_round, training, key)
    artifact = _checkpoint(this_round, training, history, checkpoint, material)
    run.store.remember(key, artifact)
    run.store.clear_scratch(key)
    return artifact


def _run(run: "Run", training: Training, key: str) -> History:
    config = run.config.train
    with run.console.stage("train", "steps") as bar:

        def progress(step: int, loss: float, active: float) -> None:
            bar.update(step, config.steps, f"loss {loss:.4f}, active {active:.0%}")

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
    names = ("loss", "active", "steps", "round_steps", "batches", "mined", "health")
    card = {k: checkpoint.card[k] for k in names if k in checkpoint.card}
    files = tuple(f for f in checkpoint.files if f.name in ("history.json", "health.parquet"))
    return Artifact(kind="training", files=files, card=card)


def check_training(config: "Config", items: Artifact) -> None:
    """Check, before anything runs, that the training classes suffice for the settings.

    Raises:
        InputError: A batch needs more classes than there are, or alpha is too small for them.

    """
    classes = items.card["splits"]["train"]["classes"]
    if config.train.loss == "l2_softmax":
        settings = config.train.losses.l2_softmax
        check_alpha(settings.alpha, classes, settings.probability)
    for train in (config.train.after_rounds(0), config.train):
        if train.uses_pk_batches and train.batch // train.per_class > classes:
            raise InputError(
                f"train.batch = {config.train.batch} with train.per_class = {train.per_class} needs"
                f" {train.batch // train.per_class} classes in a batch; there are {classes} to"
                " train on"
            )


def _checkpoint(
    run: "Run", training: Training, history: History, parent: Artifact, material: Artifact | None
) -> Artifact:
    store = run.store
    files = [
        store.put_bytes(encoder_bytes(training.encoder), name="encoder.safetensors"),
        store.put_bytes(optimizer_bytes(training.optimizer), name="optimizer.safetensors"),
        *put_history(run, asdict(history)),
    ]
    card = {
        "encoder": parent.card["encoder"],
        "steps": parent.card["steps"] + len(history.loss),
        "round_steps": len(history.loss),
        "rounds": parent.card.get("rounds", 0) + 1,
        "parent": parent.digest,
        "batches": run.config.train.batches,
        "mined": material.digest if material else None,
        "loss": float(np.mean(history.loss[-50:])),
        "active": float(np.mean(history.active[-50:])),
    }
    if history.readings:
        card["health"] = {"first": history.readings[0], "last": history.readings[-1]}
    if history.synthetic:
        card["synthetic"] = float(np.mean(history.synthetic[-50:]))
    assert training.learner is not None
    if state := training.learner.to_bytes():
        files.append(store.put_bytes(state, name=OBJECTIVE))
        card["objective"] = _objective_card(run.config, training.labels, training.ids)
    return Artifact(kind="checkpoint", files=tuple(files), card=card)


def make_training(
    run: "Run",
    checkpoint: Artifact,
    material: Artifact | None,
    items: Artifact,
    inputs: Artifact,
    key: str,
    seed: int,
) -> Training:
    """Everything that a round of training needs, in the state that the checkpoint left.

    inputs: what the trained part of the encoder reads. key: names the folder of its saves.
    """
    store, config = run.store, run.config.train
    encoder = load_trained(store, checkpoint, run.config.base).to(device())
    if run.config.encoder.gradient_checkpointing:
        enable_gradient_checkpointing(encoder, run.config.encoder.name)
    optimizer = make_optimizer(encoder, config)
    if len(checkpoint.files) > 1:
        load_optimizer(optimizer, store.path(checkpoint.files[1]))
    catalogue, input_rows = read_catalogue(store, items), Inputs(store.paths(inputs))
    labels = training_labels(catalogue)
    objective = Objective(
        config,
        dimensions=_dimensions(encoder, input_rows),
        classes=int(labels.max()) + 1,
        items=len(labels),
        miner=online_miner(run.config),
    )
    learner = Learner(objective, config, device())
    if checkpoint.card.get("objective") == _objective_card(run.config, labels, catalogue.ids):
        path = next(file for file in checkpoint.files if file.name == OBJECTIVE)
        learner.load(store.path(path))
    return Training(
        encoder=encoder,
        optimizer=optimizer,
        loader=_batches(run, material, labels, seed),
        inputs=input_rows,
        ids=catalogue.ids,
        scratch=store.scratch(key),
        device=device(),
        learner=learner,
        labels=labels,
        augment=_augment(run.config.augment),
        bf16=uses_bf16(config.precision, device()),
        probe=probe_of(run, material, labels, catalogue.ids, seed),
    )


def _augment(config: "AugmentConfig") -> Callable[[Tensor, int], Tensor] | None:
    return (lambda pictures, seed: augment(pictures, config, seed)) if config.is_on else None


def _batches(
    run: "Run", material: Artifact | None, labels: Int64, seed: int
) -> TripletLoader | PKSampler:
    config = run.config.train
    if config.batches == "pk":
        return PKSampler(labels=labels, batch=config.batch, per_class=config.per_class, seed=seed)
    kind = "classes" if config.batches == "confusable" else "triplets"
    if material is None or material.kind != kind:
        raise ValueError(f"the round trains on {kind}, but got {material and material.kind}")
    if config.batches == "confusable":
        return ConfusableSampler(
            labels=labels,
            batch=config.batch,
            per_class=config.per_class,
            seed=seed,
            neighbours=read_neighbours(run.store, material),
            random_share=config.random_classes,
        )
    return TripletLoader(
        paths=run.store.paths(material),
        kinds=config.kinds,
        batch=config.batch,
        seed=seed,
        partners=config.synthesis == "symmetrical",
    )


def training_labels(catalogue: Catalogue) -> Int64:
    """Class numbers (n,) from 0 on of the training items; -1 for items of other splits."""
    in_train = catalogue.splits == SPLITS.index("train")
    labels = np.full(len(catalogue.ids), -1, np.int64)
    labels[in_train] = np.unique(catalogue.label_codes[in_train], return_inverse=True)[1]
    return labels


def online_miner(config: "Config") -> Miner | None:
    """The miner inside a batch that the settings name; None for the batch's own triplets."""
    train = config.train
    if train.miner == "auto":
        return None
    return OnlineMiner(
        name=train.miner,
        margin=train.margin,
        unsquared=train.has_unsquared_margin,
        config=config.online,
    )


def _objective_card(config: "Config", labels: Int64 | None, ids: Int64) -> dict[str, Any]:
    """What the state of an objective belongs to: if it differs, the parameters start anew.

    Parameters are by class number and by row, so a hash of the items and their classes is part of
    it: one class may leave while another comes, and the counts stay the same.
    """
    train = config.train
    names = ("loss", "synthesis", "memory")
    card: dict[str, Any] = {name: getattr(train, name) for name in names}
    if not train.loss.startswith("pml:"):
        card["loss_settings"] = asdict(getattr(train.losses, train.loss))
    card["pml"] = list(train.losses.pml)
    if labels is not None:
        card |= {"items": len(labels), "classes": int(labels.max()) + 1}
        card["who"] = hashlib.sha256(ids.tobytes() + labels.tobytes()).hexdigest()
    if train.synthesis != "none":
        card["synthesis_settings"] = asdict(getattr(train.generators, train.synthesis))
    return card


def _dimensions(encoder: Encoder, inputs: Inputs) -> int:
    """Dimensions of the embeddings, from one item; the encoder is in evaluation mode."""
    one = as_tensors(inputs[np.arange(1)], device())
    with torch.no_grad():
        return int(encoder(one).shape[1])
