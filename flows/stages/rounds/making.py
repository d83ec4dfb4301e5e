"""Everything that a round of training needs, in the state that a checkpoint left."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from remine.data.errors import InputError
from remine.data.items.catalogue import TRAIN, VAL, Catalogue, read_catalogue
from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors
from remine.data.store.records import Artifact
from remine.data.types import SPLITS, Embeddings, Float32, Int64
from remine.flows.stages.confusable_classes import read_neighbours
from remine.flows.stages.encoder import device, load_trained
from remine.flows.stages.health import probe_of
from remine.index.metrics import retrieval_metrics
from remine.mining.in_batch.miners import OnlineMiner
from remine.train.augmentation.augment import augment
from remine.train.batches.confusable_sampler import ConfusableSampler
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader
from remine.train.checkpoint import load_optimizer
from remine.train.encoders.adapter import enable_gradient_checkpointing
from remine.train.encoders.encoder import Encoder
from remine.train.learner import Learner
from remine.train.loop import Training
from remine.train.monitor.validation import Validation, class_sample
from remine.train.objective import Miner, Objective
from remine.train.optimization.groups import make_optimizer
from remine.train.optimization.memory import Forecast, forecast
from remine.train.optimization.modes import evaluating, set_training
from remine.train.precision import uses_bf16
from remine.train.processes import process_count
from remine.train.recipe import recipe_of

if TYPE_CHECKING:
    from remine.flows.config.settings import Config
    from remine.flows.jobs.run_context import Run
    from remine.train.augmentation.config import AugmentConfig
    from remine.train.config import TrainConfig

OBJECTIVE = "objective.safetensors"
OPTIMIZER = "optimizer.safetensors"


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
    check_processes(config)
    encoder = load_trained(store, checkpoint, run.config.base).to(device())
    if run.config.encoder.gradient_checkpointing:
        enable_gradient_checkpointing(encoder, run.config.encoder.name)
    optimizer = make_optimizer(encoder, config)
    for file in checkpoint.files:
        if file.name == OPTIMIZER:
            load_optimizer(optimizer, store.path(file))
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
    if checkpoint.card.get("objective") == objective_card(run.config, labels, catalogue.ids):
        path = next(file for file in checkpoint.files if file.name == OBJECTIVE)
        learner.load(store.path(path))
    memory = memory_of(run, encoder, input_rows)
    if not checkpoint.card.get("rounds", 0):
        run.console.say(f"train: {memory.line()}")
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
        # The same sample in all rounds, so that their scores can be compared.
        validation=validation_of(config, catalogue, run.config.run.seed, run.config.run.gallery),
        part=memory.part if memory.part < memory.batch else 0,
        batch_items=memory.batch,
        earlier_steps=checkpoint.card["steps"],
    )


def memory_of(run: "Run", encoder: Encoder, inputs: Inputs) -> Forecast:
    """The memory that a step of the round takes, and the parts into which it divides a batch."""
    config = run.config.train
    keeps_statistics = recipe_of(config).batch_statistics == "kept"
    per_triplet = 4 if config.synthesis == "symmetrical" else 3
    batch = config.batch * (1 if config.uses_pk_batches else per_triplet)
    set_training(encoder, keeps_statistics=keeps_statistics, holds_backbone=False)
    memory = forecast(encoder, inputs, batch, config, device())
    encoder.eval()
    return memory


def check_processes(config: "TrainConfig") -> None:
    """Refuse what several processes cannot do together.

    Raises:
        InputError: The settings hold the network below the head at first.

    """
    if config.unfreeze_after and process_count() > 1:
        raise InputError(
            f"train.unfreeze_after is {config.unfreeze_after}, which several processes (torchrun)"
            " cannot do: they agree on all weights that have gradients; remove it"
        )


def validation_of(
    config: "TrainConfig", catalogue: Catalogue, seed: int, gallery: str = "split"
) -> Validation | None:
    """MAP@R of a sample of val items; None if none is asked for, or no class has a pair.

    Args:
        config: The round's settings.
        catalogue: The items.
        seed: Of the sample.
        gallery: "split": val items are searched among the sample itself; "train": among as many
            training items, as in the evaluation that chooses a round.
    """
    every = recipe_of(config).val_every
    val_rows = class_sample(_codes_of(catalogue, VAL), config.val_items, seed)
    if not every or not len(val_rows):
        return None
    if gallery == "split":
        return Validation(rows=val_rows, every=every, score=_score(catalogue, val_rows, None))
    train_codes = _codes_of(catalogue, TRAIN)
    train_codes[~np.isin(train_codes, catalogue.label_codes[val_rows])] = -1
    train_rows = class_sample(train_codes, config.val_items, seed)
    if not len(train_rows):
        return None
    rows = np.concatenate([val_rows, train_rows])
    return Validation(rows=rows, every=every, score=_score(catalogue, val_rows, train_rows))


def _codes_of(catalogue: Catalogue, split: int) -> Int64:
    """The label codes (n,) of the items of one split, -1 for others."""
    return np.where(catalogue.splits == split, catalogue.label_codes, -1).astype(np.int64)


def _score(
    catalogue: Catalogue, val_rows: Int64, train_rows: Int64 | None
) -> Callable[[Float32], float]:
    """From the vectors of the val rows, and of the training rows after them, to MAP@R."""

    def embeddings(rows: Int64, vectors: Float32) -> Embeddings:
        codes = catalogue.label_codes[rows]
        return Embeddings(ids=catalogue.ids[rows], label_codes=codes, vectors=vectors)

    def score(vectors: Float32) -> float:
        val = embeddings(val_rows, vectors[: len(val_rows)])
        others = None
        if train_rows is not None:
            others = embeddings(train_rows, vectors[len(val_rows) :])
        return retrieval_metrics(val, ks=(1,), gallery=others)["map@r"]

    return score


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


def objective_card(config: "Config", labels: Int64 | None, ids: Int64) -> dict[str, Any]:
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
    with evaluating(encoder):
        return int(encoder(one).shape[1])
